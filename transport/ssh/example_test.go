package ssh_test

import (
	"context"
	"fmt"
	"log"

	"github.com/anysock/anysock"
	_ "github.com/anysock/anysock/transport/ssh"
)

// A database that only the bastion can reach. The host key is checked against
// known_hosts, and the user's agent and keys are offered.
func Example_hop() {
	ctx := context.Background()
	c, err := anysock.Dial(ctx, "ssh://ops@bastion.example:22,tcp://db.internal:5432")
	if err != nil {
		log.Print(err)
		return
	}
	fmt.Fprintln(c, "hello")
	end, err := c.Disconnect(ctx)
	log.Print(end, err)
}

// A server that its clients reach by "ssh -W any:1 -p 2222 HOST", or through
// "ssh -N -L 5432:any:1 -p 2222 HOST".
func Example_listener() {
	ctx := context.Background()
	l, err := anysock.Listen(ctx, "ssh://:2222?hostkey=file:/etc/app/host_key&authorized=file:/etc/app/authorized_keys")
	if err != nil {
		log.Print(err)
		return
	}
	for c, err := range l.Conns(ctx) {
		if err != nil {
			log.Print(err)
			return
		}
		log.Print("asked for ", c.LocalAddr()) // what the client has named
		go func() { _ = anysock.ServeEcho(ctx, c) }()
	}
}
