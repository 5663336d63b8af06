// This file holds peers that write every byte themselves.

package ws

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/anysock/anysock"
)

// testKey is the key of RFC 6455 section 1.2, and testAccept its answer.
const (
	testKey    = "dGhlIHNhbXBsZSBub25jZQ=="
	testAccept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
)

// request is a good request for the path, with more header lines.
func request(path, host string, lines ...string) string {
	return "GET " + path + " HTTP/1.1\r\nHost: " + host + "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + testKey + "\r\n" + joinLines(lines) + "\r\n"
}

func joinLines(lines []string) string {
	var b strings.Builder
	for _, l := range lines {
		b.WriteString(l + "\r\n")
	}
	return b.String()
}

// A rawPeer is the other side of one connection of ours.
type rawPeer struct {
	t testing.TB
	net.Conn
	r      *bufio.Reader
	client bool // it is a client, so its frames are masked
}

func newRawPeer(t testing.TB, c net.Conn, client bool) *rawPeer {
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(testBound)); err != nil {
		t.Fatal(err)
	}
	return &rawPeer{t: t, Conn: c, r: bufio.NewReader(c), client: client}
}

// rawDial connects to a listener of ours.
func rawDial(t testing.TB, addr net.Addr) *rawPeer {
	t.Helper()
	c, err := net.Dial(addr.Network(), addr.String())
	if err != nil {
		t.Fatal(err)
	}
	return newRawPeer(t, c, true)
}

// send writes text as it is.
func (p *rawPeer) send(s string) {
	p.t.Helper()
	if _, err := io.WriteString(p, s); err != nil {
		p.t.Fatal(err)
	}
}

// answer reads a response.
func (p *rawPeer) answer() *http.Response {
	p.t.Helper()
	resp, err := http.ReadResponse(p.r, &http.Request{Method: http.MethodGet})
	if err != nil {
		p.t.Fatalf("no answer: %v", err)
	}
	return resp
}

// rawClient is a client of ln whose handshake is done, and our end of it.
func rawClient(t testing.TB, ln *anysock.Listener) (*rawPeer, *anysock.Conn) {
	t.Helper()
	p := rawDial(t, ln.Addr())
	p.send(request("/", "localhost"))
	if resp := p.answer(); resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("status %d", resp.StatusCode)
	}
	return p, accept(t, ln)
}

// rawServer is a server whose handshake is done, and our client of it.
func rawServer(t testing.TB) (*rawPeer, *anysock.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	peer := make(chan *rawPeer, 1)
	go func() {
		nc, err := ln.Accept()
		if err != nil {
			return
		}
		p := newRawPeer(t, nc, false)
		req, err := http.ReadRequest(p.r)
		if err == nil {
			_, _ = io.WriteString(p, answerTo(req))
		}
		peer <- p
	}()
	c, err := anysock.Dial(bounded(t), "ws://"+ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Abort() })
	return <-peer, c
}

// bareStream is a server's stream without a Conn over it, and its client. The
// settings are a listener's.
func bareStream(t testing.TB, s settings) (*rawPeer, *stream) {
	t.Helper()
	ln := listen(t, "tcp://127.0.0.1:0")
	p := rawDial(t, ln.Addr())
	below := accept(t, ln)
	p.send(request("/", "localhost"))
	s.path = "/"
	nc, err := server(bounded(t), below, anysock.Target{Prepared: &listenSettings{settings: s}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nc.(*stream).Abort() })
	if resp := p.answer(); resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("status %d", resp.StatusCode)
	}
	return p, nc.(*stream)
}

// answerTo is a good answer, with more header lines.
func answerTo(req *http.Request, lines ...string) string {
	return "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " +
		acceptKey(req.Header.Get("Sec-WebSocket-Key")) + "\r\n" + joinLines(lines) + "\r\n"
}

// frame makes a frame: first is the byte of FIN, RSV and opcode.
func frame(first byte, payload []byte, masked bool) []byte {
	f := []byte{first}
	bit := byte(0)
	if masked {
		bit = 0x80
	}
	switch n := len(payload); {
	case n < 126:
		f = append(f, bit|byte(n))
	case n < 1<<16:
		f = binary.BigEndian.AppendUint16(append(f, bit|126), uint16(n))
	default:
		f = binary.BigEndian.AppendUint64(append(f, bit|127), uint64(n))
	}
	if !masked {
		return append(f, payload...)
	}
	key := [4]byte{1, 2, 3, 4}
	f = append(f, key[:]...)
	for i, b := range payload {
		f = append(f, b^key[i%4])
	}
	return f
}

const (
	fin          = 0x80
	continuation = 0x0
	text         = 0x1
	binaryData   = 0x2
	closing      = 0x8
	ping         = 0x9
	pong         = 0xa
)

// frame sends one.
func (p *rawPeer) frame(first byte, payload string) {
	p.t.Helper()
	p.send(string(frame(first, []byte(payload), p.client)))
}

// closeFrame sends one with a code.
func (p *rawPeer) closeFrame(code uint16, reason string) {
	p.t.Helper()
	p.frame(fin|closing, string(binary.BigEndian.AppendUint16(nil, code))+reason)
}

// A rawFrame is what was received.
type rawFrame struct {
	first   byte
	masked  bool
	payload string
}

// next reads a frame.
func (p *rawPeer) next() (rawFrame, error) {
	var head [8]byte
	if _, err := io.ReadFull(p.r, head[:2]); err != nil {
		return rawFrame{}, err
	}
	f := rawFrame{first: head[0], masked: head[1]&0x80 != 0}
	size := uint64(head[1] &^ 0x80)
	switch size {
	case 126:
		if _, err := io.ReadFull(p.r, head[:2]); err != nil {
			return f, err
		}
		size = uint64(binary.BigEndian.Uint16(head[:2]))
	case 127:
		if _, err := io.ReadFull(p.r, head[:8]); err != nil {
			return f, err
		}
		size = binary.BigEndian.Uint64(head[:8])
	}
	if size > 1<<20 {
		return f, fmt.Errorf("a frame of %d bytes", size)
	}
	var key [4]byte
	if f.masked {
		if _, err := io.ReadFull(p.r, key[:]); err != nil {
			return f, err
		}
	}
	payload := make([]byte, size)
	if _, err := io.ReadFull(p.r, payload); err != nil {
		return f, err
	}
	for i := range payload {
		payload[i] ^= key[i%4]
	}
	f.payload = string(payload)
	return f, nil
}

// want reads a frame that must be this one.
func (p *rawPeer) want(first byte, payload string) {
	p.t.Helper()
	f, err := p.next()
	if err != nil {
		p.t.Fatalf("want the frame %#x: %v", first, err)
	}
	if f.first != first || f.payload != payload || f.masked == p.client {
		p.t.Fatalf("got the frame %#x %.50q, masked %t; want %#x %.50q, masked as its side must", f.first, f.payload, f.masked, first, payload)
	}
}

// wantClose reads a close frame with this code, behind pongs if there are any.
func (p *rawPeer) wantClose(code uint16) {
	p.t.Helper()
	f, err := p.next()
	if err != nil {
		p.t.Fatalf("want a close frame: %v", err)
	}
	if f.first != fin|closing || len(f.payload) < 2 || binary.BigEndian.Uint16([]byte(f.payload)) != code || f.masked == p.client {
		p.t.Fatalf("got the frame %#x %q, want a close frame with %d", f.first, f.payload, code)
	}
}

// wantEOF reads the end of the connection, and nothing before it.
func (p *rawPeer) wantEOF() {
	p.t.Helper()
	if b, err := p.r.ReadByte(); !errors.Is(err, io.EOF) {
		p.t.Fatalf("got %#x and the error %v, want the connection's end", b, err)
	}
}

// fin ends our peer's direction of the connection.
func (p *rawPeer) finish() {
	p.t.Helper()
	if err := p.Conn.(*net.TCPConn).CloseWrite(); err != nil {
		p.t.Fatal(err)
	}
}

// reset resets it.
func (p *rawPeer) reset() {
	p.t.Helper()
	if err := p.Conn.(*net.TCPConn).SetLinger(0); err != nil {
		p.t.Fatal(err)
	}
	p.Close()
}

// isKind reports whether err is an *anysock.Error of that kind.
func isKind(err error, kind anysock.Kind) bool {
	var e *anysock.Error
	return errors.As(err, &e) && e.Kind == kind
}
