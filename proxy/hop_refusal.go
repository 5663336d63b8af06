// This file holds what a proxy says when it refuses.

package proxy

import (
	"fmt"
	"net/http"

	"github.com/anysock/anysock"
)

// A RefusalError is the answer of a proxy that did not do what was asked. It
// is the cause of an *anysock.Error of KindHop or KindAuth.
type RefusalError struct {
	// Scheme is the protocol: "socks5", "socks4", "socks4a" or "http".
	Scheme string
	// Code is the reply of SOCKS5 (RFC 1928 section 6), that of SOCKS4 (91 to
	// 93), or the status of HTTP.
	Code int
	// Text says it in words: those of the specification, or, with everything
	// unusual escaped, the proxy's.
	Text string
	// Kind is what the proxy met, as if it had happened here: KindRefused,
	// KindUnreachable, KindPermission and so on, and KindOther where it does
	// not say.
	Kind anysock.Kind
}

// Error is what the proxy says, in words.
func (e *RefusalError) Error() string {
	if e.Scheme == schemeHTTP {
		return fmt.Sprintf("the proxy answers with status %d %s", e.Code, e.Text)
	}
	return fmt.Sprintf("the proxy says: %s (reply %d)", e.Text, e.Code)
}

// refused is the error of what the proxy does not do.
func (x *exchange) refused(r *RefusalError) error {
	r.Scheme = x.scheme
	e := &anysock.Error{Op: x.op, Addr: x.addr, Kind: anysock.KindHop, Err: r, Hint: x.bindHint(r)}
	if x.op == anysock.OpConnect {
		e.Addr = x.to.String() + " through " + x.addr
		e.Hint = x.connectHint(r)
	}
	return e
}

// bindHint says what to try after a refused BIND, or one that nobody used.
func (x *exchange) bindHint(r *RefusalError) string {
	switch {
	case r.Kind == anysock.KindPermission:
		return "a rule of the proxy forbids BIND"
	case r.Kind == anysock.KindUnsupported:
		return "the proxy has no BIND, or it is turned off"
	case x.op == anysock.OpAccept:
		return "nobody called in the time that the proxy gives, or somebody else than peer="
	}
	return "the proxy does not say why: its log may; it may have no BIND"
}

// connectHint says what to try after a refused CONNECT.
func (x *exchange) connectHint(r *RefusalError) string {
	if r.Scheme == schemeHTTP {
		switch r.Code {
		case http.StatusBadRequest, http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusNotImplemented:
			return "this may be a web server and no proxy: is the port right?"
		case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
			return "the proxy did not get through to " + x.to.String() + ": is the server started, and are name and port right?"
		}
	}
	switch r.Kind {
	case anysock.KindPermission:
		return "a rule of the proxy forbids it"
	case anysock.KindUnreachable:
		if x.to.name != "" {
			return "the proxy finds no address of " + x.to.host() + " or no way there: check the spelling, or try resolve=local"
		}
		return "the proxy has no route to " + x.to.host()
	case anysock.KindRefused:
		return "the proxy is fine, but nothing listens on " + x.to.String() + ": is the server started, and is the port right?"
	case anysock.KindTimeout:
		return x.to.String() + " does not answer the proxy: a firewall may drop the packets, or the host is down"
	case anysock.KindUnsupported:
		if r.Scheme == schemeSocks5 && reply5(r.Code) == replyFormUnsupported {
			if x.to.name != "" {
				return "the proxy takes no host names: try resolve=local"
			}
			return "the proxy takes no such address: try the other address family"
		}
		return "the proxy lacks it"
	}
	return "the proxy does not say why: its log may"
}

// unauthorized is the error of a proxy that wants to know who we are, or does
// not like what it heard. The password is in none of it.
func (x *exchange) unauthorized(cause error, hint string) error {
	if hint == "" {
		hint = "check the user before the @ and the password that pass= points to"
		if x.user == "" {
			hint = "say who you are: " + x.scheme + "://USER@…?pass=env:NAME or pass=file:PATH"
		}
	}
	return &anysock.Error{Op: anysock.OpHandshake, Addr: x.addr, Kind: anysock.KindAuth, Err: cause, Hint: hint}
}
