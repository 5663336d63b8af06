package loop_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"strings"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/loop"
)

// A server as callbacks: what comes goes back, and when the peer ends, so does
// the server, behind everything.
func Example_callbacks() {
	ctx := context.Background()
	ended := make(chan anysock.End, 1)
	srv := loop.Server{Handler: loop.Handler{
		Data: func(c *loop.Conn, p []byte) {
			if _, err := c.Write(p); errors.Is(err, loop.ErrFull) {
				c.Close() // it sends and does not read
			}
		},
		Ended: func(_ *loop.Conn, end anysock.End) { ended <- end },
	}}
	lns, err := srv.Listen(ctx, "tcp://127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	served := make(chan error, 1)
	addr := "tcp://" + lns[0].Addr().String()
	go func() { served <- srv.Serve(ctx, lns...) }()

	c, err := anysock.Dial(ctx, addr)
	if err != nil {
		log.Fatal(err)
	}
	if _, err := io.WriteString(c, "hello"); err != nil {
		log.Fatal(err)
	}
	if err := c.CloseWrite(); err != nil {
		log.Fatal(err)
	}
	answer, err := io.ReadAll(c)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("the answer: %s\n", answer)
	if _, err := c.Disconnect(ctx); err != nil {
		log.Fatal(err)
	}
	fmt.Println("the server:", (<-ended).How)

	if _, err := srv.Shutdown(ctx); err != nil {
		log.Fatal(err)
	}
	fmt.Println("served:", <-served)
	// Output:
	// the answer: hello
	// the server: graceful
	// served: <nil>
}

// A line server as a coroutine: code that reads and writes as if it blocked. A
// Stream is an io.ReadWriter, so what the standard library has for those works.
func Example_coroutine() {
	ctx := context.Background()
	srv := loop.Server{Handler: loop.Handler{
		Serve: func(s *loop.Stream) error {
			lines := bufio.NewScanner(s)
			for lines.Scan() {
				if lines.Text() == "quit" {
					break
				}
				if _, err := fmt.Fprintln(s, strings.ToUpper(lines.Text())); err != nil {
					return err
				}
			}
			return lines.Err() // nil closes in order
		},
	}}
	lns, err := srv.Listen(ctx, "tcp://127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	served := make(chan error, 1)
	addr := "tcp://" + lns[0].Addr().String()
	go func() { served <- srv.Serve(ctx, lns...) }()

	c, err := anysock.Dial(ctx, addr)
	if err != nil {
		log.Fatal(err)
	}
	if _, err := io.WriteString(c, "one\ntwo\nquit\n"); err != nil {
		log.Fatal(err)
	}
	answer, err := io.ReadAll(c)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Print(string(answer))
	end, err := c.Disconnect(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("the client:", end.How)

	if _, err := srv.Shutdown(ctx); err != nil {
		log.Fatal(err)
	}
	fmt.Println("served:", <-served)
	// Output:
	// ONE
	// TWO
	// the client: graceful
	// served: <nil>
}
