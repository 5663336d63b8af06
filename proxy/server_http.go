// This file is the server's side of HTTP CONNECT (RFC 9110 section 9.3.6).

package proxy

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/anysock/anysock"
)

type dialogueHTTP struct{}

func (d *dialogueHTTP) protocol() string { return "http" }

// knownMethods are those of RFC 9110 section 9.3 and RFC 5789, without
// CONNECT.
var knownMethods = []string{"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH"}

func (d *dialogueHTTP) read(ctx context.Context, c *anysock.Conn, login login) (request, error) {
	r := request{command: commandConnect}
	head, err := readHead(connSource{ctx, c}, "")
	if err != nil {
		return r, requestError(err)
	}
	line, fields, err := parseHead(head)
	if err != nil {
		return r, requestError(err)
	}
	authority, err := parseRequestLine(line)
	if err != nil {
		return r, err
	}
	if err := checkNoContent(fields); err != nil {
		return r, err
	}
	if login != nil {
		// Before the target is looked at, so that a stranger learns nothing.
		if err := d.login(ctx, &r, fields, login); err != nil {
			return r, err
		}
	}
	if r.target, err = parseEndpoint(authority); err != nil {
		return r, requestError(err)
	}
	return r, nil
}

// parseRequestLine takes "CONNECT host:port HTTP/1.1" apart (RFC 9112
// section 3, 3.2.3).
func parseRequestLine(line string) (authority string, err error) {
	method, rest, ok := strings.Cut(line, " ")
	authority, version, ok2 := strings.Cut(rest, " ")
	switch {
	case !ok || !ok2 || !isToken(method) || authority == "":
		return "", refuse(becauseMalformed, "%s is no HTTP request line", quoted(line))
	case version == "HTTP/2.0":
		return "", refuse(becauseVersion, "the client speaks HTTP/2, and this proxy HTTP/1.1")
	case version != "HTTP/1.1" && version != "HTTP/1.0":
		return "", refuse(becauseMalformed, "%s is no HTTP version that this proxy knows", quoted(version))
	case method == "CONNECT":
		return authority, nil
	case slices.Contains(knownMethods, method):
		return "", refuse(becauseMethod, "the client asks for %s, and this proxy serves CONNECT", method)
	}
	return "", refuse(becauseUnknownMethod, "the client asks for %s, and this proxy serves CONNECT", quoted(method))
}

// checkNoContent refuses a CONNECT that announces content: it has none
// (RFC 9110 section 9.3.6), and whoever sends some and whoever takes it for
// the tunnel's first bytes would disagree about where those begin.
func checkNoContent(fields []field) error {
	if _, ok := fieldValue(fields, "Transfer-Encoding"); ok {
		return refuse(becauseMalformed, "a CONNECT request with Transfer-Encoding")
	}
	for _, f := range fields {
		if strings.EqualFold(f.name, "Content-Length") && f.value != "0" {
			return refuse(becauseMalformed, "a CONNECT request with content")
		}
	}
	return nil
}

// login checks the Basic credentials (RFC 7617).
func (d *dialogueHTTP) login(ctx context.Context, r *request, fields []field, login login) error {
	value, ok := fieldValue(fields, "Proxy-Authorization")
	if !ok {
		return refuse(becauseLogin, "the client does not say who it is")
	}
	scheme, text, _ := strings.Cut(value, " ")
	if !strings.EqualFold(scheme, "Basic") {
		return refuse(becauseLogin, "the client wants to log in by %s, and not by Basic", quoted(scheme))
	}
	raw, err := base64.StdEncoding.DecodeString(strings.Trim(text, " "))
	user, pass, ok := strings.Cut(string(raw), ":")
	if err != nil || !ok {
		return refuse(becauseMalformed, "the credentials are not those of Basic")
	}
	r.claimed = user
	ok, err = login(ctx, user, pass)
	switch {
	case err != nil:
		return err
	case !ok:
		return &refusal{becauseLogin, errLogin}
	}
	r.user, r.claimed = user, ""
	return nil
}

// grant: a success has no content, and what follows its blank line is the
// tunnel.
func (d *dialogueHTTP) grant(endpoint) ([]byte, Reply) {
	return []byte("HTTP/1.1 200 Connection established\r\n\r\n"), Reply{http.StatusOK, http.StatusText(http.StatusOK)}
}

// refusalTexts explain the refusals that a person with a browser may meet.
var refusalTexts = map[reason]string{
	becauseMethod:        "This proxy serves CONNECT, SOCKS4 and SOCKS5. With curl use --proxytunnel or --socks5-hostname.",
	becauseUnknownMethod: "This proxy serves CONNECT, SOCKS4 and SOCKS5.",
	becauseNotAllowed:    "The rules of this proxy do not allow that.",
	becauseLogin:         "This proxy asks for a user and a password.",
	becauseName:          "The host name was not found.",
	becauseRefused:       "The target refused the connection.",
	becauseTimeout:       "The target does not answer.",
	becauseUnreachable:   "The target cannot be reached.", becauseNetUnreachable: "The target cannot be reached.",
}

func (d *dialogueHTTP) refuse(no *refusal) ([]byte, Reply) {
	code := answers[no.why].http
	text := refusalTexts[no.why]
	if text == "" {
		text = http.StatusText(code) + "."
	}
	text += "\n"
	extra := ""
	switch no.why {
	case becauseLogin:
		extra = "Proxy-Authenticate: Basic realm=\"anysock proxy\", charset=\"UTF-8\"\r\n"
	case becauseMethod:
		extra = "Allow: CONNECT\r\n"
	}
	b := fmt.Appendf(nil, "HTTP/1.1 %d %s\r\n%sContent-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s",
		code, http.StatusText(code), extra, len(text), text)
	return b, Reply{code, http.StatusText(code)}
}
