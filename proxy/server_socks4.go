// This file is the server's side of SOCKS4 and SOCKS4a.

package proxy

import (
	"context"

	"github.com/anysock/anysock"
)

type dialogue4 struct{ named bool }

func (d *dialogue4) protocol() string {
	if d.named {
		return "socks4a"
	}
	return "socks4"
}

func (d *dialogue4) read(ctx context.Context, c *anysock.Conn, login login) (request, error) {
	var r request
	var err error
	r.command, r.target, r.claimed, err = readRequest4(connSource{ctx, c})
	d.named = r.target.name != ""
	switch {
	case err != nil:
		return r, requestError(err)
	case login != nil:
		// The protocol has a name and no password. A name alone proves nothing.
		return r, refuse(becauseLogin, "a password is required, and SOCKS4 has none")
	}
	return r, nil
}

func (d *dialogue4) grant(bound endpoint) ([]byte, Reply) {
	return appendReply4(nil, reply4Granted, bound), Reply{int(reply4Granted), reply4Granted.String()}
}

func (d *dialogue4) refuse(no *refusal) ([]byte, Reply) {
	code := answers[no.why].four
	return appendReply4(nil, code, endpoint{}), Reply{int(code), code.String()}
}
