package tls

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anysock/anysock"
)

// plainServer is one connection of a server that does not speak TLS.
func plainServer(t *testing.T, f func(c *anysock.Conn)) (addr string) {
	t.Helper()
	ln := listen(t, "tcp://127.0.0.1:0")
	done := background(t, func() error {
		c, err := ln.AcceptContext(bounded(t))
		if err == nil {
			f(c)
		}
		return err
	})
	t.Cleanup(func() { ln.Close(); _ = wait(t, "the plain server", done) })
	return ln.Addr().String()
}

// Who is not at the other end is said, with what to try.
func TestPeerDoesNotSpeakTLS(t *testing.T) {
	for _, tt := range []struct {
		name  string
		serve func(c *anysock.Conn)
		kind  anysock.Kind
		words []string
	}{
		{"greets", func(c *anysock.Conn) {
			_, _ = io.WriteString(c, "220 mail.example ready\r\n")
			_, _ = c.Disconnect(context.Background())
		}, anysock.KindAuth, []string{"does not speak TLS"}},
		{"closes", func(c *anysock.Conn) {
			_, _ = c.Read(make([]byte, 4096))
			_, _ = c.Disconnect(context.Background())
		}, anysock.KindAuth, []string{"closed in the handshake", "does not speak TLS"}},
		{"resets", func(c *anysock.Conn) {
			_, _ = c.Read(make([]byte, 4096))
			_ = c.Abort()
		}, anysock.KindReset, []string{"does not speak TLS"}},
		{"echoes", func(c *anysock.Conn) {
			_, _ = io.Copy(c, c)
			_ = c.Close()
		}, anysock.KindAuth, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			wantError(t, dialError(t, "tls://"+plainServer(t, tt.serve)), tt.kind, tt.words...)
		})
	}
}

// Clients that do not speak TLS, or give up in the middle, cost the server
// their own connection only.
func TestClientDoesNotSpeakTLS(t *testing.T) {
	c := newCerts(t)
	ln := listen(t, "tls://127.0.0.1:0"+c.serving())
	for _, hello := range []string{"GET / HTTP/1.1\r\n\r\n", "\x16\x03\x01", "", strings.Repeat("\x16\x03\x01\x40\x00", 5000)} {
		nc, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		_, _ = io.WriteString(nc, hello) // a reset may come in the middle of the long one
		_ = nc.(*net.TCPConn).CloseWrite()
		if err := nc.SetReadDeadline(time.Now().Add(testBound)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, nc); errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("after %.20q the connection stays open: %v", hello, err)
		}
	}
	a := dial(t, "tls://"+ln.Addr().String()+c.trusting())
	write(t, a, "hello")
	expect(t, accept(t, ln), "hello")
}

// A handshake ends with its context, on a peer that is silent, and cancelling
// is told from a deadline.
func TestHandshakeIsBounded(t *testing.T) {
	silent := func(c *anysock.Conn) { _, _ = io.Copy(io.Discard, c); _ = c.Close() }
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := anysock.Dial(ctx, "tls://"+plainServer(t, silent))
	wantError(t, err, anysock.KindTimeout, "does it speak TLS")
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v does not match the context's error", err)
	}
	ctx, cancel = context.WithCancel(t.Context())
	asked := func(c *anysock.Conn) {
		_, _ = c.Read(make([]byte, 1))
		cancel()
		silent(c)
	}
	_, err = anysock.Dial(ctx, "tls://"+plainServer(t, asked))
	wantError(t, err, anysock.KindCanceled)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v does not match the context's error", err)
	}
}

// A client that sends a byte every 5 s, or none, is cut off after 10 s, and
// meanwhile others are served. A server that is so slow is given up as soon.
func TestSlowHandshake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCerts(t) // within the bubble: they are valid by its clock
		ln := listen(t, "tls+mem:slow"+c.serving())
		defer ln.Close()
		began := time.Now()
		gone := make(chan time.Duration)
		for _, hello := range []string{"", "\x16\x03\x01\x02\x00\x01"} {
			nc := dial(t, "mem:slow")
			go func() {
				for _, b := range []byte(hello) {
					if _, err := nc.Write([]byte{b}); err != nil {
						break
					}
					<-time.After(5 * time.Second)
				}
			}()
			go func() {
				_, err := io.Copy(io.Discard, nc)
				var e *anysock.Error
				if !errors.As(err, &e) || e.Kind != anysock.KindReset {
					t.Errorf("the slow client: %v, want a reset", err)
				}
				gone <- time.Since(began)
			}()
		}
		for range 3 {
			<-time.After(3 * time.Second)
			a := dial(t, "tls+mem:slow"+c.trusting("sni=localhost"))
			b := accept(t, ln)
			write(t, a, "hello")
			expect(t, b, "hello")
			_, _ = a.Abort(), b.Abort()
		}
		if now := time.Since(began); now != 9*time.Second {
			t.Errorf("others were served within %s, want at once", now-9*time.Second)
		}
		for range 2 {
			if after := <-gone; after != anysock.DefaultHandshake {
				t.Errorf("a slow client was cut off after %s, want %s", after, anysock.DefaultHandshake)
			}
		}

		slow := listen(t, "mem:slowserver")
		defer slow.Close()
		served := make(chan struct{})
		go func() {
			defer close(served)
			nc, err := slow.AcceptContext(t.Context())
			if err != nil {
				return
			}
			for _, b := range []byte("\x16\x03\x03\x40\x00" + strings.Repeat("\x02", 30)) {
				<-time.After(time.Second)
				if _, err := nc.Write([]byte{b}); err != nil {
					break
				}
			}
			_ = nc.Abort()
		}()
		began = time.Now()
		_, err := anysock.Dial(t.Context(), "tls+mem:slowserver?insecure=skip-verify")
		wantError(t, err, anysock.KindTimeout, "does it speak TLS")
		if after := time.Since(began); after != anysock.DefaultHandshake {
			t.Errorf("the slow server was given up after %s, want %s", after, anysock.DefaultHandshake)
		}
		<-served
	})
}
