package tls_test

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/anysock/anysock"
	_ "github.com/anysock/anysock/transport/tls" // registers tls
)

// A client that asks, ends, and takes the whole answer: io.EOF is the server's
// close_notify, and a connection that was cut is an error.
func Example() {
	ctx := context.Background()
	c, err := anysock.Dial(ctx, "tls://db.example:5432?ca=file:/etc/ssl/db-ca.pem&min=1.3")
	if err != nil {
		fmt.Println(err) // KindAuth and a hint if the certificate is not right
		return
	}
	defer c.Close()
	if _, err := io.WriteString(c, "question\n"); err != nil {
		fmt.Println(err)
		return
	}
	if err := c.CloseWrite(); err != nil {
		fmt.Println(err)
		return
	}
	if _, err := io.Copy(os.Stdout, c); err != nil {
		fmt.Println("the answer may be incomplete:", err)
	}
}
