package tls

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/anysock/anysock"
)

// A cable is what two ends of the layer speak over, byte by byte in the hands
// of a test: towards one end it passes on, and towards the other it stops
// after some bytes and ends in order, like a carrier that is cut.
type cable struct {
	from, to *anysock.Conn // of the way that is cut, on our side of the cable
	back     <-chan error
}

// newCable connects two ends whose way from b to a is the test's.
func newCable(t *testing.T) (near, far *anysock.Conn, w *cable) {
	t.Helper()
	near, to := anysock.Pipe(anysock.Options{})
	from, far := anysock.Pipe(anysock.Options{})
	w = &cable{from: from, to: to}
	w.back = background(t, func() error { _, err := io.Copy(from, to); return err })
	t.Cleanup(func() { _, _ = to.Abort(), from.Abort() })
	return near, far, w
}

// pass moves n bytes from b to a.
func (w *cable) pass(n int) error {
	_, err := io.CopyN(w.to, w.from, int64(n))
	return err
}

// session makes the pair over a cable; the handshake passes through.
func session(t *testing.T, c certs, version uint16, towardsServer bool) (reader, writer *anysock.Conn, _ *cable) {
	t.Helper()
	near, far, w := newCable(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	passed := make(chan error, 1)
	go func() {
		// Ended by the context, which leaves what it has not read to the test.
		buf := make([]byte, 4096)
		for {
			n, err := w.from.ReadContext(ctx, buf)
			if n > 0 {
				if _, err := w.to.Write(buf[:n]); err != nil {
					passed <- err
					return
				}
			}
			if err != nil {
				passed <- nil
				return
			}
		}
	}()
	client, server := near, far
	if towardsServer {
		client, server = far, near
	}
	a, b, err := overPair(bounded(t), c, version, client, server, anysock.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = a.Abort(), b.Abort() })
	if towardsServer {
		a, b = b, a
	}
	a.SetDeadline(time.Now().Add(testBound))
	b.SetDeadline(time.Now().Add(testBound))
	// A round trip, so that nothing of the handshake is still on the way.
	write(t, b, "!")
	expect(t, a, "!")
	cancel()
	if err := <-passed; err != nil {
		t.Fatal(err)
	}
	return a, b, w
}

// A carrier that ends anywhere before close_notify has passed is an error of
// the reader, whichever record it is cut in or between, and whole records that
// came before are handed over.
func TestCutAtEveryByte(t *testing.T) {
	c := newCerts(t)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for _, towardsServer := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s to the server %t", tls.VersionName(version), towardsServer), func(t *testing.T) {
				t.Parallel()
				total, boundaries := recordsOf(t, c, version, towardsServer)
				for n := range total + 1 {
					whole := 0
					for whole < len(boundaries) && boundaries[whole] <= n {
						whole++
					}
					cutAfter(t, c, version, towardsServer, n, whole, n == total)
				}
			})
		}
	}
}

// messages are what a writer sends, in a record each, before close_notify.
var messages = []string{"one", "", "three"}

// recordsOf finds the ends of the records of the messages and of
// close_notify, counted from the first.
func recordsOf(t *testing.T, c certs, version uint16, towardsServer bool) (total int, boundaries []int) {
	t.Helper()
	_, b, w := session(t, c, version, towardsServer)
	sendAll(t, b)
	for range 3 { // two with data, and close_notify
		var h [5]byte
		if _, err := io.ReadFull(w.from, h[:]); err != nil {
			t.Fatal(err)
		}
		n := int(h[3])<<8 | int(h[4])
		if err := w.pass(n); err != nil {
			t.Fatal(err)
		}
		total += len(h) + n
		boundaries = append(boundaries, total)
	}
	return total, boundaries
}

func sendAll(t *testing.T, b *anysock.Conn) {
	t.Helper()
	for _, m := range messages {
		if m != "" {
			write(t, b, m)
		}
	}
	if err := b.CloseWrite(); err != nil {
		t.Fatal(err)
	}
}

func cutAfter(t *testing.T, c certs, version uint16, towardsServer bool, n, whole int, complete bool) {
	t.Helper()
	a, b, w := session(t, c, version, towardsServer)
	sendAll(t, b)
	if err := w.pass(n); err != nil {
		t.Fatal(err)
	}
	if err := w.to.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(a)
	want := strings.Join([]string{"", "one", "onethree", "onethree"}[whole:whole+1], "")
	if string(got) != want {
		t.Errorf("cut after %d bytes: read %q, want %q", n, got, want)
	}
	if complete {
		if err != nil {
			t.Errorf("uncut: %v", err)
		}
		return
	}
	wantError(t, err, anysock.KindTruncated, "without close_notify")
	if !errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		t.Errorf("cut after %d bytes: %v must match io.ErrUnexpectedEOF alone", n, err)
	}
	if end := a.End(); end.How != anysock.Truncated {
		t.Errorf("cut after %d bytes: the ending is %v", n, end)
	}
	_, _ = a.Abort(), b.Abort()
}

// Large records that were received whole before the cut are handed over, also
// to a reader with a small buffer, and then the cut is told.
func TestCutWithDataBuffered(t *testing.T) {
	c := newCerts(t)
	near, nearWire := anysock.Pipe(anysock.Options{ReceiveBuffer: 1 << 20})
	farWire, far := anysock.Pipe(anysock.Options{ReceiveBuffer: 1 << 20})
	for _, way := range [][2]*anysock.Conn{{nearWire, farWire}, {farWire, nearWire}} {
		background(t, func() error {
			_, err := io.Copy(way[1], way[0])
			return errors.Join(err, way[1].CloseWrite())
		})
	}
	a, b, err := overPair(bounded(t), c, tls.VersionTLS13, near, far, anysock.Options{})
	if err != nil {
		t.Fatal(err)
	}
	a.SetReadDeadline(time.Now().Add(testBound))
	const n = 100_000
	write(t, b, strings.Repeat("x", n))
	// All of it is in near's buffer before the end is.
	if _, err := near.Wait(bounded(t), anysock.Readable, 1); err != nil {
		t.Fatal(err)
	}
	_ = far.Close() // no close_notify
	var got int
	buf := make([]byte, 100)
	for err = nil; err == nil; {
		var m int
		m, err = a.Read(buf)
		got += m
	}
	if got != n {
		t.Errorf("%d bytes came of %d", got, n)
	}
	wantError(t, err, anysock.KindTruncated)
	_, _ = a.Abort(), b.Abort()
	_, _ = nearWire.Abort(), farWire.Abort()
}

// Our CloseWrite is close_notify alone: the peer may go on, and a stock peer
// sees an end of file. Its own close is an end only with close_notify.
func TestStockPeerEnds(t *testing.T) {
	c := newCerts(t)
	for _, polite := range []bool{true, false} {
		addr := stockServer(t, &tls.Config{Certificates: []tls.Certificate{c.server.TLS}}, func(s *tls.Conn) error {
			got, err := io.ReadAll(s)
			if err != nil || string(got) != "question" {
				return fmt.Errorf("the server read %q, %w", got, err)
			}
			if _, err := io.WriteString(s, "late answer"); err != nil {
				return err
			}
			if polite {
				return s.Close()
			}
			return s.NetConn().Close()
		})
		a := dial(t, "tls://"+addr+c.trusting())
		write(t, a, "question")
		if err := a.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		expect(t, a, "late answer")
		if polite {
			ends(t, a)
			graceful(t, a)
			continue
		}
		_, err := io.ReadAll(a)
		wantError(t, err, anysock.KindTruncated, "close_notify")
		if end, err := a.Disconnect(bounded(t)); end.How != anysock.Truncated || err == nil {
			t.Errorf("disconnect after a cut: %v, %v", end, err)
		}
	}
}

// A record that is not genuine is an error and no end, the peer is told by an
// alert, and an alert of the peer is its abort, with its name.
func TestCorruptRecord(t *testing.T) {
	c := newCerts(t)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			a, b, w := session(t, c, version, false)
			write(t, b, "message")
			p := make([]byte, 64)
			n, err := w.from.ReadAtLeast(bounded(t), p, 5+len("message"))
			if err != nil {
				t.Fatal(err)
			}
			p[n-1] ^= 1
			write(t, w.to, string(p[:n]))
			_, err = a.Read(make([]byte, 1))
			wantError(t, err, anysock.KindTruncated, "bad record MAC")
			if end := a.End(); end.How != anysock.Truncated {
				t.Errorf("the ending is %v", end)
			}
			_, err = b.Read(make([]byte, 1))
			wantError(t, err, anysock.KindReset, "remote error", "bad record MAC")
			if end := b.End(); end.How != anysock.AbortedByPeer || end.By != anysock.Peer {
				t.Errorf("the ending at the peer is %v", end)
			}
		})
	}
}

// Session tickets that nobody has read do not turn a close into a reset: with
// a stock server that issues them, what we sent arrives and both sides end in
// order; our own server issues none.
func TestTicketsDoNotReset(t *testing.T) {
	c := newCerts(t)
	for range 20 {
		result := make(chan error, 1)
		addr := stockServer(t, &tls.Config{Certificates: []tls.Certificate{c.server.TLS}}, func(s *tls.Conn) error {
			got, err := io.ReadAll(s)
			if err == nil && len(got) != 100_000 {
				err = fmt.Errorf("%d bytes came", len(got))
			}
			result <- err
			return s.Close()
		})
		a := dial(t, "tls://"+addr+c.trusting())
		write(t, a, strings.Repeat("x", 100_000))
		if err := a.Close(); err != nil { // nothing was read
			t.Fatal(err)
		}
		if err := <-result; err != nil {
			t.Fatal(err)
		}
		<-a.Done()
		if end := a.End(); end.How != anysock.Graceful {
			t.Fatalf("the ending is %v", end)
		}
	}

	ln := listen(t, "tls://127.0.0.1:0"+c.serving())
	tickets := &ticketCount{}
	s, err := tls.Dial("tcp", ln.Addr().String(), &tls.Config{RootCAs: c.Pool, ServerName: "localhost", ClientSessionCache: tickets})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	write(t, accept(t, ln), "x")
	expect(t, s, "x") // a ticket would have come before it
	if tickets.n > 0 {
		t.Errorf("our server issued %d tickets", tickets.n)
	}
}

// A ticketCount is a client's cache that counts what it is given.
type ticketCount struct{ n int }

func (*ticketCount) Get(string) (*tls.ClientSessionState, bool) { return nil, false }
func (c *ticketCount) Put(string, *tls.ClientSessionState)      { c.n++ }

// A peer that closes as soon as it has sent its close_notify does not get ours.
// That is an orderly end all the same, over each kind of carrier.
func TestPeerClosesAtOnce(t *testing.T) {
	c := newCerts(t)
	dir := t.TempDir()
	for _, base := range []string{"tls://127.0.0.1:0", "tls+unix:" + dir + "/s"} {
		for range 20 {
			ln := listen(t, base+c.serving())
			closed := make(chan struct{})
			result := background(t, func() error {
				defer close(closed)
				nc, err := net.Dial(ln.Addr().Network(), ln.Addr().String())
				if err != nil {
					return err
				}
				defer nc.Close()
				s := tls.Client(nc, &tls.Config{RootCAs: c.Pool, ServerName: "localhost"})
				if _, err := io.ReadFull(s, make([]byte, 5)); err != nil {
					return err
				}
				return s.CloseWrite() // and nothing is unread: no reset
			})
			b := accept(t, ln)
			write(t, b, "hello")
			ends(t, b)
			<-closed
			graceful(t, b)
			if err := wait(t, "the peer", result); err != nil {
				t.Fatal(err)
			}
			ln.Close()
		}
	}
}
