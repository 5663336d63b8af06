// This file holds the client's side of HTTP CONNECT (RFC 9110 section 9.3.6).

package proxy

import (
	"net/http"
	"strings"

	"github.com/anysock/anysock"
)

// maxInterim bounds the interim replies (RFC 9110 section 15.2) before the
// final one.
const maxInterim = 4

// connectHTTP asks for a tunnel. What a success says about its content means
// nothing (RFC 9110 section 9.3.6): what follows the blank line is the tunnel.
func (x *exchange) connectHTTP() error {
	if err := x.send(appendConnect(nil, x.to, x.fields)); err != nil {
		return err
	}
	if err := x.begun(func(b byte) bool { return b == 'H' }); err != nil {
		return err
	}
	for range maxInterim {
		status, fields, err := readConnectReply(x.source())
		if err != nil {
			return x.broken(err)
		}
		switch {
		case status.code/100 == 2:
			return nil
		case status.code/100 != 1 || status.code == http.StatusSwitchingProtocols:
			return x.refusedHTTP(status, fields)
		}
	}
	return x.broken(malformed("more than %d interim replies", maxInterim))
}

// refusedHTTP is the error of a final status that is no success.
func (x *exchange) refusedHTTP(status statusLine, fields []field) error {
	r := &RefusalError{Scheme: x.scheme, Code: status.code, Text: quoted(status.reason)}
	switch status.code {
	case http.StatusProxyAuthRequired:
		r.Kind = anysock.KindAuth
		return x.unauthorized(r, x.wantedHTTP(fields))
	case http.StatusForbidden:
		r.Kind = anysock.KindPermission
	case http.StatusGatewayTimeout, http.StatusRequestTimeout:
		r.Kind = anysock.KindTimeout
	case http.StatusMethodNotAllowed, http.StatusNotImplemented:
		r.Kind = anysock.KindUnsupported
	}
	return x.refused(r)
}

// wantedHTTP is the hint for a 407: "" for the usual one, which is right where
// the proxy takes Basic.
func (x *exchange) wantedHTTP(fields []field) string {
	var wanted []string
	for _, f := range fields {
		if !strings.EqualFold(f.name, "Proxy-Authenticate") {
			continue
		}
		how, _, _ := strings.Cut(f.value, " ")
		if strings.EqualFold(how, "Basic") {
			return ""
		}
		wanted = append(wanted, how)
	}
	if len(wanted) == 0 {
		return ""
	}
	return "the proxy wants " + quoted(strings.Join(wanted, ", ")) + ", and only Basic is known here"
}
