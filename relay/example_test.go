package relay_test

import (
	"context"
	"fmt"
	"io"
	"log"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/relay"
)

// A relay between a tcp port and an echo server in this process. The client
// half-closes after its request, and the reply still arrives.
func Example() {
	ctx := context.Background()
	ln, err := anysock.Listen(ctx, "tcp://127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	target, err := anysock.ParseAddress("echo:")
	if err != nil {
		log.Fatal(err)
	}
	records := make(chan relay.Record, 1)
	r := relay.Relay{Target: target, OnEnd: func(rec relay.Record) { records <- rec }}
	served := make(chan error)
	go func() { served <- r.Serve(ctx, ln) }()

	c, err := anysock.Dial(ctx, "tcp://"+ln.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Fprint(c, "hello")
	c.CloseWrite()
	reply, err := io.ReadAll(c)
	fmt.Printf("%s %v\n", reply, err)
	if _, err := c.Disconnect(ctx); err != nil {
		log.Fatal(err)
	}
	drained, err := r.Shutdown(ctx)
	fmt.Println(drained.Cut, err, <-served)
	rec := <-records
	fmt.Println(rec.How, rec.By, rec.ToOutbound.Bytes, rec.ToInbound.Bytes)
	// Output:
	// hello <nil>
	// 0 <nil> <nil>
	// graceful inbound 5 5
}

// A server that joins what it accepts with a connection it has made itself.
func ExampleJoin() {
	ctx := context.Background()
	ln, err := anysock.Listen(ctx, "mem:example-join")
	if err != nil {
		log.Fatal(err)
	}
	go func() {
		c, err := anysock.Dial(ctx, "mem:example-join")
		if err != nil {
			log.Fatal(err)
		}
		fmt.Fprint(c, "the first half of a mess")
		c.Abort()
	}()
	inbound, err := ln.AcceptContext(ctx)
	if err != nil {
		log.Fatal(err)
	}
	outbound, err := anysock.Dial(ctx, "discard:")
	if err != nil {
		log.Fatal(err)
	}
	ln.Close()
	rec := relay.Join(ctx, inbound, outbound, relay.Options{})
	fmt.Println(rec.How, rec.By)
	// Output: aborted by peer inbound
}
