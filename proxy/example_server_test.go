package proxy_test

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/proxy"
)

func ExampleServer() {
	ln, err := anysock.Listen(context.Background(), "tcp://127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer ln.Close()
	echoes, err := anysock.Listen(context.Background(), "tcp://127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer echoes.Close()
	go func() {
		if c, err := echoes.AcceptContext(context.Background()); err == nil {
			_ = anysock.ServeEcho(context.Background(), c)
		}
	}()

	var s proxy.Server
	records := make(chan proxy.Record, 1)
	s.OnEnd = func(r proxy.Record) { records <- r }
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- s.Serve(ctx, ln) }()

	c, err := anysock.Dial(context.Background(), "socks5://"+ln.Addr().String()+",tcp://"+echoes.Addr().String())
	if err == nil {
		fmt.Fprint(c, "hello")
		_ = c.CloseWrite()
		reply, _ := io.ReadAll(c)
		fmt.Printf("%s\n", reply)
		_, err = c.Disconnect(context.Background())
	}
	if err != nil {
		fmt.Println(err)
	}

	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		fmt.Println(err)
	}
	_, _ = s.Shutdown(context.Background())
	r := <-records
	fmt.Println(r.Protocol, r.Command, r.How)
	// Output:
	// hello
	// socks5 CONNECT graceful
}
