package ws

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/anysock/anysock"
)

// memoryPair is two ends of a connection in memory.
func memoryPair(t testing.TB, name string) (near, far *anysock.Conn) {
	t.Helper()
	ln, err := anysock.Listen(t.Context(), "mem:"+name)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if near, err = anysock.Dial(t.Context(), "mem:"+name); err != nil {
		t.Fatal(err)
	}
	if far, err = ln.AcceptContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = near.Abort(), far.Abort() })
	return near, far
}

// say sends text and our end on c, and collects what comes.
func say(c *anysock.Conn, text []byte) <-chan []byte {
	heard := make(chan []byte, 1)
	go func() {
		b, _ := io.ReadAll(c)
		heard <- b
	}()
	_, _ = c.Write(text)
	_ = c.CloseWrite()
	return heard
}

// FuzzServer: whatever a client says, the server comes to an end with it, and
// answers with one HTTP response at most; it lets in only what asks for a
// WebSocket at its path, and then bytes in binary messages come out.
func FuzzServer(f *testing.F) {
	good := request("/t", "h")
	message := string(frame(fin|binaryData, []byte("data"), true))
	for _, s := range []string{
		"", "GET", good, good + message, good + message + string(closeFrame(1000, "", true)),
		good + string(frame(fin|text, []byte("text"), true)), good + string(frame(fin|binaryData, []byte("bare"), false)),
		good + string(frame(fin|ping, []byte("ping"), true)) + "\x82", good + "\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff",
		request("/other", "h"), strings.Replace(good, "GET", "POST", 1), request("/t", "h", "Origin: http://x"),
		"\x16\x03\x01\x00\x05hello", "GET / HTTP/1.0\r\n\r\n", request("/t", "h", "Transfer-Encoding: chunked") + "5\r\nhello\r\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		if len(in) > 64<<10 {
			return
		}
		near, far := memoryPair(t, "fuzz-server")
		heard := say(near, in)
		l := &listenSettings{settings: settings{path: "/t"}}
		ctx, cancel := context.WithTimeout(t.Context(), testBound)
		defer cancel()
		nc, err := server(ctx, far, anysock.Target{Prepared: l})
		if err != nil {
			if ctx.Err() != nil {
				t.Fatalf("the handshake hangs: %v", err)
			}
			_ = far.Abort()
			onlyOneAnswer(t, <-heard)
			return
		}
		req, perr := http.ReadRequest(bufio.NewReader(bytes.NewReader(in)))
		if perr != nil || req.Method != http.MethodGet || plainPath(req.URL.EscapedPath()) != "/t" || len(req.Header["Origin"]) > 0 && !l.allows(req.Header["Origin"], req.Host, far.LocalAddr()) {
			t.Fatalf("this was let in: %q", in)
		}
		drainStream(ctx, t, nc, len(in))
		<-heard
	})
}

// onlyOneAnswer: what was answered is nothing, or one response with a status
// that is an error.
func onlyOneAnswer(t *testing.T, b []byte) {
	if len(b) == 0 {
		return
	}
	r := bufio.NewReader(bytes.NewReader(b))
	resp, err := http.ReadResponse(r, &http.Request{Method: http.MethodGet})
	if err != nil {
		t.Fatalf("the answer %q: %v", b, err)
	}
	_, err = io.Copy(io.Discard, resp.Body)
	if err != nil || resp.StatusCode < 400 || resp.StatusCode > 499 || r.Buffered() > 0 {
		t.Fatalf("the answer is %d, %q, %v", resp.StatusCode, b, err)
	}
}

// drainStream reads all that comes of a stream and closes it: it must come to an
// end, with no more bytes than were sent, and not in a state that nothing ends.
func drainStream(ctx context.Context, t *testing.T, nc net.Conn, most int) {
	s := nc.(*stream)
	n, err := io.Copy(io.Discard, nc)
	if ctx.Err() != nil {
		t.Fatalf("reading hangs: %v", err)
	}
	if n > int64(most) {
		t.Fatalf("%d bytes came of %d", n, most)
	}
	var e *anysock.Error
	if err != nil && !errors.As(err, &e) {
		t.Fatalf("reading ended with %v (%T), which has no kind", err, err)
	}
	if err == nil {
		if err := s.CloseWrite(); err != nil {
			t.Fatalf("ending after the peer's end: %v", err)
		}
	}
	_ = s.Abort()
}

// FuzzClient: whatever a server says, the client comes to an end with it.
func FuzzClient(f *testing.F) {
	// The key of the request is not known, so the fuzzer writes KEY for the
	// right answer to it.
	good := "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: KEY\r\n\r\n"
	for _, s := range []string{
		"", "HTTP/1.1", good, good + string(frame(fin|binaryData, []byte("data"), false)) + string(closeFrame(1001, "bye", false)),
		good + string(frame(fin|text, []byte("text"), false)), good + string(frame(fin|binaryData, []byte("masked"), true)),
		good + "\x82\x7f\xff\xff\xff\xff\xff\xff\xff\xff", strings.Replace(good, "KEY", "no", 1),
		"HTTP/1.1 302 Found\r\nLocation: ws://x\r\n\r\n", "HTTP/1.1 100 Continue\r\n\r\n" + good,
		"HTTP/1.1 403 Forbidden\r\nContent-Length: 3\r\n\r\nno\n", "HTTP/2 200\r\n\r\n",
		strings.Replace(good, "\r\n\r\n", "\r\nSec-WebSocket-Extensions: x; y\r\n\r\n", 1),
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		if len(in) > 64<<10 {
			return
		}
		near, far := memoryPair(t, "fuzz-client")
		heard := make(chan struct{})
		go func() {
			defer close(heard)
			req, err := http.ReadRequest(bufio.NewReader(far))
			if err != nil {
				return
			}
			_, _ = far.Write(bytes.ReplaceAll(in, []byte("KEY"), []byte(acceptKey(req.Header.Get("Sec-WebSocket-Key")))))
			_ = far.CloseWrite()
			_, _ = io.Copy(io.Discard, far)
		}()
		ctx, cancel := context.WithTimeout(t.Context(), testBound)
		defer cancel()
		nc, err := client(ctx, near, anysock.Target{Prepared: &dialSettings{url: "http://h/", host: "h", header: http.Header{}}})
		if ctx.Err() != nil {
			t.Fatalf("the handshake hangs: %v", err)
		}
		if err == nil {
			drainStream(ctx, t, nc, len(in))
		} else if strings.ContainsFunc(err.Error(), func(r rune) bool { return r < ' ' || r == 0x7f || r == 0x9b }) {
			t.Fatalf("the error holds control characters: %q", err)
		}
		_ = near.Abort()
		<-heard
	})
}

// FuzzOptions: whatever an address says, its options are taken or refused, and
// what is taken makes a request of one header that says what it should.
func FuzzOptions(f *testing.F) {
	for _, s := range []string{
		"", "header=A:b", "header=A:b&header=C:d", "host=h:1&query=a=b", "origin=https://a&subprotocol=x&ping=1s&pong=2s",
		"path=/a%20b", "header=A:%0D%0AB:c", "host=a%0D%0A", "query=%20", "origin=null", "host=[::1]:1",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, options string) {
		if strings.Contains(options, "secret") || strings.Contains(options, "token") {
			return // these open files
		}
		const base = "ws+mem:fuzz-options"
		a, err := anysock.ParseAddress(base + "?" + options)
		if err != nil || len(a.Hops()) != 1 || a.Hops()[0].Opaque != "fuzz-options" {
			return
		}
		ln, err := anysock.Listen(t.Context(), "mem:fuzz-options")
		if err != nil {
			t.Fatal(err)
		}
		requests := make(chan *http.Request, 1)
		go func() {
			defer close(requests)
			c, err := ln.Accept()
			if err != nil {
				return
			}
			req, err := http.ReadRequest(bufio.NewReader(c))
			if err != nil {
				t.Errorf("%q makes a request that cannot be read: %v", options, err)
			}
			_ = c.(*anysock.Conn).Abort()
			requests <- req
		}()
		ctx, cancel := context.WithTimeout(t.Context(), testBound)
		defer cancel()
		c, err := (&anysock.Dialer{}).DialAddress(ctx, a)
		if err == nil {
			_ = c.Abort()
			t.Fatal("a handshake without an answer")
		}
		ln.Close()
		req := <-requests
		if req == nil {
			if !isKind(err, anysock.KindAddress) && !isKind(err, anysock.KindUnsupported) && ctx.Err() == nil {
				t.Fatalf("%q: refused with %v", options, err)
			}
			return
		}
		if len(req.Header["Upgrade"]) != 1 || len(req.Header["Sec-Websocket-Key"]) != 1 || len(req.Header["Connection"]) != 1 || req.ContentLength != 0 || req.Host == "" {
			t.Fatalf("%q makes the request %v", options, req)
		}
	})
}
