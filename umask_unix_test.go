//go:build unix

package anysock_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/internal/testproc"
)

func setUmask(mask int) (restore func()) {
	old := syscall.Umask(mask)
	return func() { syscall.Umask(old) }
}

func init() {
	// unix-racer says "ready", and on a line of input tries to listen; on
	// another it ends.
	testproc.Role("unix-racer", func() int {
		in := bufio.NewScanner(os.Stdin)
		fmt.Println("ready")
		in.Scan()
		ln, err := anysock.Listen(context.Background(), os.Getenv("LISTEN"))
		var e *anysock.Error
		switch {
		case err == nil:
			fmt.Println("listening")
		case errors.As(err, &e):
			fmt.Println(e.Kind)
		}
		in.Scan()
		if err == nil {
			err = ln.Close()
			if err != nil {
				fmt.Println(err)
			}
		}
		fmt.Println("bye")
		return 0
	})
}
