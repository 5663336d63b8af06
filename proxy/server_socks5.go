// This file is the server's side of SOCKS5 (RFC 1928, RFC 1929).

package proxy

import (
	"context"
	"errors"
	"slices"

	"github.com/anysock/anysock"
)

// A stage5 is how far a SOCKS5 dialogue has come.
type stage5 int

const (
	stageGreeting stage5 = iota // the client offers methods
	stagePassword               // it was asked for a password
	stageRequest
)

type dialogue5 struct{ stage stage5 }

func (d *dialogue5) protocol() string { return "socks5" }

// errLogin is a user or a password that is not right; which of them is not
// for the client to know.
var errLogin = errors.New("no such user, or a wrong password")

func (d *dialogue5) read(ctx context.Context, c *anysock.Conn, login login) (request, error) {
	src := connSource{ctx, c}
	var r request
	offered, err := readGreeting5(src)
	if err != nil {
		return r, requestError(err)
	}
	want := methodNone
	if login != nil {
		want = methodPassword
	}
	if !slices.Contains(offered, want) {
		return r, refuse(becauseLogin, "the client offers the methods %v, and not %q", offered, want)
	}
	if _, err := c.WriteContext(ctx, appendMethod5(nil, want)); err != nil {
		return r, err
	}
	if login != nil {
		d.stage = stagePassword
		user, pass, err := readPassword(src)
		if err != nil {
			return r, requestError(err)
		}
		r.claimed = user
		if ok, err := login(ctx, user, pass); err != nil {
			return r, err
		} else if !ok {
			return r, &refusal{becauseLogin, errLogin}
		}
		if _, err := c.WriteContext(ctx, appendPasswordStatus(nil, statusPasswordGood)); err != nil {
			return r, err
		}
		r.user, r.claimed = user, ""
	}
	d.stage = stageRequest
	r.command, r.target, err = readRequest5(src)
	if err != nil {
		return r, requestError(err)
	}
	return r, nil
}

func (d *dialogue5) grant(bound endpoint) ([]byte, Reply) {
	return appendReply5(nil, replySucceeded, bound), Reply{int(replySucceeded), replySucceeded.String()}
}

// passwordRefused is any status but 0 (RFC 1929 section 2).
const passwordRefused = 1

func (d *dialogue5) refuse(no *refusal) ([]byte, Reply) {
	switch d.stage {
	case stageGreeting:
		return appendMethod5(nil, methodRefused), Reply{int(methodRefused), "no acceptable methods"}
	case stagePassword:
		return appendPasswordStatus(nil, passwordRefused), Reply{passwordRefused, "login refused"}
	}
	code := answers[no.why].five
	return appendReply5(nil, code, endpoint{}), Reply{int(code), code.String()}
}
