package ws

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/anysock/anysock"
)

// An httpServer answers each connection once: with what answer returns for the
// request. Then it ends its direction and waits for the client's end.
func httpServer(t *testing.T, answer func(req *http.Request) string) (addr string, requests <-chan *http.Request) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	seen := make(chan *http.Request, 100)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			p := newRawPeer(t, c, false)
			req, err := http.ReadRequest(p.r)
			if err != nil {
				c.Close()
				continue
			}
			seen <- req
			_, _ = io.WriteString(c, answer(req))
			_ = c.(*net.TCPConn).CloseWrite()
			_, _ = io.Copy(io.Discard, p.r)
			c.Close()
		}
	}()
	t.Cleanup(func() {
		ln.Close()
		<-done
	})
	return ln.Addr().String(), seen
}

// What a request says, by option.
func TestRequest(t *testing.T) {
	addr, requests := httpServer(t, func(req *http.Request) string {
		if p := req.Header.Get("Sec-WebSocket-Protocol"); p != "" {
			last := p[strings.LastIndex(p, ",")+1:]
			return answerTo(req, "Sec-WebSocket-Protocol: "+last)
		}
		return answerTo(req)
	})
	t.Setenv("WS_TEST_TOKEN", "t0k3n")
	secrets := filepath.Join(t.TempDir(), "headers")
	if err := os.WriteFile(secrets, []byte("Cookie: a=b\n\nX-Key: k\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	// Whatever the environment says about proxies is not for us.
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1")
	t.Setenv("http_proxy", "http://127.0.0.1:1")
	for _, c := range []struct {
		options string
		target  string
		host    string
		header  map[string]string
	}{
		{"", "/", addr, nil},
		{"/a%2Fb/c", "/a%2Fb/c", addr, nil},
		{"/c?query=x=y%26z=%2520", "/c?x=y&z=%20", addr, nil},
		{"/?host=edge.example", "/", "edge.example", nil},
		{"/?host=[::1]:8", "/", "[::1]:8", nil},
		{"/?path=/from/option", "/from/option", addr, nil},
		{"/?origin=https://app.example", "/", addr, map[string]string{"Origin": "https://app.example"}},
		{"/?origin=null", "/", addr, map[string]string{"Origin": "null"}},
		{"/?header=X-A:b:c&header=X-D:%20e%20&header=User-Agent:me", "/", addr, map[string]string{"X-A": "b:c", "X-D": "e", "User-Agent": "me"}},
		{"/?auth-token=env:WS_TEST_TOKEN", "/", addr, map[string]string{"Authorization": "Bearer t0k3n"}},
		{"/?header-secret=file:" + secrets, "/", addr, map[string]string{"Cookie": "a=b", "X-Key": "k"}},
		{"/?subprotocol=a&subprotocol=b", "/", addr, map[string]string{"Sec-WebSocket-Protocol": "a,b"}},
	} {
		conn, err := anysock.Dial(bounded(t), "ws://"+addr+c.options)
		if err != nil {
			t.Errorf("%s: %v", c.options, err)
			continue
		}
		req := <-requests
		_ = conn.Abort()
		want := map[string]string{"Upgrade": "websocket", "Connection": "Upgrade", "Sec-Websocket-Version": "13", "User-Agent": "anysock"}
		maps.Copy(want, c.header)
		for name, value := range want {
			if got := req.Header.Values(name); len(got) == 0 || got[len(got)-1] != value {
				t.Errorf("%s: header %s is %q, want %q", c.options, name, got, value)
			}
		}
		if req.RequestURI != c.target || req.Host != c.host || req.Method != http.MethodGet {
			t.Errorf("%s: %s %s for %s, want %s for %s", c.options, req.Method, req.RequestURI, req.Host, c.target, c.host)
		}
	}
}

// The Host header where the address does not give it as it is.
func TestHostHeader(t *testing.T) {
	for addr, want := range map[string]string{
		"ws://edge:80/":             "edge",
		"ws://edge:443/":            "edge:443",
		"wss://edge:443/":           "edge",
		"wss://edge:80/":            "edge:80",
		"ws://[2001:db8::1]:80/":    "[2001:db8::1]",
		"ws://[fe80::1%25eth0]:81/": "[fe80::1]:81",
		"ws://:3005/":               "localhost:3005",
		"ws+unix:/run/s":            "localhost",
		"ws+tls+mem:x":              "localhost",
		"ws+exec:/bin/cat":          "localhost",
	} {
		var target anysock.Target
		target.Hop = anysock.MustParseAddress(addr).Hops()[0]
		d, err := readDialSettings(target)
		if err != nil || d.host != want {
			t.Errorf("%s: Host %q, %v; want %q", addr, d.host, err, want)
		}
	}
}

// Whatever is not the right answer is an error that says what came and what to
// try, and is harmless on a terminal.
func TestAnswers(t *testing.T) {
	replace := func(old, text string) func(*http.Request) string {
		return func(req *http.Request) string { return strings.Replace(answerTo(req), old, text, 1) }
	}
	say := func(s string) func(*http.Request) string { return func(*http.Request) string { return s } }
	status := func(code int, lines ...string) func(*http.Request) string {
		return say(fmt.Sprintf("HTTP/1.1 %d %s\r\n%s\r\n", code, http.StatusText(code), joinLines(lines)))
	}
	add := func(line string) func(*http.Request) string {
		return func(req *http.Request) string { return answerTo(req, line) }
	}
	for _, c := range []struct {
		name   string
		answer func(*http.Request) string
		option string
		kind   anysock.Kind
		says   []string // in the error or its hint
	}{
		{"not found", status(404), "", anysock.KindAuth, []string{"404, Not Found", "path"}},
		{"forbidden, and why", say("HTTP/1.1 403 Forbidden\r\nContent-Length: 9\r\n\r\nno \x1b[31m!"), "", anysock.KindAuth, []string{"403", `no \x1b[31m!`, "origin"}},
		{"unauthorized", status(401), "", anysock.KindAuth, []string{"401", "auth-token"}},
		{"a redirect", status(302, "Location: ws://evil.example/"), "", anysock.KindAuth, []string{"302", "ws://evil.example/", "not followed"}},
		{"a gateway's error", status(502), "", anysock.KindAuth, []string{"502", "proxy"}},
		{"an answer that does not upgrade", status(200, "Content-Length: 0"), "", anysock.KindAuth, []string{"200"}},
		{"a status of three bells", say("HTTP/1.1 \a\a\a x\r\n\r\n"), "", anysock.KindAuth, nil},
		{"no Upgrade", replace("Upgrade: websocket\r\n", ""), "", anysock.KindAuth, nil},
		{"another Upgrade", replace("websocket", "h2c"), "", anysock.KindAuth, nil},
		{"no Connection", replace("Connection: Upgrade\r\n", ""), "", anysock.KindAuth, nil},
		{"a wrong key", replace("Accept: ", "Accept: x"), "", anysock.KindAuth, nil},
		{"an extension that was not asked for", add("Sec-WebSocket-Extensions: permessage-deflate"), "", anysock.KindAuth, nil},
		{"a subprotocol that was not asked for", add("Sec-WebSocket-Protocol: x"), "", anysock.KindAuth, nil},
		{"none of the subprotocols", add("X: y"), "subprotocol=a", anysock.KindAuth, []string{"subprotocol"}},
		{"a subprotocol in other case", add("Sec-WebSocket-Protocol: A"), "subprotocol=a", anysock.KindAuth, []string{"subprotocol"}},
		{"a long header", add("X: " + strings.Repeat("x", maxHead)), "", anysock.KindAuth, []string{"8192"}},
		{"many headers", add(strings.Repeat("X: y\r\n", maxHead/6) + "X: y"), "", anysock.KindAuth, []string{"8192"}},
		{"no HTTP", say("SSH-2.0-x\r\n"), "", anysock.KindAuth, []string{"does the other side speak WebSocket"}},
		{"TLS", say("\x15\x03\x01\x00\x02\x02\x16"), "", anysock.KindAuth, []string{"without TLS"}},
		{"nothing", say(""), "", anysock.KindTruncated, []string{"ended the connection"}},
		{"half an answer", say("HTTP/1.1 101 Switching Protocols\r\nUpgr"), "", anysock.KindAuth, []string{"Upgr"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			addr, _ := httpServer(t, c.answer)
			_, err := anysock.Dial(bounded(t), "ws://"+addr+"/?"+c.option+"&ping=0")
			if c.option == "" {
				_, err = anysock.Dial(bounded(t), "ws://"+addr)
			}
			var e *anysock.Error
			if !errors.As(err, &e) || e.Kind != c.kind || e.Op != anysock.OpHandshake || e.Hint == "" && c.says != nil {
				t.Fatalf("the error is %v (%+v), want kind %s", err, e, c.kind)
			}
			text := err.Error() + "\n" + e.Hint
			for _, want := range c.says {
				if !strings.Contains(text, want) {
					t.Errorf("the error does not say %q: %s", want, text)
				}
			}
			if strings.ContainsAny(text, "\x1b\a\x00") {
				t.Errorf("the error holds control characters: %q", text)
			}
		})
	}
}

// Frames that come with the answer are kept.
func TestFramesBehindTheAnswer(t *testing.T) {
	for _, size := range []int{1, 100, headBuffer, 3 * headBuffer} {
		data := strings.Repeat("d", size)
		addr, _ := httpServer(t, func(req *http.Request) string {
			return answerTo(req) + string(frame(fin|binaryData, []byte(data), false)) + string(closeFrame(1000, "", false))
		})
		c, err := anysock.Dial(bounded(t), "ws://"+addr)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(c); string(got) != data || err != nil {
			t.Errorf("%d bytes came of %d, %v", len(got), size, err)
		}
		_ = c.Abort()
	}
}

// A request that is longer than what servers take is not sent.
func TestRequestIsBounded(t *testing.T) {
	addr, requests := httpServer(t, func(req *http.Request) string { return answerTo(req) })
	file := filepath.Join(t.TempDir(), "headers")
	if err := os.WriteFile(file, []byte("X: "+strings.Repeat("x", maxHead)), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := anysock.Dial(bounded(t), "ws://"+addr+"/?header-secret=file:"+file)
	if !isKind(err, anysock.KindAddress) || len(requests) > 0 {
		t.Errorf("%v, and %d requests were sent", err, len(requests))
	}
}

// Under lc both sides insist on its subprotocol; without lc neither speaks it.
func TestLifecycleSubprotocol(t *testing.T) {
	for _, c := range []struct {
		listen, dial string
		ok           bool
	}{
		{"lc+ws", "lc+ws", true},
		{"ws", "ws", true},
		{"lc+ws", "ws", false},
		{"ws", "lc+ws", false},
	} {
		ln := listen(t, c.listen+"://127.0.0.1:0")
		x, err := anysock.Dial(bounded(t), c.dial+"://"+ln.Addr().String())
		if c.ok {
			if err != nil {
				t.Errorf("%s to %s: %v", c.dial, c.listen, err)
				continue
			}
			_, _ = x.Abort(), accept(t, ln).Abort()
			continue
		}
		var e *anysock.Error
		if !errors.As(err, &e) || e.Kind != anysock.KindAuth || !strings.Contains(e.Error()+e.Hint, "subprotocol anysock.lc.1") && c.dial == "lc+ws" {
			t.Errorf("%s to %s: %v, want an error of kind auth that names the subprotocol", c.dial, c.listen, err)
		}
	}

	// What is on the wire, exactly.
	addr, requests := httpServer(t, func(req *http.Request) string { return answerTo(req, "Sec-WebSocket-Protocol: "+lcSubprotocol) })
	x, err := anysock.Dial(bounded(t), "lc+ws://"+addr)
	if err != nil {
		t.Fatal(err)
	}
	_ = x.Abort()
	if got := (<-requests).Header.Values("Sec-WebSocket-Protocol"); len(got) != 1 || got[0] != "anysock.lc.1" {
		t.Errorf("the client offers %q", got)
	}
	ln := listen(t, "lc+ws://127.0.0.1:0")
	for protocols, status := range map[string]int{"anysock.lc.1": 101, "x, anysock.lc.1": 101, "ANYSOCK.LC.1": 400, "anysock.lc.2": 400, "": 400} {
		p := rawDial(t, ln.Addr())
		p.send(request("/", "localhost", "Sec-WebSocket-Protocol: "+protocols))
		resp := p.answer()
		if resp.StatusCode != status || status == 101 && resp.Header.Get("Sec-WebSocket-Protocol") != "anysock.lc.1" {
			t.Errorf("to the offer %q the server says %d, %v", protocols, resp.StatusCode, resp.Header)
		}
		if status == 101 {
			_ = accept(t, ln).Abort()
		}
	}
}
