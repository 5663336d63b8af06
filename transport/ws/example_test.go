package ws_test

import (
	"context"
	"fmt"
	"io"

	"github.com/anysock/anysock"
	_ "github.com/anysock/anysock/transport/ws"
)

// A stream over a WebSocket: the peer reads end of file when the close frame
// has come, and Disconnect waits for its answer.
func Example() {
	ctx := context.Background()
	ln, err := anysock.Listen(ctx, "ws://127.0.0.1:0/chat?origin=https://app.example")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer ln.Close()
	go func() {
		c, err := anysock.Dial(ctx, "ws://"+ln.Addr().String()+"/chat")
		if err != nil {
			fmt.Println(err)
			return
		}
		_, _ = c.Write([]byte("hello"))
		_, _ = c.Disconnect(ctx)
	}()
	c, err := ln.AcceptContext(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	text, err := io.ReadAll(c)
	fmt.Printf("%s, %v\n", text, err)
	end, err := c.Disconnect(ctx)
	fmt.Println(end.How, err)
	// Output:
	// hello, <nil>
	// graceful <nil>
}
