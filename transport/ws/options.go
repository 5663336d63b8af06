// This file reads the options of an address: what a client sends and what a
// server takes.

package ws

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/textproto"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/anysock/anysock"
)

// lcSubprotocol says on the wire that the lifecycle protocol runs over the
// connection (docs/LIFECYCLE-PROTOCOL.md).
const lcSubprotocol = "anysock.lc.1"

const (
	optHost         = "host"
	optHeader       = "header"
	optHeaderSecret = "header-secret"
	optToken        = "auth-token"
	optOrigin       = "origin"
	optQuery        = "query"
	optPath         = "path"
	optSubprotocol  = "subprotocol"
	optPing         = "ping"
	optPong         = "pong"
)

var optionSpecs = []anysock.OptionSpec{
	{Name: optHost, Type: anysock.OptionString, Dial: true, Help: "Host header (default: the address's host and port; localhost where it has none)"},
	{Name: optHeader, Type: anysock.OptionString, Repeat: true, Dial: true, Help: "a header of the request, as Name:Value; may repeat; for secrets see header-secret"},
	{Name: optHeaderSecret, Type: anysock.OptionString, Dial: true, Help: "more headers, lines of Name: Value, from env:NAME or file:PATH"},
	{Name: optToken, Type: anysock.OptionString, Dial: true, Help: "Authorization: Bearer, the token from env:NAME or file:PATH"},
	{Name: optQuery, Type: anysock.OptionString, Dial: true, Help: "query of the request, without the question mark; & is written %26"},
	{Name: optPath, Type: anysock.OptionString, Dial: true, Listen: true, Help: "path, for addresses that have no place for it, such as ws+unix:"},
	{Name: optOrigin, Type: anysock.OptionString, Repeat: true, Dial: true, Listen: true, Help: "dialing: Origin header; listening: an origin to allow beside the server's own, such as https://app.example, or * for any; may repeat"},
	{Name: optSubprotocol, Type: anysock.OptionString, Repeat: true, Dial: true, Listen: true, Help: "a subprotocol to offer or to take, in order of preference; may repeat"},
	{Name: optPing, Type: anysock.OptionDuration, Dial: true, Listen: true, Help: "a ping after so long without traffic (default 30s; 0 is never)"},
	{Name: optPong, Type: anysock.OptionDuration, Dial: true, Listen: true, Help: "lost when nothing came for so long after a ping, although the peer may only have paused (default 0: never)"},
}

// settings are the options of one connection that both sides have.
type settings struct {
	path         string // escaped, begins with a slash
	secure       bool   // tls is below
	lc           bool   // lc is above
	subprotocols []string
	ping, pong   time.Duration
}

// dialSettings are those of a client.
type dialSettings struct {
	settings
	url    string
	host   string
	header http.Header
}

// listenSettings are those of a server.
type listenSettings struct {
	settings
	origins   []origin
	anyOrigin bool
}

// optionError is a value that cannot be used. The value is shown, because no
// option here holds a secret in its value.
func optionError(name, value, msg, hint string) *anysock.Error {
	return &anysock.Error{
		Op: "parse", Addr: "ws", Kind: anysock.KindAddress, Hint: hint,
		Err: fmt.Errorf("option %s=%q: %s", name, value, msg),
	}
}

func readSettings(t anysock.Target) (settings, error) {
	s := settings{
		path: t.Hop.Path,
		lc:   t.Above() == "lc",
		ping: t.Duration(optPing, DefaultPing),
		pong: t.Duration(optPong, 0),
	}
	for _, l := range t.Hop.Layers[t.Layer+1:] {
		s.secure = s.secure || l.Scheme == "tls"
	}
	if t.Has(optPath) {
		value := t.String(optPath, "")
		switch {
		case s.path != "/" && s.path != "":
			return s, optionError(optPath, value, "the address has a path already", "leave one of them out")
		case value[0] != '/':
			return s, optionError(optPath, value, "a path begins with a slash", "write "+optPath+"=/"+value)
		}
		s.path = (&url.URL{Path: value}).EscapedPath()
	}
	if s.path == "" {
		s.path = "/"
	}
	if s.pong > 0 && s.ping == 0 {
		return s, optionError(optPong, t.String(optPong, ""), "without pings there are no pongs to wait for", "leave out ping=0")
	}
	for _, p := range t.Strings(optSubprotocol) {
		switch {
		case !isToken(p):
			return s, optionError(optSubprotocol, p, "a subprotocol is one word of letters, digits and !#$%&'*+-.^_`|~", "")
		case strings.EqualFold(p, lcSubprotocol):
			return s, optionError(optSubprotocol, p, "this one stands for the lifecycle protocol", "write lc+ws in place of ws")
		case s.lc:
			return s, optionError(optSubprotocol, p, "under lc the subprotocol is "+lcSubprotocol, "leave the option out")
		case slices.Contains(s.subprotocols, p):
			return s, optionError(optSubprotocol, p, "given twice", "")
		}
		s.subprotocols = append(s.subprotocols, p)
	}
	if s.lc {
		s.subprotocols = []string{lcSubprotocol}
	}
	return s, nil
}

func readDialSettings(t anysock.Target) (*dialSettings, error) {
	base, err := readSettings(t)
	d := &dialSettings{settings: base, host: hostHeader(t, base.secure)}
	if err != nil {
		return d, err
	}
	if t.Has(optHost) {
		d.host = t.String(optHost, "")
		if u, err := url.Parse("http://" + d.host); err != nil || u.Host != d.host || u.Hostname() == "" || !isHost(d.host) {
			return d, optionError(optHost, d.host, "not a host or host:port", "")
		}
	}
	// The host of the URL is never resolved: the connection is there already.
	d.url = "http://" + d.host + d.path
	if t.Has(optQuery) {
		query := t.String(optQuery, "")
		if u, err := url.Parse("/?" + query); err != nil || u.RawQuery != query || !isVisible(query) || badEscape(query) {
			return d, optionError(optQuery, query, "not the query of a URL", "encode it twice: %2520 is a space")
		}
		d.url += "?" + query
	}
	d.header = http.Header{}
	if err := d.readHeaders(t); err != nil {
		return d, err
	}
	if len(d.header.Values("User-Agent")) == 0 {
		d.header.Set("User-Agent", "anysock")
	}
	if origins := t.Strings(optOrigin); len(origins) > 0 {
		o, err := parseOrigin(origins[0])
		switch {
		case len(origins) > 1:
			return d, optionError(optOrigin, origins[1], "a client has one origin", "leave the others out")
		case err != nil:
			return d, optionError(optOrigin, origins[0], err.Error(), "write it as https://app.example")
		}
		d.header.Set("Origin", o.String())
	}
	return d, nil
}

// readHeaders fills in the headers of the request.
func (d *dialSettings) readHeaders(t anysock.Target) error {
	for _, h := range t.Strings(optHeader) {
		name, value, ok := strings.Cut(h, ":")
		if !ok {
			return optionError(optHeader, name, "no colon", "write it as "+optHeader+"=Name:Value")
		}
		if isSecretHeader(name) {
			// The value is not shown.
			return optionError(optHeader, name, "its value is a secret, which does not belong in an address",
				"write "+optToken+"=env:NAME for a bearer token, or "+optHeaderSecret+"=file:PATH for any header")
		}
		if msg := badHeader(name, value); msg != "" {
			return optionError(optHeader, name, msg, "")
		}
		d.header.Add(name, strings.TrimSpace(value))
	}
	secret, err := t.Secret(optHeaderSecret)
	if err != nil {
		return &anysock.Error{Op: "parse", Addr: "ws", Kind: anysock.KindAddress, Err: err}
	}
	for n, line := range strings.Split(secret, "\n") {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		name, value, ok := strings.Cut(line, ":")
		msg := "no colon"
		if ok {
			msg = badHeader(name, value)
		}
		if msg != "" {
			return &anysock.Error{
				Op: "parse", Addr: "ws", Kind: anysock.KindAddress,
				Err: fmt.Errorf("option %s: line %d: %s", optHeaderSecret, n+1, msg), Hint: "a line is Name: Value",
			}
		}
		d.header.Add(name, strings.TrimSpace(value))
	}
	token, err := t.Secret(optToken)
	if err == nil && !isVisible(token) {
		err = errors.New("option " + optToken + ": the token holds a space or a control character")
	}
	if err != nil {
		return &anysock.Error{Op: "parse", Addr: "ws", Kind: anysock.KindAddress, Err: err}
	}
	if token != "" {
		if d.header.Get("Authorization") != "" {
			return &anysock.Error{Op: "parse", Addr: "ws", Kind: anysock.KindAddress, Err: errors.New("two Authorization headers"), Hint: "leave out one of " + optToken + " and " + optHeaderSecret}
		}
		d.header.Set("Authorization", "Bearer "+token)
	}
	return nil
}

func readListenSettings(t anysock.Target) (*listenSettings, error) {
	base, err := readSettings(t)
	l := &listenSettings{settings: base}
	if err != nil {
		return l, err
	}
	for _, v := range t.Strings(optOrigin) {
		if v == "*" {
			l.anyOrigin = true
			continue
		}
		o, err := parseOrigin(v)
		if err != nil {
			return l, optionError(optOrigin, v, err.Error(), "write it as https://app.example, or * for any")
		}
		l.origins = append(l.origins, o)
	}
	return l, nil
}

// hostHeader is the Host header that the address asks for (RFC 9110 section
// 7.2): its host, and its port unless that is the scheme's own.
func hostHeader(t anysock.Target, secure bool) string {
	const local = "localhost"
	if t.Hop.Port == "" || t.Hop.Layers[len(t.Hop.Layers)-1].Scheme == "vsock" {
		return local
	}
	host, _, _ := strings.Cut(t.Hop.Host, "%") // a zone is nobody else's business (RFC 6874 section 1)
	if host == "" || host == "*" {
		host = local
	}
	if t.Hop.Port == defaultPort(secure) {
		if strings.Contains(host, ":") {
			return "[" + host + "]"
		}
		return host
	}
	return net.JoinHostPort(host, t.Hop.Port)
}

func defaultPort(secure bool) string {
	if secure {
		return "443"
	}
	return "80"
}

// reservedHeaders are made by the handshake itself.
var reservedHeaders = []string{
	"Host", "Connection", "Upgrade", "Content-Length", "Transfer-Encoding", "Te", "Trailer", "Origin",
	"Sec-Websocket-Key", "Sec-Websocket-Version", "Sec-Websocket-Protocol", "Sec-Websocket-Extensions", "Sec-Websocket-Accept",
}

// badHeader says what is wrong with a header of the user's (RFC 9110 section
// 5.5), "" if nothing is.
func badHeader(name, value string) string {
	switch {
	case !isToken(name):
		return "not the name of a header"
	case slices.Contains(reservedHeaders, textproto.CanonicalMIMEHeaderKey(name)):
		return "this header is the handshake's own; some have an option"
	case strings.ContainsFunc(value, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }):
		return "the value holds a control character"
	}
	return ""
}

// isSecretHeader reports headers whose values let somebody in.
func isSecretHeader(name string) bool {
	switch textproto.CanonicalMIMEHeaderKey(strings.TrimSpace(name)) {
	case "Authorization", "Proxy-Authorization", "Cookie":
		return true
	}
	return false
}

// isToken reports whether s is a token of RFC 9110 section 5.6.2.
func isToken(s string) bool {
	for i := range len(s) {
		c := s[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0:
		default:
			return false
		}
	}
	return s != ""
}

// isVisible reports whether s is printable ASCII without spaces.
func isVisible(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
}

// isHost reports whether s is made of what a host and a port are made of.
func isHost(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("-._:[]", r)
	})
}

// badEscape reports a percent sign that begins no escape.
func badEscape(s string) bool {
	_, err := url.PathUnescape(s)
	return err != nil
}
