// Tests of the built-in services, dialed and as handlers of accepted
// connections.

package anysock_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anysock/anysock"
	"go.uber.org/goleak"
)

// serviceTransports are the transports that a handler is tested on.
var serviceTransports = map[string]func(t *testing.T) string{
	"mem":  func(*testing.T) string { return memName() },
	"tcp":  func(*testing.T) string { return "tcp://127.0.0.1:0" },
	"unix": func(t *testing.T) string { return "unix:" + filepath.Join(t.TempDir(), "s") },
}

// A served is a connection to a handler, and what that returned.
type served struct {
	*anysock.Conn
	server *anysock.Conn
	result chan error
}

// serveOne runs handler on the accepted end of a new connection.
func serveOne(ctx context.Context, t *testing.T, addr string, handler func(context.Context, *anysock.Conn) error) served {
	t.Helper()
	l, err := anysock.Listen(t.Context(), addr)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if l.Network() == "tcp" {
		addr = "tcp://" + l.Addr().String()
	}
	c, err := anysock.Dial(t.Context(), addr)
	if err != nil {
		t.Fatal(err)
	}
	s, err := l.AcceptContext(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	out := served{c, s, make(chan error, 1)}
	go func() { out.result <- handler(ctx, s) }()
	t.Cleanup(func() {
		c.Abort()
		s.Abort()
	})
	return out
}

// overTransports runs f on each, and looks for goroutines left behind.
func overTransports(t *testing.T, f func(t *testing.T, addr string)) {
	for name, addr := range serviceTransports {
		t.Run(name, func(t *testing.T) {
			leaks := goleak.IgnoreCurrent()
			t.Cleanup(func() { goleak.VerifyNone(t, leaks) })
			f(t, addr(t))
		})
	}
}

// TestServeEchoHalfClose: everything comes back, also what was still under way
// when the client ended its direction, and both endings are graceful.
func TestServeEchoHalfClose(t *testing.T) {
	overTransports(t, func(t *testing.T, addr string) {
		c := serveOne(t.Context(), t, addr, anysock.ServeEcho)
		data := bytes.Repeat([]byte("echo of many bytes "), 100_000)
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := c.Write(data); err != nil {
				t.Error(err)
			}
			if err := c.CloseWrite(); err != nil {
				t.Error(err)
			}
		})
		got, err := io.ReadAll(c)
		wg.Wait()
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("%d of %d bytes, %v", len(got), len(data), err)
		}
		if err := <-c.result; err != nil {
			t.Errorf("handler: %v", err)
		}
		if end := c.server.End(); end.How != anysock.Graceful || end.By != anysock.Peer || end.Sent != int64(len(data)) || end.Received != int64(len(data)) {
			t.Errorf("server's ending: %v", end)
		}
		if end, err := c.Disconnect(t.Context()); end.How != anysock.Graceful || err != nil {
			t.Errorf("client's ending: %v, %v", end, err)
		}
	})
}

// TestServeAbort: the client's abort is an abort of the server's connection.
// It shows on a unix socket too, because the client leaves data unread.
func TestServeAbort(t *testing.T) {
	for name, handler := range map[string]func(context.Context, *anysock.Conn) error{
		"echo": anysock.ServeEcho, "discard": anysock.ServeDiscard, "chargen": anysock.ServeChargen,
	} {
		t.Run(name, func(t *testing.T) {
			overTransports(t, func(t *testing.T, addr string) {
				if name == "discard" && strings.HasPrefix(addr, "unix:") {
					t.Skip("unix has no abort, and discard sends nothing that could stay unread")
				}
				c := serveOne(t.Context(), t, addr, handler)
				mustWrite(t, c.Conn, "xy") // Wait may read one byte ahead
				if name != "discard" {
					if _, err := c.Wait(t.Context(), anysock.Readable, 1); err != nil {
						t.Fatal(err)
					}
				}
				c.Abort()
				err := <-c.result
				wantKind(t, "handler", err, anysock.KindReset)
				if end := c.server.End(); end.How != anysock.AbortedByPeer {
					t.Errorf("server's ending: %v", end)
				}
			})
		})
	}
}

// TestServeContext: a cancelled server aborts, and the client can tell.
func TestServeContext(t *testing.T) {
	for name, handler := range map[string]func(context.Context, *anysock.Conn) error{
		"echo": anysock.ServeEcho, "discard": anysock.ServeDiscard, "chargen": anysock.ServeChargen,
	} {
		t.Run(name, func(t *testing.T) {
			overTransports(t, func(t *testing.T, addr string) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				c := serveOne(ctx, t, addr, handler)
				if name == "echo" {
					mustWrite(t, c.Conn, "hello")
					wantRead(t, c.Conn, "hello")
				}
				cancel()
				err := <-c.result
				if !errors.Is(err, context.Canceled) {
					t.Errorf("handler: %v", err)
				}
				if end := c.server.End(); end.How != anysock.AbortedByUs || !errors.Is(end.Err, context.Canceled) {
					t.Errorf("server's ending: %v, %v", end, end.Err)
				}
				if !c.Caps().Has(anysock.CapAbort) {
					return
				}
				_, err = io.Copy(io.Discard, c.Conn)
				wantKind(t, "client", err, anysock.KindReset)
			})
		})
	}
}

// TestServeCloseElsewhere: a handler does not turn somebody else's graceful
// close into an abort.
func TestServeCloseElsewhere(t *testing.T) {
	overTransports(t, func(t *testing.T, addr string) {
		c := serveOne(t.Context(), t, addr, anysock.ServeEcho)
		mustWrite(t, c.Conn, "hello")
		wantRead(t, c.Conn, "hello")
		c.server.Close()
		if err := <-c.result; !errors.Is(err, net.ErrClosed) {
			t.Errorf("handler: %v", err)
		}
		wantEOF(t, c.Conn)
		c.CloseWrite()
		<-c.server.Done()
		if end := c.server.End(); end.How != anysock.Graceful {
			t.Errorf("server's ending: %v", end)
		}
	})
}

// TestServeDeadline: a deadline that the caller set ends an idle client.
func TestServeDeadline(t *testing.T) {
	bubble(t, func(t *testing.T) {
		near, far := anysock.Pipe(anysock.Options{})
		far.SetReadDeadline(time.Now().Add(time.Minute))
		start := time.Now()
		err := anysock.ServeEcho(t.Context(), far)
		wantKind(t, "handler", err, anysock.KindTimeout)
		if time.Since(start) != time.Minute || far.End().How != anysock.AbortedByUs {
			t.Errorf("%v after %s", far.End(), time.Since(start))
		}
		_, err = near.Read(make([]byte, 1))
		wantKind(t, "client", err, anysock.KindReset)
	})
}

// A cutConn is a carrier that breaks when it is read.
type cutConn struct{ net.Conn }

func (cutConn) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// TestServeCutCarrier: a handler reports a cut, and does not take it for an end.
func TestServeCutCarrier(t *testing.T) {
	t.Parallel()
	for name, handler := range map[string]func(context.Context, *anysock.Conn) error{
		"echo": anysock.ServeEcho, "discard": anysock.ServeDiscard, "chargen": anysock.ServeChargen,
	} {
		a, b := net.Pipe()
		closed := make(chan error, 1)
		go func() {
			_, err := io.Copy(io.Discard, b)
			closed <- err
		}()
		c := anysock.Wrap(cutConn{a}, anysock.Options{})
		wantKind(t, name, handler(t.Context(), c), anysock.KindTruncated)
		if end := c.End(); end.How != anysock.Truncated {
			t.Errorf("%s: ending %v", name, end)
		}
		if err := <-closed; err != nil { // waits until the carrier is closed
			t.Errorf("%s: the other end of the carrier: %v", name, err)
		}
		b.Close()
	}
}

func TestServeDiscard(t *testing.T) {
	overTransports(t, func(t *testing.T, addr string) {
		c := serveOne(t.Context(), t, addr, anysock.ServeDiscard)
		const size = 1 << 20
		if n, err := c.Write(make([]byte, size)); n != size || err != nil {
			t.Fatal(n, err)
		}
		if end, err := c.Disconnect(t.Context()); end.How != anysock.Graceful || end.Received != 0 || err != nil {
			t.Errorf("client's ending: %v, %v", end, err)
		}
		if err := <-c.result; err != nil {
			t.Errorf("handler: %v", err)
		}
		if end := c.server.End(); end.How != anysock.Graceful || end.Received != size || end.Sent != 0 {
			t.Errorf("server's ending: %v", end)
		}
	})
}

// TestServeChargenPattern: the lines of RFC 864, round the ring and over the
// seam between two writes; what the client sends changes nothing.
func TestServeChargenPattern(t *testing.T) {
	overTransports(t, func(t *testing.T, addr string) {
		c := serveOne(t.Context(), t, addr, anysock.ServeChargen)
		mustWrite(t, c.Conn, "ignored")
		in := bufio.NewReader(c)
		for n := range 2000 {
			line, err := in.ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			want := make([]byte, 0, 74)
			for i := range 72 {
				want = append(want, byte(32+(n+i)%95))
			}
			want = append(want, "\r\n"...)
			if line != string(want) {
				t.Fatalf("line %d is %q, want %q", n, line, want)
			}
			// From the RFC's own table.
			if n == 1 && line != "!\"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`abcdefgh\r\n" {
				t.Fatalf("line 1 is %q", line)
			}
		}
		if err := c.CloseWrite(); err != nil {
			t.Error(err)
		}
		if _, err := io.Copy(io.Discard, in); err != nil {
			t.Errorf("to the end: %v", err)
		}
		if err := <-c.result; err != nil {
			t.Errorf("handler: %v", err)
		}
		if end := c.server.End(); end.How != anysock.Graceful || end.Received != 7 {
			t.Errorf("server's ending: %v", end)
		}
	})
}

// TestServeChargenPausedReader: the end of a client that does not read stops
// the writing that is held up, and nothing is lost or reset.
func TestServeChargenPausedReader(t *testing.T) {
	bubble(t, func(t *testing.T) {
		near, far := anysock.Pipe(anysock.Options{})
		result := make(chan error, 1)
		go func() { result <- anysock.ServeChargen(t.Context(), far) }()
		synctest.Wait()
		near.CloseWrite()
		if err := <-result; err != nil {
			t.Errorf("handler: %v", err)
		}
		if got, err := io.ReadAll(near); len(got) != anysock.DefaultMemBuffer || err != nil {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		if far.End().How != anysock.Graceful {
			t.Errorf("server's ending: %v", far.End())
		}
		near.Abort()
	})
}

// TestDialServices: each address reaches its service, and a bubble that ends
// shows that the service's goroutine does.
func TestDialServices(t *testing.T) {
	t.Parallel()
	dial := func(t *testing.T, addr string) *anysock.Conn {
		t.Helper()
		c, err := anysock.Dial(t.Context(), addr)
		if err != nil {
			t.Fatal(err)
		}
		if word, _, _ := strings.Cut(addr, ":"); c.LocalAddr().Network() != word || c.RemoteAddr().Network() != word {
			t.Errorf("%s: from %v to %v", addr, c.LocalAddr(), c.RemoteAddr())
		}
		return c
	}
	t.Run("echo", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			c := dial(t, "echo:")
			mustWrite(t, c, "hello")
			wantRead(t, c, "hello")
			mustWrite(t, c, "late")
			c.CloseWrite()
			wantRead(t, c, "late")
			wantEOF(t, c)
			if end, err := c.Disconnect(t.Context()); end.How != anysock.Graceful || end.By != anysock.Us || err != nil {
				t.Errorf("ending: %v, %v", end, err)
			}
		})
	})
	t.Run("discard", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			c := dial(t, "discard:?drainbytes=1")
			mustWrite(t, c, strings.Repeat("x", 1<<20))
			if end, err := c.Disconnect(t.Context()); end.How != anysock.Graceful || end.Received != 0 || err != nil {
				t.Errorf("ending: %v, %v", end, err)
			}
		})
	})
	t.Run("chargen", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			// What comes before chargen has seen our end depends on the scheduler.
			c := dial(t, "chargen:?buffer=74&drainbytes=1000000000")
			p := make([]byte, 148)
			if _, err := io.ReadFull(c, p); err != nil || p[0] != ' ' || p[74] != '!' || p[147] != '\n' {
				t.Errorf("%q, %v", p, err)
			}
			if end, err := c.Disconnect(t.Context()); end.How != anysock.Graceful || err != nil {
				t.Errorf("ending: %v, %v", end, err)
			}
		})
	})
	t.Run("abort", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			for _, addr := range []string{"echo:", "discard:", "chargen:"} {
				c := dial(t, addr)
				mustWrite(t, c, "hello")
				synctest.Wait()
				c.Abort()
			}
		})
	})
	t.Run("close", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			for _, addr := range []string{"echo:", "discard:", "chargen:?drainbytes=1000000000"} {
				group := new(anysock.Group)
				c, err := (&anysock.Dialer{Group: group}).Dial(t.Context(), addr)
				if err != nil {
					t.Fatal(err)
				}
				mustWrite(t, c, "hello")
				c.Close()
				if _, err := group.Wait(t.Context()); err != nil {
					t.Error(err)
				}
				if end := c.End(); end.How != anysock.Graceful {
					t.Errorf("%s: %v", addr, end)
				}
			}
		})
	})
	t.Run("context", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			c, err := anysock.Dial(ctx, "echo:")
			if err != nil {
				t.Fatal(err)
			}
			cancel() // which has no hold on what is connected
			synctest.Wait()
			mustWrite(t, c, "hello")
			wantRead(t, c, "hello")
			c.Abort()
			_, err = anysock.Dial(ctx, "echo:")
			wantKind(t, "a cancelled context", err, anysock.KindCanceled)
		})
	})
	t.Run("listen", func(t *testing.T) {
		_, err := anysock.Listen(t.Context(), "echo:")
		wantKind(t, "listening", err, anysock.KindUnsupported)
	})
	t.Run("trace", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			var mu sync.Mutex
			var events []string
			d := anysock.Dialer{Trace: func(ev anysock.Event) {
				mu.Lock()
				defer mu.Unlock()
				events = append(events, ev.Network+" "+ev.Op)
			}}
			c, err := d.Dial(t.Context(), "echo:")
			if err != nil {
				t.Fatal(err)
			}
			c.Abort()
			mu.Lock()
			defer mu.Unlock()
			if got := strings.Join(events, ","); got != "echo connect,echo abort,echo end" {
				t.Errorf("events: %s", got)
			}
		})
	})
}
