package anysock_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"time"

	"github.com/anysock/anysock"
)

// The classical connection-oriented session, step by step: the server creates
// a socket, lets the address be reused, binds the dual-stack wildcard, listens
// and accepts; the client binds a port of its choice, connects by name, sends,
// waits, receives and disconnects.
func ExampleSocket() {
	ctx := context.Background()
	server, err := anysock.NewSocket("tcp")
	check(err)
	check(server.SetReuseAddr(true))
	check(server.Bind("[::]:0")) // a port such as :3005 in a real server
	ln, err := server.Listen(10)
	check(err)
	go func() {
		c, err := ln.AcceptContext(ctx)
		check(err)
		_ = anysock.ServeEcho(ctx, c)
	}()

	client, err := anysock.NewSocket("tcp")
	check(err)
	check(client.Bind("[::]:0")) // port 0: only the network is chosen
	_, port, _ := strings.Cut(ln.Addr().String(), "]:")
	c, err := client.Connect(ctx, "localhost:"+port)
	check(err)
	n, err := c.Write(make([]byte, 250))
	fmt.Println("sent", n, err)

	wctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	ready, err := c.Wait(wctx, anysock.Readable, 250)
	fmt.Println(ready, err)
	n, err = c.ReadAtLeast(ctx, make([]byte, 250), 250)
	fmt.Println("received", n, err)

	end, err := c.Disconnect(ctx)
	fmt.Println(end.How, err)
	check(ln.Close())
	// Output:
	// sent 250 <nil>
	// readable <nil>
	// received 250 <nil>
	// graceful <nil>
}

// A wrong order is an error that says what is missing.
func ExampleSocket_wrongOrder() {
	s, err := anysock.NewSocket("tcp")
	check(err)
	defer s.Close()
	_, err = s.Listen(10)
	fmt.Println(err)
	var e *anysock.Error
	fmt.Println(errors.As(err, &e) && e.Kind == anysock.KindState)
	// Output:
	// listen tcp: the socket has no name yet: call Bind first
	// true
}

// net/http dials through a Dialer, which may go over any hops.
func ExampleDialer_DialContext() {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "hello from ", r.URL.Path)
	}))
	defer server.Close()

	d := &anysock.Dialer{Options: anysock.Options{LostAfter: 20 * time.Second}}
	transport := &http.Transport{DialContext: d.DialContext}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	resp, err := client.Get(server.URL + "/anysock")
	check(err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	fmt.Println(string(body), err)
	// Output: hello from /anysock <nil>
}

// An http.Server serves a Listener. Shutdown waits for the requests, the
// Group's Wait for the connections' disconnects.
func ExampleListener() {
	ctx := context.Background()
	var group anysock.Group
	lc := anysock.ListenConfig{MaxConns: 100, Group: &group}
	ln, err := lc.Listen(ctx, "tcp://127.0.0.1:0")
	check(err)
	server := &http.Server{Handler: http.NotFoundHandler(), ReadHeaderTimeout: 10 * time.Second}
	served := make(chan error)
	go func() { served <- server.Serve(ln) }()

	transport := new(http.Transport)
	client := &http.Client{Transport: transport}
	resp, err := client.Get("http://" + ln.Addr().String())
	check(err)
	resp.Body.Close()
	fmt.Println(resp.Status)

	transport.CloseIdleConnections()
	check(server.Shutdown(ctx))
	fmt.Println(<-served)
	_, err = group.Wait(ctx)
	fmt.Println(err)
	// Output:
	// 404 Not Found
	// http: Server closed
	// <nil>
}

// slog takes a trace: one record per step.
func ExampleTrace() {
	log := slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{
		ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
			switch a.Key { // what differs from run to run
			case slog.TimeKey, "took", "socket", "local", "end":
				return slog.Attr{}
			}
			return a
		},
	}))
	d := &anysock.Dialer{Trace: func(ev anysock.Event) { log.Info(ev.Op, "step", ev) }}
	ctx := context.Background()
	c, err := d.Dial(ctx, "discard:")
	check(err)
	_, err = c.Write(make([]byte, 250))
	check(err)
	_, err = c.Disconnect(ctx)
	check(err)
	// Output:
	// level=INFO msg=connect step.network=discard step.peer=in-process step.state=connected
	// level=INFO msg=write step.network=discard step.peer=in-process step.bytes=250 step.state=connected
	// level=INFO msg=shutdown step.network=discard step.peer=in-process step.detail=write step.state=disconnecting
	// level=INFO msg=disconnect step.network=discard step.peer=in-process step.state=disconnecting
	// level=INFO msg=end step.network=discard step.peer=in-process step.state=closed
}

// Conns accepts until its context is done or the listener is closed.
func ExampleListener_Conns() {
	ctx := context.Background()
	ln, err := anysock.Listen(ctx, "mem:example")
	check(err)
	go func() {
		c, err := anysock.Dial(ctx, "mem:example")
		check(err)
		fmt.Fprint(c, "one message")
		check(c.Close()) // what was written arrives: see Wait
	}()
	for c, err := range ln.Conns(ctx) {
		check(err)
		b, err := io.ReadAll(c)
		fmt.Printf("%s, %v\n", b, err)
		end, _ := c.Disconnect(ctx)
		fmt.Println(end.How, "by", end.By)
		check(ln.Close())
	}
	// Output:
	// one message, <nil>
	// graceful by peer
}

// Wrap gives the lifecycle to any net.Conn, as far as that can carry it.
func ExampleWrap() {
	a, b := net.Pipe() // has no half-close
	go func() {
		_, _ = io.Copy(io.Discard, b)
		b.Close()
	}()
	c := anysock.Wrap(a, anysock.Options{})
	fmt.Println(c.Caps())
	fmt.Println(errors.Is(c.CloseWrite(), errors.ErrUnsupported))
	_, err := c.Write([]byte("as it can"))
	check(err)
	end, err := c.Disconnect(context.Background())
	fmt.Println(end.How, "acknowledged by", end.AckedBy, err)
	// Output:
	// deadline
	// true
	// delivered acknowledged by none <nil>
}

// check keeps the examples short.
func check(err error) {
	if err != nil {
		panic(err)
	}
}
