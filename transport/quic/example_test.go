package quic_test

import (
	"context"
	"fmt"
	"io"
	"log"

	"github.com/anysock/anysock"
	_ "github.com/anysock/anysock/transport/quic"
)

// A request and its reply. The certificate is verified by a private authority.
func Example() {
	ctx := context.Background()
	c, err := anysock.Dial(ctx, "quic://db.example:4433?ca=file:/etc/ca.pem")
	if err != nil {
		log.Print(err)
		return
	}
	defer c.Close()
	if _, err := io.WriteString(c, "request"); err != nil {
		log.Print(err)
		return
	}
	if err := c.CloseWrite(); err != nil { // the server reads end of file, and may still answer
		log.Print(err)
		return
	}
	reply, err := io.ReadAll(c)
	if err != nil {
		log.Print(err)
		return
	}
	end, err := c.Disconnect(ctx) // graceful: the server has everything, whatever becomes of us now
	fmt.Println(len(reply), end, err)
}
