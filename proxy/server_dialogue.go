// This file holds what the server's protocols have in common: a request that
// was read, and the two kinds of answer.

package proxy

import (
	"context"

	"github.com/anysock/anysock"
)

// A request is what a client asks for, in any of the protocols.
type request struct {
	command command
	target  endpoint // BIND: who may call
	user    string   // who the client has proved to be; "" is nobody
	claimed string   // who it says it is, without a proof
}

// A Reply is what the client was told.
type Reply struct {
	Code int    `json:"code"` // of the protocol: 0 is SOCKS5's success, 90 SOCKS4's, 200 HTTP's
	Text string `json:"text"` // the protocol's words for it
}

// A dialogue is one protocol's way to be asked and to answer. It remembers how
// far it has come, because the form of a refusal depends on that.
type dialogue interface {
	// protocol is its name in records.
	protocol() string
	// read reads the request and has the client log in. A *refusal as the
	// error is what to answer; any other error is the connection's.
	read(ctx context.Context, c *anysock.Conn, login login) (request, error)
	// grant is the answer to a request that was granted, with the address the
	// server has bound for it.
	grant(bound endpoint) ([]byte, Reply)
	// refuse is the answer to one that was not.
	refuse(no *refusal) ([]byte, Reply)
}

// A login checks who clients say they are; nil lets everybody in.
type login func(ctx context.Context, user, pass string) (bool, error)
