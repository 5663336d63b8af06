package lifecycle_test

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/lifecycle"
)

// A server that refuses to go on says why, and the client can tell that from
// an end, over a carrier that has neither resets nor codes.
func Example() {
	ctx := context.Background()
	ln, err := anysock.Listen(ctx, "lc+unix:@lifecycle-example")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer ln.Close()
	const overQuota = lifecycle.CodeProgram + 1
	served := make(chan error)
	go func() {
		c, err := ln.AcceptContext(ctx)
		if err == nil {
			_, _ = c.Write([]byte("half of the"))
			err = c.AbortAs(anysock.AbortedByUs, &lifecycle.AbortError{Code: overQuota, Reason: "over quota"})
		}
		served <- err
	}()

	c, err := anysock.Dial(ctx, "lc+unix:@lifecycle-example")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()
	got, err := io.ReadAll(c)
	var why *lifecycle.AbortError
	if errors.As(err, &why) {
		fmt.Printf("%q, then: %s (our server's code: %t)\n", got, why, why.Code == overQuota)
	}
	if err := <-served; err != nil {
		fmt.Println(err)
	}
	// Output: "half of the", then: the peer aborted: code 4097: "over quota" (our server's code: true)
}
