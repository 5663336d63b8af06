package ws

import (
	"context"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anysock/anysock"
)

// acceptKey is the answer to a key (RFC 6455 section 4.2.2).
func acceptKey(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// Whoever is no good client gets the right status, as an answer that arrives
// whole and is followed by an end, not by a reset; also with bytes behind the
// request that nobody has read.
func TestRefusals(t *testing.T) {
	const path = "/a%2Fb/c"
	ln := listen(t, "ws://127.0.0.1:0"+path)
	host := ln.Addr().String()
	good := request(path, host)
	for _, c := range []struct {
		name    string
		request string
		status  int
		header  string // that the answer must have
	}{
		{"no HTTP", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, ""},
		{"no version", "GET /\r\n\r\n", 400, ""},
		{"a request line without a target", "GET HTTP/1.1\r\n\r\n", 400, ""},
		{"HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 405, "Allow"},
		{"HTTP/1.0", strings.Replace(good, "HTTP/1.1", "HTTP/1.0", 1), 426, "Upgrade"},
		{"a method that is not GET", strings.Replace(good, "GET", "POST", 1), 405, "Allow"},
		{"HEAD", strings.Replace(good, "GET", "HEAD", 1), 405, "Allow"},
		{"a foreign path", request("/a/b/c", host), 404, ""},
		{"a longer path", request(path+"/", host), 404, ""},
		{"a path in other case", request("/A%2Fb/c", host), 404, ""},
		{"no Host", strings.Replace(good, "Host: "+host+"\r\n", "", 1), 400, ""},
		{"two Hosts", request(path, host, "Host: "+host), 400, ""},
		{"a body", request(path, host, "Content-Length: 3"), 400, ""},
		{"a chunked body", request(path, host, "Transfer-Encoding: chunked"), 400, ""},
		{"no Upgrade", strings.Replace(good, "Upgrade: websocket\r\n", "", 1), 426, "Upgrade"},
		{"another Upgrade", strings.Replace(good, "websocket", "h2c", 1), 426, "Upgrade"},
		{"no Connection", strings.Replace(good, "Connection: Upgrade\r\n", "", 1), 426, "Upgrade"},
		{"an old version", strings.Replace(good, "Version: 13", "Version: 8", 1), 426, "Sec-WebSocket-Version"},
		{"no WebSocket version", strings.Replace(good, "Sec-WebSocket-Version: 13\r\n", "", 1), 400, ""},
		{"no key", strings.Replace(good, "Sec-WebSocket-Key: "+testKey+"\r\n", "", 1), 400, ""},
		{"a short key", strings.Replace(good, testKey, "c2hvcnQ=", 1), 400, ""},
		{"two keys", request(path, host, "Sec-WebSocket-Key: "+testKey), 400, ""},
		{"a foreign origin", request(path, host, "Origin: https://evil.example"), 403, ""},
		{"its own host over TLS", request(path, host, "Origin: https://"+host), 403, ""},
		{"another port", request(path, host, "Origin: http://127.0.0.1:1"), 403, ""},
		{"the opaque origin", request(path, host, "Origin: null"), 403, ""},
		{"two origins", request(path, host, "Origin: http://"+host, "Origin: http://"+host), 403, ""},
		{"a header that is no header", request(path, host, "no colon"), 400, ""},
		{"a control character", request(path, host, "X: a\x00b"), 400, ""},
		{"one long header", request(path, host, "X: "+strings.Repeat("x", maxHead)), 431, ""},
		{"many headers", request(path, host, strings.Repeat("X: y\r\n", maxHead/6)+"X: y"), 431, ""},
		{"a request line without an end", "GET /" + strings.Repeat("x", maxHead), 431, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := rawDial(t, ln.Addr())
			p.send(c.request + strings.Repeat("\xff", 1000))
			resp := p.answer()
			body, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Fatalf("the answer's body: %v", err)
			}
			if resp.StatusCode != c.status || c.header != "" && resp.Header.Get(c.header) == "" {
				t.Errorf("status %d with the header %v, want %d and %q", resp.StatusCode, resp.Header, c.status, c.header)
			}
			if len(body) < 10 || resp.Header.Get("X-Content-Type-Options") != "nosniff" || strings.ContainsAny(string(body), "\x00\x1b") {
				t.Errorf("the answer says %q, with the header %v", body, resp.Header)
			}
			p.wantEOF()
		})
	}
}

// What a client may do besides the usual is no reason to refuse it.
func TestAcceptances(t *testing.T) {
	ln := listen(t, "ws://127.0.0.1:0/a?origin=https://app.example&origin=null&subprotocol=b&subprotocol=a")
	host := ln.Addr().String()
	for _, c := range []struct{ name, request, protocol string }{
		{"as the RFC has it", request("/a", host), ""},
		{"a query", request("/a?x=y", host), ""},
		{"an escaped path", request("/%61", host), ""},
		{"an absolute target", request("http://"+host+"/a", host), ""},
		{"other case", strings.NewReplacer("websocket\r", "WebSocket\r", "Connection: Upgrade", "connection: keep-alive, upgrade").Replace(request("/a", host)), ""},
		{"its own origin", request("/a", host, "Origin: http://"+host), ""},
		{"an allowed origin", request("/a", host, "Origin: https://app.example"), ""},
		{"the opaque origin, allowed", request("/a", host, "Origin: null"), ""},
		{"compression offered", request("/a", host, "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"), ""},
		{"subprotocols, ours preferred", request("/a", host, "Sec-WebSocket-Protocol: a, b"), "b"},
		{"subprotocols in two lines", request("/a", host, "Sec-WebSocket-Protocol: c", "Sec-WebSocket-Protocol: a"), "a"},
		{"no common subprotocol", request("/a", host, "Sec-WebSocket-Protocol: A, c"), ""},
		{"lc offered to one without", request("/a", host, "Sec-WebSocket-Protocol: "+lcSubprotocol), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := rawDial(t, ln.Addr())
			p.send(c.request)
			resp := p.answer()
			h := resp.Header
			if resp.StatusCode != http.StatusSwitchingProtocols || h.Get("Sec-WebSocket-Accept") != testAccept ||
				h.Get("Sec-WebSocket-Protocol") != c.protocol || h.Get("Sec-WebSocket-Extensions") != "" {
				t.Fatalf("status %d with the header %v", resp.StatusCode, h)
			}
			y := accept(t, ln)
			p.frame(fin|binaryData, "hello")
			wantRead(t, y, "hello")
		})
	}
}

// wantRead reads exactly this.
func wantRead(t testing.TB, c *anysock.Conn, want string) {
	t.Helper()
	buf := make([]byte, len(want))
	n, err := c.ReadAtLeast(bounded(t), buf, len(buf))
	if err != nil || string(buf[:n]) != want {
		t.Fatalf("read %.100q, %v; want %.100q", buf[:n], err, want)
	}
}

// Frames that follow the request at once are kept.
func TestFramesBehindTheRequest(t *testing.T) {
	ln := listen(t, "ws://127.0.0.1:0")
	for _, size := range []int{1, 100, headBuffer, 3 * headBuffer} {
		p := rawDial(t, ln.Addr())
		data := strings.Repeat("d", size)
		p.send(request("/", "localhost") + string(frame(fin|binaryData, []byte(data), true)) + string(frame(fin|binaryData, []byte("more"), true)))
		if resp := p.answer(); resp.StatusCode != http.StatusSwitchingProtocols {
			t.Fatalf("status %d", resp.StatusCode)
		}
		wantRead(t, accept(t, ln), data+"more")
	}
}

// TestSlowHandshake: a client that sends a byte every 5 seconds, or nothing, is
// thrown out at the handshake's bound, and holds up nobody meanwhile. The
// connections are in memory and the clock is the test's.
func TestSlowHandshake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		ln, err := anysock.Listen(ctx, "ws+mem:slow")
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		var slow sync.WaitGroup
		for i := range 20 {
			c, err := anysock.Dial(ctx, "mem:slow")
			if err != nil {
				t.Fatal(err)
			}
			slow.Go(func() {
				began := time.Now()
				for _, b := range []byte(request("/", "localhost")) {
					if i%2 == 0 {
						_, _ = c.Read(make([]byte, 1)) // says nothing at all
						break
					}
					if _, err := c.Write([]byte{b}); err != nil {
						break
					}
					<-time.After(5 * time.Second)
				}
				if took := time.Since(began); took < anysock.DefaultHandshake || took > anysock.DefaultHandshake+10*time.Second {
					t.Errorf("a slow client was there for %s, want %s", took, anysock.DefaultHandshake)
				}
				_ = c.Abort()
			})
		}
		synctest.Wait()
		began := time.Now()
		x, err := anysock.Dial(ctx, "ws+mem:slow?ping=0")
		if err != nil {
			t.Fatal(err)
		}
		y, err := ln.AcceptContext(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took > time.Second {
			t.Errorf("a quick client waited %s behind slow ones", took)
		}
		_, _ = x.Abort(), y.Abort()
		slow.Wait()
	})
}

// A client gives up on a silent server, at the bound or when it is told to.
func TestSilentServer(t *testing.T) {
	silent := func() net.Listener {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { ln.Close() })
		return ln
	}
	ln := silent() // the kernel accepts, and nobody answers
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := anysock.Dial(ctx, "ws://"+ln.Addr().String())
	if !errors.Is(err, context.DeadlineExceeded) || !isKind(err, anysock.KindTimeout) {
		t.Errorf("a server that says nothing: %v", err)
	}
	ln = silent()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	go func() {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		_, _ = c.Read(make([]byte, 1))
		stop()
		_, _ = io.Copy(io.Discard, c)
	}()
	_, err = anysock.Dial(ctx, "ws://"+ln.Addr().String())
	if !errors.Is(err, context.Canceled) || !isKind(err, anysock.KindCanceled) {
		t.Errorf("a dial that was cancelled: %v", err)
	}
}
