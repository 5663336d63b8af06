// This file holds the dialogue with one proxy, as the protocols share it.

package proxy

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/anysock/anysock"
)

// hopSettings is what an address says about a hop.
type hopSettings struct {
	scheme string
	addr   string // of the proxy, for messages
	local  bool   // names are resolved here
	user   string
	pass   string  // a secret: in no message
	fields []field // of an HTTP request, with the secret
}

// An exchange is the dialogue with one proxy, up to the beginning of the
// stream. ctx has a deadline.
type exchange struct {
	hopSettings
	ctx   context.Context
	began time.Time
	op    string // what is asked for: connect, listen, accept
	c     *anysock.Conn
	to    endpoint
}

// prepare reads what the address says about a hop, before anything is dialed.
func prepare(scheme string) func(anysock.Target, bool) (any, error) {
	return func(t anysock.Target, _ bool) (any, error) {
		x := hopSettings{scheme: scheme, addr: hopName(t.Hop), user: t.Hop.User}
		x.local = scheme == schemeSocks4 || t.String(optionResolve, resolveRemote) == resolveLocal
		if err := x.credentials(t); err != nil {
			return nil, err
		}
		for _, text := range t.Strings(optionHeader) {
			f, err := parseHeader(text)
			if err != nil {
				return nil, err // the option's Check has seen to it
			}
			x.fields = append(x.fields, f)
		}
		return &x, nil
	}
}

// hopName is the hop for messages: without its user and its options.
func hopName(h anysock.Hop) string {
	var words []string
	for _, l := range h.Layers {
		words = append(words, l.Scheme)
	}
	if len(words) > 1 && words[len(words)-1] == "tcp" {
		words = words[:len(words)-1]
	}
	if h.Port == "" {
		return strings.Join(words, "+") + ":" + h.Opaque
	}
	return strings.Join(words, "+") + "://" + net.JoinHostPort(h.Host, h.Port)
}

// newExchange is an exchange with a hop that is prepared.
func newExchange(ctx context.Context, op string, t anysock.Target) *exchange {
	return &exchange{hopSettings: *t.Prepared.(*hopSettings), ctx: ctx, began: time.Now(), op: op}
}

// credentials finds user and password.
func (x *hopSettings) credentials(t anysock.Target) error {
	if t.Has(optionPass) && x.user == "" {
		return x.badAddress("a password without a user", "write the user before the host: "+x.scheme+"://USER@"+t.Hop.Host+":"+t.Hop.Port)
	}
	if x.user == "" {
		return nil
	}
	// The grammar keeps NUL, control characters and colons out of a user.
	if x.scheme == schemeSocks4 || x.scheme == schemeSocks4a {
		if len(x.user) > maxText {
			return x.badAddress(fmt.Sprintf("the user cannot be sent: it has more than %d bytes", maxText), "")
		}
		return nil
	}
	if !t.Has(optionPass) {
		return x.badAddress("a user without a password", "say where it is: pass=env:NAME or pass=file:PATH")
	}
	var err error
	if x.pass, err = t.Secret(optionPass); err != nil {
		return &anysock.Error{Op: anysock.OpHandshake, Addr: x.addr, Kind: anysock.KindAuth, Err: err, Hint: "say where the password is: pass=env:NAME or pass=file:PATH"}
	}
	if x.scheme == schemeHTTP { // RFC 7617 section 2
		basic := base64.StdEncoding.EncodeToString([]byte(x.user + ":" + x.pass))
		x.fields = append(x.fields, field{"Proxy-Authorization", "Basic " + basic})
		return nil
	}
	// RFC 1929 section 2: both have 1 to 255 bytes.
	if len(x.user) > maxText || len(x.pass) > maxText || x.pass == "" {
		return x.badAddress(fmt.Sprintf("user and password must have 1 to %d bytes each", maxText), "")
	}
	return nil
}

// badAddress is an address that makes no sense.
func (x *hopSettings) badAddress(msg, hint string) error {
	return &anysock.Error{Op: "parse", Addr: x.addr, Kind: anysock.KindAddress, Err: errors.New(msg), Hint: hint}
}

// connect performs the request for a connection to x.to.
func (x *exchange) connect() error {
	switch x.scheme {
	case schemeSocks5:
		if err := x.authenticate5(); err != nil {
			return err
		}
		_, err := x.request5(commandConnect)
		return err
	case schemeHTTP:
		return x.connectHTTP()
	}
	_, err := x.request4(commandConnect)
	return err
}

// source is what the answers are read from.
func (x *exchange) source() source { return connSource{x.ctx, x.c} }

// send writes a message.
func (x *exchange) send(b []byte) error {
	if _, err := x.c.WriteContext(x.ctx, b); err != nil {
		return x.broken(err)
	}
	return nil
}

// begun waits for the first byte of the first answer and has good judge it:
// somebody who speaks another protocol is found out before anything waits for
// more of it.
func (x *exchange) begun(good func(byte) bool) error {
	var ahead [16]byte
	n, err := x.source().Peek(ahead[:])
	if err != nil {
		return x.broken(err)
	}
	if good(ahead[0]) {
		return nil
	}
	return x.foreign(ahead[:n])
}

// foreign is the error of an answer in another protocol.
func (x *exchange) foreign(answer []byte) error {
	return &anysock.Error{
		Op: anysock.OpHandshake, Addr: x.addr, Kind: anysock.KindHop,
		Err:  fmt.Errorf("this does not speak %s: it answers %s", protocolNames[x.scheme], quoted(string(answer))),
		Hint: looksLike(answer),
	}
}

// looksLike guesses who answers so.
func looksLike(b []byte) string {
	is := func(prefix string) bool { return strings.HasPrefix(string(b), prefix) }
	switch {
	case is("HTTP/"), is("<"):
		return "it looks like HTTP: is it an HTTP proxy (http://), or no proxy at all?"
	case is("SSH-"):
		return "it looks like SSH: to go through it write ssh://"
	case is("\x15\x03"), is("\x16\x03"):
		return "it looks like TLS: to speak to a proxy over it write +tls, as in socks5+tls:// or http+tls://"
	case is("\x05"):
		return "it looks like SOCKS5: write socks5://"
	case is("\x00\x5b"), is("\x00\x5a"):
		return "it looks like SOCKS4: write socks4a:// or socks4://"
	case is("220"), is("+OK"), is("* OK"):
		return "it looks like a mail or FTP server: is the port right?"
	}
	return "is there a proxy, is the port right, and does it speak this protocol?"
}

// broken is the error of an exchange that failed below the protocol, or whose
// messages make no sense.
func (x *exchange) broken(err error) error {
	var (
		w *wireError
		e *anysock.Error
	)
	out := &anysock.Error{Op: anysock.OpHandshake, Addr: x.addr, Kind: anysock.KindHop, Err: err}
	switch {
	case errors.As(err, &w):
		out.Err = fmt.Errorf("this does not speak %s as it should: %w", protocolNames[x.scheme], err)
		out.Hint = "is there a proxy, is the port right, and does it speak this protocol?"
		return out
	case errors.As(err, &e):
		switch e.Kind {
		case anysock.KindTimeout:
			out.Kind = e.Kind
			out.Err = &silentError{after: time.Since(x.began), cause: e.Err}
			out.Hint = "either the proxy waits for the target, or this is no " + protocolNames[x.scheme] + " proxy: is the port right?"
			return out
		case anysock.KindReset, anysock.KindTruncated:
		default:
			out.Kind, out.Err, out.Hint = e.Kind, e.Err, e.Hint
			if out.Err == nil {
				out.Err = err
			}
			return out
		}
	case !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF):
		return out
	}
	out.Err = fmt.Errorf("the proxy hung up in the middle of the exchange: %w", hungUp(err))
	out.Hint = "its rules may not let this client in, or it speaks another protocol: see its log"
	return out
}

// A silentError is an answer that did not come in time.
type silentError struct {
	after time.Duration
	cause error
}

func (e *silentError) Error() string {
	return "no answer from the proxy within " + e.after.Round(100*time.Millisecond).String()
}

// Unwrap is the context's error or that of a deadline.
func (e *silentError) Unwrap() error { return e.cause }

// hungUp is the cause behind a connection that was closed on us.
func hungUp(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	var e *anysock.Error
	if errors.As(err, &e) && e.Err != nil {
		return e.Err
	}
	return err
}
