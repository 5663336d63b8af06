// This file holds the client's side of the handshake (RFC 6455 section 4.1).

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

	"github.com/anysock/anysock"
	"github.com/coder/websocket"
)

// client makes a WebSocket of below.
func client(ctx context.Context, below *anysock.Conn, t anysock.Target) (net.Conn, error) {
	d := t.Prepared.(*dialSettings) // by prepare
	h := beginHandshake(ctx, below, true)
	conn, err := h.dial(d)
	if ended := h.end(); err == nil && ended != nil {
		_ = conn.CloseNow()
		err = ended
	}
	if err != nil {
		return nil, h.failed(err)
	}
	return newStream(below, h.wire, conn, &d.settings), nil
}

// dial sends the request and checks the answer.
func (h *handshake) dial(d *dialSettings) (*websocket.Conn, error) {
	conn, resp, err := websocket.Dial(h.ctx, d.url, &websocket.DialOptions{
		// Not http.Transport, which has goroutines, buffers, proxies and time
		// limits of its own: there is one connection, for one request.
		HTTPClient: &http.Client{
			Transport:     h,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		HTTPHeader:      d.header,
		Host:            d.host,
		Subprotocols:    d.subprotocols,
		CompressionMode: websocket.CompressionDisabled,
		OnPingReceived:  h.wire.answers,
	})
	if err != nil {
		return nil, err
	}
	_ = resp // its body is the wire
	if err := h.checkSubprotocol(conn.Subprotocol(), d); err != nil {
		_ = conn.CloseNow()
		return nil, err
	}
	return conn, nil
}

// checkSubprotocol: whoever asks for some does not take none, as browsers have
// it; and for lc it must be that very one.
func (h *handshake) checkSubprotocol(got string, d *dialSettings) error {
	for _, p := range d.subprotocols {
		if p == got {
			return nil
		}
	}
	switch {
	case d.lc:
		return h.error(anysock.KindAuth, errors.New("the server did not agree to the subprotocol "+lcSubprotocol),
			"it does not speak the lifecycle protocol there: leave lc and require out of the address, or let the server listen at lc+ws")
	case len(d.subprotocols) > 0:
		return h.error(anysock.KindAuth, fmt.Errorf("the server chose none of the subprotocols, but %s", shown(got)),
			"leave the option "+optSubprotocol+" out, or name one that the server has")
	}
	return nil // the library refuses one that was not asked for
}

// RoundTrip sends the one request and reads the head of its answer, which may
// have maxHead bytes.
func (h *handshake) RoundTrip(req *http.Request) (*http.Response, error) {
	var b bytes.Buffer
	if err := req.Write(&b); err != nil {
		return nil, err
	}
	if b.Len() > maxHead {
		return nil, h.error(anysock.KindAddress, fmt.Errorf("the request's header has %d bytes, at most %d are sent", b.Len(), maxHead), "send fewer or shorter headers")
	}
	if err := h.send(b.Bytes()); err != nil {
		return nil, err
	}
	br := bufio.NewReaderSize(&h.in, headBuffer)
	resp, err := http.ReadResponse(br, req)
	switch {
	case err != nil && h.tooLong():
		return nil, h.error(anysock.KindAuth, fmt.Errorf("the answer's header is longer than %d bytes", maxHead), "is this a WebSocket server?")
	case err != nil:
		return nil, err
	case resp.StatusCode != http.StatusSwitchingProtocols:
		return nil, h.refused(resp)
	}
	h.keep(br)
	resp.Body = h.wire
	return resp, nil
}

// refused is the error for an answer that is not 101.
func (h *handshake) refused(resp *http.Response) error {
	err := fmt.Errorf("the server answered with status %d", resp.StatusCode)
	if text := http.StatusText(resp.StatusCode); text != "" {
		err = fmt.Errorf("%w, %s", err, text)
	}
	hint := "is there a WebSocket server at this host and path?"
	switch code := resp.StatusCode; {
	case code >= 300 && code < 400:
		hint = "it leads to " + shown(resp.Header.Get("Location")) + ": redirects are not followed; dial that address if you trust it"
	case code == http.StatusUnauthorized:
		hint = "it asks who you are: give " + optToken + " or " + optHeaderSecret
	case code == http.StatusForbidden:
		hint = "it may not like the origin: give the option " + optOrigin + ", or leave it out; or you are not allowed in"
	case code == http.StatusNotFound:
		hint = "nothing is at this path: write it behind the port, as in ws://host:80/path"
	case code == http.StatusBadGateway, code == http.StatusServiceUnavailable, code == http.StatusGatewayTimeout:
		hint = "a proxy answers, and the server behind it does not"
	}
	// What servers say about it is short, and often the best help.
	if resp.ContentLength > 0 && resp.ContentLength <= maxShown {
		if text, e := io.ReadAll(resp.Body); e == nil {
			err = fmt.Errorf("%w: %s", err, shown(string(text)))
		}
	}
	return h.error(anysock.KindAuth, err, hint)
}
