// This file holds the server's side of the handshake (RFC 6455 section 4.2).
// Whoever is refused is told why, by an HTTP status that arrives.

package ws

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/internal/deadline"
	"github.com/coder/websocket"
)

// server makes a WebSocket of below, or refuses it.
func server(ctx context.Context, below *anysock.Conn, t anysock.Target) (net.Conn, error) {
	l := t.Prepared.(*listenSettings) // by prepare
	h := beginHandshake(ctx, below, false)
	conn, err := h.accept(l)
	if ended := h.end(); err == nil && ended != nil {
		_ = conn.CloseNow()
		err = ended
	}
	if err != nil {
		return nil, h.failed(err)
	}
	return newStream(below, h.wire, conn, &l.settings), nil
}

// A refusal is an answer that is not 101.
type refusal struct {
	status int
	reason string
	header http.Header
}

func refuse(status int, reason string) *refusal {
	return &refusal{status: status, reason: reason, header: http.Header{}}
}

func (r *refusal) Error() string {
	return fmt.Sprintf("refused with status %d, %s: %s", r.status, http.StatusText(r.status), r.reason)
}

// accept reads the request, and answers it.
func (h *handshake) accept(l *listenSettings) (*websocket.Conn, error) {
	br := bufio.NewReaderSize(&h.in, headBuffer)
	req, err := h.readRequest(br)
	if err == nil {
		err = l.check(req, h.below.LocalAddr())
	}
	var conn *websocket.Conn
	if err == nil {
		conn, err = h.upgrade(l, req, br)
	}
	var r *refusal
	if errors.As(err, &r) {
		h.answer(r)
		err = h.error(anysock.KindAuth, r, "")
	}
	return conn, err
}

// readRequest reads the head of a request, which may have maxHead bytes. One
// that makes no sense is a refusal; other errors are the connection's.
func (h *handshake) readRequest(br *bufio.Reader) (*http.Request, error) {
	first, err := br.Peek(1)
	if err == nil && !isToken(string(first)) {
		return nil, refuse(http.StatusBadRequest, "this is no HTTP request") // TLS, mostly, which would wait for us
	}
	var req *http.Request
	if err == nil {
		req, err = http.ReadRequest(br)
	}
	var below *anysock.Error
	switch {
	case err == nil:
		return req, nil
	case h.tooLong():
		return nil, refuse(http.StatusRequestHeaderFieldsTooLarge, fmt.Sprintf("the header is longer than %d bytes", maxHead))
	case errors.Is(err, deadline.ErrCut), errors.As(err, &below):
		return nil, err
	}
	return nil, refuse(http.StatusBadRequest, plain(err).Error())
}

// check looks at what the library does not, or not as strictly.
func (l *listenSettings) check(req *http.Request, local net.Addr) error {
	r := refuse(0, "")
	switch {
	case req.Method != http.MethodGet:
		r.status, r.reason = http.StatusMethodNotAllowed, "the method of a WebSocket handshake is GET"
		r.header.Set("Allow", http.MethodGet)
	case plainPath(req.URL.EscapedPath()) != plainPath(l.path):
		r.status, r.reason = http.StatusNotFound, "nothing is at this path"
	case req.ContentLength != 0 || len(req.TransferEncoding) > 0:
		r.status, r.reason = http.StatusBadRequest, "a WebSocket handshake has no body"
	case req.Host == "":
		r.status, r.reason = http.StatusBadRequest, "the Host header is missing"
	case !l.allows(req.Header.Values("Origin"), req.Host, local):
		r.status, r.reason = http.StatusForbidden, "pages of the origin "+shown(strings.Join(req.Header.Values("Origin"), ", "))+" may not connect"
	case len(req.Header.Values("Sec-Websocket-Version")) > 0 && req.Header.Get("Sec-Websocket-Version") != protocolVersion:
		r.status, r.reason = http.StatusUpgradeRequired, "only version "+protocolVersion+" of the WebSocket protocol is spoken here"
	case l.lc && l.choose(req) == "":
		r.status, r.reason = http.StatusBadRequest, "only the subprotocol "+lcSubprotocol+" is spoken here"
	default:
		return nil
	}
	return r
}

// protocolVersion is that of RFC 6455.
const protocolVersion = "13"

// choose is the first of our subprotocols that the client offers, "" if it
// offers none of them.
func (l *listenSettings) choose(req *http.Request) string {
	var offered []string
	for _, line := range req.Header.Values("Sec-Websocket-Protocol") {
		for p := range strings.SplitSeq(line, ",") {
			offered = append(offered, strings.TrimSpace(p))
		}
	}
	for _, p := range l.subprotocols {
		if slices.Contains(offered, p) {
			return p
		}
	}
	return ""
}

// plainPath is the normal form of a path (RFC 3986 section 6.2.2): escapes of
// unreserved characters decoded, others in upper case.
func plainPath(p string) string {
	if p == "" {
		return "/"
	}
	var b strings.Builder
	for i := 0; i < len(p); i++ {
		if p[i] != '%' || i+2 >= len(p) {
			b.WriteByte(p[i])
			continue
		}
		c, err := strconv.ParseUint(p[i+1:i+3], 16, 8)
		if err != nil {
			b.WriteByte(p[i])
			continue
		}
		if c := byte(c); c == '-' || c == '.' || c == '_' || c == '~' ||
			'0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' {
			b.WriteByte(c)
		} else {
			b.WriteString(strings.ToUpper(p[i : i+3]))
		}
		i += 2
	}
	return b.String()
}

// upgrade lets the library check the rest and make the connection.
func (h *handshake) upgrade(l *listenSettings, req *http.Request, br *bufio.Reader) (*websocket.Conn, error) {
	// The library compares without regard to case; we do not.
	chosen := l.choose(req)
	req.Header.Del("Sec-Websocket-Protocol")
	opts := &websocket.AcceptOptions{
		InsecureSkipVerify: true, // the origin was checked, scheme and port too
		CompressionMode:    websocket.CompressionDisabled,
		OnPingReceived:     h.wire.answers,
	}
	if chosen != "" {
		req.Header.Set("Sec-Websocket-Protocol", chosen)
		opts.Subprotocols = []string{chosen}
	}
	w := &upgradeWriter{h: h, br: br, header: http.Header{}}
	conn, err := websocket.Accept(w, req, opts)
	switch {
	case w.err != nil:
		if conn != nil {
			_ = conn.CloseNow()
		}
		return nil, w.err
	case err != nil:
		return nil, refuse(w.status, plain(err).Error())
	}
	return conn, nil
}

// An upgradeWriter is the library's http.ResponseWriter. It sends the answer
// 101 and keeps the status of any other.
type upgradeWriter struct {
	h      *handshake
	br     *bufio.Reader
	header http.Header
	status int
	err    error // of sending
}

// Header is what goes out with the answer.
func (w *upgradeWriter) Header() http.Header { return w.header }

// Write drops the text: the refusal has its own.
func (w *upgradeWriter) Write(p []byte) (int, error) { return len(p), nil }

// WriteHeader sends the answer if it is the right one.
func (w *upgradeWriter) WriteHeader(status int) {
	w.status = status
	if status != http.StatusSwitchingProtocols {
		return
	}
	var b bytes.Buffer
	b.WriteString("HTTP/1.1 101 Switching Protocols\r\n")
	_ = w.header.Write(&b)
	b.WriteString("\r\n")
	w.err = w.h.send(b.Bytes())
}

// Hijack gives the connection away. What the client has sent already is the
// receiver's. The reader's buffer holds the header of a frame, and the writer's
// small frames whole.
func (w *upgradeWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	w.h.keep(w.br)
	return w.h.wire, bufio.NewReadWriter(bufio.NewReaderSize(w.h.wire, frameHead), bufio.NewWriterSize(w.h.wire, frameBuffer)), nil
}

// answer sends a refusal and ends the connection in order, because a reset
// could overtake it. It takes refusalTime at most.
func (h *handshake) answer(r *refusal) {
	body := r.reason + "\n"
	resp := http.Response{
		StatusCode: r.status, ProtoMajor: 1, ProtoMinor: 1, Header: r.header, Close: true,
		ContentLength: int64(len(body)), Body: io.NopCloser(strings.NewReader(body)),
	}
	if r.status == http.StatusUpgradeRequired { // RFC 9110 section 15.5.22
		r.header.Set("Upgrade", "websocket")
		r.header.Set("Connection", "Upgrade")
		r.header.Set("Sec-WebSocket-Version", protocolVersion)
	}
	r.header.Set("Content-Type", "text/plain; charset=utf-8")
	r.header.Set("X-Content-Type-Options", "nosniff")
	r.header.Set("Date", time.Now().UTC().Format(http.TimeFormat))
	var b bytes.Buffer
	if resp.Write(&b) != nil || h.send(b.Bytes()) != nil {
		return
	}
	ctx, cancel := context.WithTimeout(h.ctx, refusalTime)
	defer cancel()
	_, _ = h.below.Disconnect(ctx) // what comes of it is not ours to judge
}
