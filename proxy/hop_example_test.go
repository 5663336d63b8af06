package proxy_test

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/proxy"
)

// A hop is a part of the address. What a proxy says when it refuses is in the
// error.
func Example() {
	ctx := context.Background()
	server := &proxy.Server{}
	ln, err := anysock.Listen(ctx, "tcp://127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	go func() { _ = server.Serve(ctx, ln) }()
	defer func() { _, _ = server.Shutdown(ctx) }()

	echo, err := anysock.Listen(ctx, "tcp://127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	go func() {
		if c, err := echo.AcceptContext(ctx); err == nil {
			_ = anysock.ServeEcho(ctx, c)
		}
	}()
	target := "socks5://" + ln.Addr().String() + ",tcp://" + echo.Addr().String()
	c, err := anysock.Dial(ctx, target)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Fprint(c, "hello")
	_ = c.CloseWrite()
	reply, err := io.ReadAll(c)
	fmt.Println(string(reply), err)
	_, _ = c.Disconnect(ctx)
	echo.Close()

	_, err = anysock.Dial(ctx, target)
	var refused *proxy.RefusalError
	if errors.As(err, &refused) {
		fmt.Printf("%s: %v\n", refused.Kind, refused)
	}
	// Output:
	// hello <nil>
	// refused: the proxy says: connection refused (reply 5)
}
