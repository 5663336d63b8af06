// This file holds the tests' frame: what they leave behind is an error, and
// what they share.

package tls

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/internal/testcert"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// testBound is for what must happen, on a busy machine.
const testBound = 20 * time.Second

func bounded(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), testBound)
	t.Cleanup(cancel)
	return ctx
}

// certs are the certificates of one test.
type certs struct {
	*testcert.Authority
	server testcert.Certificate
}

func newCerts(t testing.TB) certs {
	t.Helper()
	a := testcert.New(t)
	return certs{a, a.Server(t)}
}

// serving are the options of a listener, trusting those of a client; more
// options may follow.
func (c certs) serving(more ...string) string {
	return options2("cert=file:"+c.server.CertFile, "key=file:"+c.server.KeyFile, more)
}

func (c certs) trusting(more ...string) string { return options2("ca=file:"+c.File, "", more) }

func options2(a, b string, more []string) string {
	var all []string
	for _, o := range append([]string{a, b}, more...) {
		if o != "" {
			all = append(all, o)
		}
	}
	return "?" + strings.Join(all, "&")
}

func listen(t testing.TB, addr string) *anysock.Listener {
	t.Helper()
	ln, err := anysock.Listen(bounded(t), addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln
}

func dial(t testing.TB, addr string) *anysock.Conn {
	t.Helper()
	c, err := anysock.Dial(bounded(t), addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Abort() })
	return c
}

// accept is the next connection of ln.
func accept(t testing.TB, ln *anysock.Listener) *anysock.Conn {
	t.Helper()
	c, err := ln.AcceptContext(bounded(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Abort() })
	return c
}

func write(t testing.TB, w io.Writer, s string) {
	t.Helper()
	if n, err := io.WriteString(w, s); err != nil || n != len(s) {
		t.Fatalf("write: %d of %d bytes, %v", n, len(s), err)
	}
}

// expect reads exactly s.
func expect(t testing.TB, r io.Reader, s string) {
	t.Helper()
	p := make([]byte, len(s))
	if _, err := io.ReadFull(r, p); err != nil || string(p) != s {
		t.Fatalf("read %q, %v, want %q", p, err, s)
	}
}

// ends wants end of file, and nothing before it.
func ends(t testing.TB, r io.Reader) {
	t.Helper()
	if p, err := io.ReadAll(r); err != nil || len(p) > 0 {
		t.Fatalf("read %q, %v, want the end of file", p, err)
	}
}

// graceful disconnects and wants nothing but that.
func graceful(t testing.TB, c *anysock.Conn) anysock.End {
	t.Helper()
	end, err := c.Disconnect(bounded(t))
	if err != nil || end.How != anysock.Graceful {
		t.Fatalf("disconnect: %v, %v", end, err)
	}
	return end
}

// wantError wants an *anysock.Error of the kind whose text and hint have the
// words.
func wantError(t testing.TB, err error, kind anysock.Kind, words ...string) {
	t.Helper()
	var e *anysock.Error
	if !errors.As(err, &e) {
		t.Fatalf("not an *anysock.Error: %v", err)
	}
	text := e.Error() + " / " + e.Hint
	if e.Kind != kind {
		t.Errorf("kind %s, want %s: %s", e.Kind, kind, text)
	}
	for _, w := range words {
		if !strings.Contains(text, w) {
			t.Errorf("no %q in: %s", w, text)
		}
	}
}

// background runs f and waits for it at the end of the test.
func background(t testing.TB, f func() error) <-chan error {
	done, result := make(chan struct{}), make(chan error, 1)
	go func() {
		defer close(done)
		result <- f()
	}()
	t.Cleanup(func() { <-done })
	return result
}

func wait(t testing.TB, what string, result <-chan error) error {
	t.Helper()
	select {
	case err := <-result:
		return err
	case <-time.After(testBound):
		t.Fatalf("%s: not within %s", what, testBound)
		return nil
	}
}

// stockServer is a crypto/tls server that serves connections by f.
func stockServer(t testing.TB, cfg *tls.Config, f func(*tls.Conn) error) (addr string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	result := background(t, func() error {
		nc, err := ln.Accept()
		if err != nil {
			return err
		}
		defer nc.Close()
		return f(tls.Server(nc, cfg))
	})
	t.Cleanup(func() {
		ln.Close()
		if err := wait(t, "the stock server", result); err != nil && !errors.Is(err, net.ErrClosed) {
			t.Errorf("stock server: %v", err)
		}
	})
	return ln.Addr().String()
}
