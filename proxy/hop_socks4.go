// This file holds the client's side of SOCKS4 and 4a.

package proxy

import "github.com/anysock/anysock"

// request4 asks for x.to and returns the bound address of the answer.
func (x *exchange) request4(c command) (endpoint, error) {
	if err := x.send(appendRequest4(nil, c, x.to, x.user)); err != nil {
		return endpoint{}, err
	}
	if err := x.begun(func(b byte) bool { return b == 0 || b == version4 }); err != nil {
		return endpoint{}, err
	}
	return x.answer4(x.source())
}

// answer4 reads an answer to a request.
func (x *exchange) answer4(src source) (endpoint, error) {
	r, bound, err := readReply4(src)
	if err != nil {
		return endpoint{}, x.broken(err)
	}
	refusal := &RefusalError{Scheme: x.scheme, Code: int(r), Text: r.String()}
	switch r {
	case reply4Granted:
		return bound, nil
	case reply4NoIdent:
		refusal.Kind = anysock.KindAuth
		return endpoint{}, x.unauthorized(refusal, "the proxy asks an identd (RFC 1413) on this machine who the user is, and there is none")
	case reply4Ident:
		refusal.Kind = anysock.KindAuth
		return endpoint{}, x.unauthorized(refusal, "the identd on this machine names another user than the one before the @")
	}
	return endpoint{}, x.refused(refusal)
}
