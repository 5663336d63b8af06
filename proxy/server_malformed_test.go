// This file tests what is said to requests that make no sense, byte for byte,
// however they arrive; and that bytes behind a request are kept.

package proxy

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/relay"
)

const (
	failed5  = "\x05\x01\x00\x01\x00\x00\x00\x00\x00\x00"
	failed4  = "\x00\x5b\x00\x00\x00\x00\x00\x00"
	greet5   = "\x05\x01\x00"
	chosen5  = "\x05\x00"
	refused5 = "\x05\xff"
)

// malformedRequests are requests and what they are answered with. An answer
// that begins with HTTP is a status.
var malformedRequests = []struct{ name, say, want string }{
	{"no methods", "\x05\x00", refused5},
	{"no method that we have", "\x05\x02\x01\x80", refused5},
	{"version of the request", greet5 + "\x04\x01\x00\x01\x7f\x00\x00\x01\x00\x50", chosen5 + failed5},
	{"reserved byte", greet5 + "\x05\x01\x01\x01\x7f\x00\x00\x01\x00\x50", chosen5 + failed5},
	{"type of address 0", greet5 + "\x05\x01\x00\x00\x7f\x00\x00\x01\x00\x50", chosen5 + "\x05\x08\x00\x01\x00\x00\x00\x00\x00\x00"},
	{"type of address 2", greet5 + "\x05\x01\x00\x02\x7f\x00\x00\x01\x00\x50", chosen5 + "\x05\x08\x00\x01\x00\x00\x00\x00\x00\x00"},
	{"name of no bytes", greet5 + "\x05\x01\x00\x03\x00\x00\x50", chosen5 + failed5},
	{"NUL in the name", greet5 + "\x05\x01\x00\x03\x03a\x00b\x00\x50", chosen5 + failed5},
	{"newline in the name", greet5 + "\x05\x01\x00\x03\x03a\nb\x00\x50", chosen5 + failed5},
	{"brackets in the name", greet5 + "\x05\x01\x00\x03\x05[::1]\x00\x50", chosen5 + failed5},
	{"zone in the name", greet5 + "\x05\x01\x00\x03\x08fe80::1%\x00\x50", chosen5 + failed5},
	{"port 0", greet5 + "\x05\x01\x00\x01\x7f\x00\x00\x01\x00\x00", chosen5 + failed5},
	{"command 0", greet5 + "\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x50", chosen5 + "\x05\x07\x00\x01\x00\x00\x00\x00\x00\x00"},
	{"SOCKS4 name of no bytes", "\x04\x01\x00\x50\x00\x00\x00\x01who\x00\x00", failed4},
	{"SOCKS4 name with newline", "\x04\x01\x00\x50\x00\x00\x00\x01who\x00a\nb\x00", failed4},
	{"SOCKS4 user without end", "\x04\x01\x00\x50\x7f\x00\x00\x01" + strings.Repeat("u", 300), failed4},
	{"SOCKS4 name without end", "\x04\x01\x00\x50\x00\x00\x00\x01\x00" + strings.Repeat("n", 300), failed4},
	{"SOCKS4 command", "\x04\x07\x00\x50\x7f\x00\x00\x01\x00", failed4},
	{"HTTP without version", "CONNECT host:80\r\n\r\n", "HTTP/1.1 400 "},
	{"HTTP without target", "CONNECT  HTTP/1.1\r\n\r\n", "HTTP/1.1 400 "},
	{"HTTP without port", "CONNECT host HTTP/1.1\r\n\r\n", "HTTP/1.1 400 "},
	{"HTTP port 0", "CONNECT 127.0.0.1:0 HTTP/1.1\r\n\r\n", "HTTP/1.1 400 "},
	{"HTTP port too large", "CONNECT host:65536 HTTP/1.1\r\n\r\n", "HTTP/1.1 400 "},
	{"HTTP target with user", "CONNECT user@host:80 HTTP/1.1\r\n\r\n", "HTTP/1.1 400 "},
	{"HTTP target with path", "CONNECT host:80/x HTTP/1.1\r\n\r\n", "HTTP/1.1 400 "},
	{"HTTP NUL", "CONNECT ho\x00st:80 HTTP/1.1\r\n\r\n", "HTTP/1.1 400 "},
	{"HTTP line without colon", "CONNECT host:80 HTTP/1.1\r\nHost\r\n\r\n", "HTTP/1.1 400 "},
	{"HTTP folded line", "CONNECT host:80 HTTP/1.1\r\nHost: a\r\n b\r\n\r\n", "HTTP/1.1 400 "},
	{"HTTP space before colon", "CONNECT host:80 HTTP/1.1\r\nHost : a\r\n\r\n", "HTTP/1.1 400 "},
	{"HTTP with length", "CONNECT host:80 HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello", "HTTP/1.1 400 "},
	{"HTTP with two lengths", "CONNECT host:80 HTTP/1.1\r\nContent-Length: 0\r\ncontent-length: 7\r\n\r\n", "HTTP/1.1 400 "},
	{"HTTP chunked", "CONNECT host:80 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", "HTTP/1.1 400 "},
	{"HTTP/3", "CONNECT host:80 HTTP/3\r\n\r\n", "HTTP/1.1 400 "},
	{"HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "HTTP/1.1 505 "},
	{"HTTP GET", "GET http://127.0.0.1/ HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", "HTTP/1.1 405 "},
	{"HTTP method", "BREW pot:80 HTTP/1.1\r\n\r\n", "HTTP/1.1 501 "},
	{"HTTP long", "CONNECT host:80 HTTP/1.1\r\n" + strings.Repeat("X: y\r\n", maxHead/6+1), "HTTP/1.1 431 "},
	{"HTTP long line", "CONNECT " + strings.Repeat("h", maxHead) + ":80 HTTP/1.1\r\n\r\n", "HTTP/1.1 431 "},
	{"SSH", "SSH-2.0-OpenSSH_9.6\r\n\r\n", "HTTP/1.1 400 "},
}

func TestMalformedRequests(t *testing.T) {
	st := newStation(t, &Server{})
	for _, c := range malformedRequests {
		for _, pieces := range []int{0, 1} {
			if pieces == 1 && len(c.say) > 1000 {
				pieces = 100
			}
			name := c.name
			if pieces > 0 {
				name += " in pieces"
			}
			t.Run(name, func(t *testing.T) {
				conn := st.dial()
				say(t, conn, c.say, pieces)
				got := readAll(t, conn)
				if http := strings.HasPrefix(c.want, "HTTP"); http && !strings.HasPrefix(got, c.want) || !http && got != c.want {
					t.Errorf("%q is answered with %q, want %q", c.say[:min(len(c.say), 100)], got, c.want)
				}
				_, _ = conn.Disconnect(context.Background())
				r := st.record()
				if r.How != anysock.Refused || r.By != relay.Self || r.Err == nil || r.Reply == nil {
					t.Errorf("the record: %v", r)
				}
				if r.Inbound.How != anysock.Graceful {
					t.Errorf("the client's leg ended %v: %s", r.Inbound.How, r.Inbound.Error)
				}
			})
		}
	}
}

// A client that ends its direction in the middle is told, and hangs nowhere.
func TestTruncatedRequests(t *testing.T) {
	st := newStation(t, &Server{})
	for _, whole := range []string{
		"\x05\x03\x00\x01\x02" + "\x05\x01\x00\x03\x04host\x00\x50",
		"\x04\x01\x00\x50\x00\x00\x00\x01who\x00host\x00",
		"CONNECT host:80 HTTP/1.1\r\nHost: host:80\r\n\r\n",
	} {
		for n := range len(whole) {
			c := st.dial()
			say(t, c, whole[:n], 0)
			if err := c.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			got := readAll(t, c)
			c.Close()
			r := st.record()
			if n == 0 {
				if got != "" || r.By != relay.Inbound || !errors.Is(r.Err, errNoRequest) || r.Reply != nil {
					t.Errorf("nothing was answered with %q, %v", got, r)
				}
				continue
			}
			if got == "" || r.How != anysock.Refused || r.By != relay.Self {
				t.Errorf("%q was answered with %q, %v", whole[:n], got, r)
			}
		}
	}
}

// What the client sends behind its request belongs to the target, in whatever
// pieces it all arrives.
func TestPipelinedBytes(t *testing.T) {
	to := newTarget(t, "127.0.0.1", echo)
	st := newStation(t, &Server{})
	data := strings.Repeat("pipelined \x05\x04\r\n\r\n", 3)
	for name, request := range map[string]string{"socks5": socks5(commandConnect, at(to)), "socks4": socks4(commandConnect, at(to)), "http": httpConnect(at(to)), "http LF": "CONNECT " + to.String() + " HTTP/1.0\n\n"} {
		for _, pieces := range []int{0, 1, 7} {
			t.Run(name+strconv.Itoa(pieces), func(t *testing.T) {
				c := st.dial()
				say(t, c, request+data, pieces)
				if err := c.CloseWrite(); err != nil {
					t.Fatal(err)
				}
				if got := readAll(t, c); !strings.HasSuffix(got, data) || strings.Count(got, "pipelined") != 3 {
					t.Errorf("got %q", got)
				}
				c.Close()
				if r := st.record(); r.ToOutbound.Bytes != int64(len(data)) || r.How != anysock.Graceful {
					t.Errorf("%v", r)
				}
			})
		}
	}
}

// What is no request of ours is reset, and the record says what it was.
func TestForeignProtocols(t *testing.T) {
	st := newStation(t, &Server{})
	for name, c := range map[string]struct{ say, why string }{
		"TLS":       {"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00", "TLS"},
		"zero":      {"\x00", "0x00"},
		"lowercase": {"connect host:80 HTTP/1.1\r\n\r\n", "0x63"},
		"SOCKS6":    {"\x06\x01", "0x06"},
	} {
		t.Run(name, func(t *testing.T) {
			conn := st.dial()
			say(t, conn, c.say, 0)
			if got := wantReset(t, conn); got != "" {
				t.Errorf("answered with %q", got)
			}
			r := st.record()
			wantRefused(t, r, relay.Self, -1)
			if !errors.Is(r.Err, errUnknownProtocol) || !strings.Contains(r.Err.Error(), c.why) {
				t.Errorf("the record says %v", r.Err)
			}
		})
	}
}

// A client that goes on sending after its refusal still gets the reply: a
// reset would destroy it.
func TestReplySurvivesTalkativeClient(t *testing.T) {
	st := newStation(t, &Server{})
	c := st.dial()
	say(t, c, greet5+"\x05\x01\x01\x01\x7f\x00\x00\x01\x00\x50", 0)
	say(t, c, strings.Repeat("x", 256<<10), 0)
	got, err := io.ReadAll(c)
	if err != nil || string(got) != chosen5+failed5 {
		t.Errorf("%q, %v", got, err)
	}
	c.Close()
	wantRefused(t, st.record(), relay.Self, 1)
}

// Nothing arrives one byte at a time without an end.
func TestSlowHandshake(t *testing.T) {
	to := newTarget(t, "127.0.0.1", echo)
	st := newStation(t, &Server{Handshake: 400 * time.Millisecond})
	const quick = 20 // clients that are not slow
	slow := map[string]string{
		"nothing": "", "socks5": "\x05\xff", "socks5 request": greet5 + "\x05\x01\x00\x03\xff", "socks4": "\x04\x01\x00\x50\x7f\x00\x00\x01",
		"http": "CONNECT host:80 HTTP/1.1\r\nX: ", "http line": "C",
	}
	for name, begin := range slow {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			start := time.Now()
			c := st.dial()
			say(t, c, begin, 0)
			tick := time.NewTicker(20 * time.Millisecond)
			defer tick.Stop()
			for begin != "" && time.Since(start) < patience {
				if _, err := c.Write([]byte("a")); err != nil {
					break
				}
				<-tick.C
			}
			var b [64]byte
			var err error
			for err == nil {
				_, err = c.Read(b[:])
			}
			var e *anysock.Error
			if !errors.As(err, &e) || e.Kind != anysock.KindReset {
				t.Errorf("ended with %v, want a reset", err)
			}
			if took := time.Since(start); took < 400*time.Millisecond || took > 5*time.Second {
				t.Errorf("cut after %v", took)
			}
		})
	}
	t.Run("others", func(t *testing.T) {
		t.Parallel()
		for range quick {
			c := st.through(at(to))
			say(t, c, "hello", 0)
			readExactly(t, c, "hello")
			c.Close()
		}
	})
	t.Cleanup(func() {
		n := 0
		for range len(slow) + quick {
			if r := st.record(); errors.Is(r.Err, errHandshakeTime) {
				n++
				wantRefused(t, r, relay.Self, replyCode(r))
			}
		}
		if n != len(slow) {
			t.Errorf("%d records of clients that were too slow, want %d", n, len(slow))
		}
	})
}

func replyCode(r Record) int {
	if r.Reply == nil {
		return -1
	}
	return r.Reply.Code
}

// FuzzServerRequest sends anything to the port. Whatever it is, the connection
// ends, once, with one line of a record; and nothing is dialed but what the
// request named.
func FuzzServerRequest(f *testing.F) {
	for _, c := range malformedRequests {
		f.Add([]byte(c.say))
	}
	f.Add([]byte(socks5(commandConnect, endpoint{name: "host.test", port: 80})))
	f.Add([]byte(socks4(commandConnect, endpoint{name: "host.test", port: 80})))
	f.Add([]byte(httpConnect(endpoint{name: "host.test", port: 80}) + "more"))
	users, err := ReadUsers(strings.NewReader("alice:" + hashOf(f, "secret")))
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte("\x05\x01\x02\x01\x05alice\x06secret\x05\x01\x00\x03\x09host.test\x00\x50"))
	var fuzzed []*station
	for _, u := range []*Users{nil, users} {
		// Nobody is reached: every name and address is denied.
		s := &Server{Users: u, Rules: Rules{Default: PolicyDeny}, Handshake: 2 * time.Second}
		fuzzed = append(fuzzed, newStation(f, s))
	}
	f.Fuzz(func(t *testing.T, request []byte) {
		for _, st := range fuzzed {
			st.t = t
			c, err := anysock.Dial(context.Background(), "tcp://"+st.addr)
			if err != nil {
				t.Fatal(err)
			}
			_ = c.SetDeadline(time.Now().Add(patience))
			_, _ = c.Write(request)
			_ = c.CloseWrite()
			got, err := io.ReadAll(c)
			var e *anysock.Error
			if err != nil && (!errors.As(err, &e) || e.Kind != anysock.KindReset) {
				t.Errorf("%q: ended with %v", request, err)
			}
			_ = c.Abort()
			r := st.record()
			if r.How == anysock.NotEnded || !r.Connected.IsZero() {
				t.Errorf("%q: the record is %v", request, r)
			}
			if bytes.Contains(got, []byte("200 ")) {
				t.Errorf("%q was granted", request)
			}
			if _, err := r.MarshalJSON(); err != nil {
				t.Error(err)
			}
		}
	})
}

// FuzzHTTPConnect reads heads of requests; a second reading of what was
// understood is the same.
func FuzzHTTPConnect(f *testing.F) {
	for _, c := range malformedRequests {
		if strings.HasPrefix(c.want, "HTTP") {
			f.Add(c.say)
		}
	}
	f.Add(httpConnect(endpoint{name: "host.test", port: 80}))
	f.Fuzz(func(t *testing.T, head string) {
		line, fields, err := parseHead([]byte(head))
		if err != nil {
			return
		}
		authority, err := parseRequestLine(line)
		var no *refusal
		if err != nil {
			if !errors.As(err, &no) || answers[no.why].http < 400 {
				t.Errorf("%q: %v", line, err)
			}
			return
		}
		if err := checkNoContent(fields); err != nil {
			return
		}
		e, err := parseEndpoint(authority)
		if err != nil {
			return
		}
		if again, err := parseEndpoint(e.String()); err != nil || again != e {
			t.Errorf("%q is %v, and that is %v, %v", authority, e, again, err)
		}
		if strings.ContainsAny(e.String(), "\r\n\x00 ") {
			t.Errorf("%q is %q", authority, e)
		}
	})
}
