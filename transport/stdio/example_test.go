//go:build unix

package stdio_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/anysock/anysock"
	_ "github.com/anysock/anysock/transport/stdio"
)

// A filter: its answer comes when its input has ended, and its exit status is
// part of the ending.
func Example() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	c, err := anysock.Dial(ctx, "exec:/usr/bin/sort?arg=-u")
	if err != nil {
		fmt.Println(err)
		return
	}
	if _, err := io.WriteString(c, "b\na\nb\n"); err != nil {
		fmt.Println(err)
		return
	}
	if err := c.CloseWrite(); err != nil {
		fmt.Println(err)
		return
	}
	if _, err := io.Copy(os.Stdout, c); err != nil {
		fmt.Println(err)
		return
	}
	end, err := c.Disconnect(ctx)
	fmt.Println(end.How, err)
	// Output:
	// a
	// b
	// graceful <nil>
}
