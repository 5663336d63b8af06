// This file holds the client's side of SOCKS5 (RFC 1928, RFC 1929).

package proxy

import (
	"errors"
	"fmt"

	"github.com/anysock/anysock"
)

// authenticate5 agrees on a method, and says who we are if the proxy wants to
// know.
func (x *exchange) authenticate5() error {
	offered := []method{methodNone}
	if x.user != "" {
		offered = append(offered, methodPassword)
	}
	if err := x.send(appendGreeting5(nil, offered...)); err != nil {
		return err
	}
	if err := x.begun(func(b byte) bool { return b == version5 }); err != nil {
		return err
	}
	m, err := readMethod5(x.source())
	switch {
	case err != nil:
		return x.broken(err)
	case m == methodNone:
		return nil
	case m == methodPassword && x.user != "":
		return x.password5()
	case m == methodRefused && x.user == "":
		return x.unauthorized(errors.New("the proxy wants to know who we are"), "")
	case m == methodRefused:
		return x.unauthorized(errors.New("the proxy takes neither an anonymous client nor a user and a password"), "it may want GSSAPI, which is not known here, or not let this client in at all")
	}
	return x.broken(malformed("it chose the method %s, which was not offered", m))
}

// password5 sends user and password. Whatever is not success ends the
// connection (RFC 1929 section 2).
func (x *exchange) password5() error {
	if err := x.send(appendPassword(nil, x.user, x.pass)); err != nil {
		return err
	}
	status, err := readPasswordStatus(x.source())
	if err != nil {
		return x.broken(err)
	}
	if status != statusPasswordGood {
		return x.unauthorized(fmt.Errorf("the proxy refuses the user and the password (status %d)", status), "")
	}
	return nil
}

// request5 asks for x.to and returns the bound address of the answer.
func (x *exchange) request5(c command) (endpoint, error) {
	if err := x.send(appendRequest5(nil, c, x.to)); err != nil {
		return endpoint{}, err
	}
	return x.answer5(x.source())
}

// answer5 reads an answer to a request.
func (x *exchange) answer5(src source) (endpoint, error) {
	r, bound, err := readReply5(src)
	if err != nil {
		return endpoint{}, x.broken(err)
	}
	if r != replySucceeded {
		return endpoint{}, x.refused(&RefusalError{Code: int(r), Text: r.String(), Kind: kindOfReply5(r)})
	}
	return bound, nil
}

// kindOfReply5 is what the proxy met.
func kindOfReply5(r reply5) anysock.Kind {
	switch r {
	case replyNotAllowed:
		return anysock.KindPermission
	case replyNetUnreachable, replyHostUnreachable:
		return anysock.KindUnreachable
	case replyRefused:
		return anysock.KindRefused
	case replyTTLExpired:
		return anysock.KindTimeout
	case replyCommandUnsupported, replyFormUnsupported:
		return anysock.KindUnsupported
	}
	return anysock.KindOther
}
