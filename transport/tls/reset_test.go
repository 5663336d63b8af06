package tls

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"testing"

	"github.com/anysock/anysock"
)

// What had come before a reset is handed over though a Write noticed the reset
// first: what waits in the kernel, and what the library holds already.
func TestResetLeavesWhatHadCome(t *testing.T) {
	c := newCerts(t)
	for _, held := range []bool{false, true} {
		ln := listen(t, "tls://127.0.0.1:0"+c.serving())
		nc, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		batch := &batched{Conn: nc}
		s := tls.Client(batch, &tls.Config{RootCAs: c.Pool, ServerName: "localhost"})
		if err := s.HandshakeContext(bounded(t)); err != nil {
			t.Fatal(err)
		}
		b := accept(t, ln)
		batch.hold = true
		write(t, s, "one")
		write(t, s, "two")
		if _, err := nc.Write(batch.held); err != nil {
			t.Fatal(err)
		}
		rest := "onetwo"
		if held {
			expect(t, b, "one")
			rest = "two"
		}
		// Acknowledged or not, what was sent precedes the reset on loopback.
		if err := nc.(*net.TCPConn).SetLinger(0); err != nil {
			t.Fatal(err)
		}
		nc.Close()
		for err = nil; err == nil; {
			_, err = b.Write([]byte("x"))
		}
		wantError(t, err, anysock.KindReset)
		got, err := io.ReadAll(b)
		if string(got) != rest {
			t.Errorf("held %t: after the reset %q was read, want %q", held, got, rest)
		}
		wantError(t, err, anysock.KindReset)
		if end := b.End(); end.How != anysock.AbortedByPeer || end.Received != 6 {
			t.Errorf("held %t: the ending is %v, want all 6 bytes in it", held, end)
		}
	}
}

// A batched connection can hold back what is written.
type batched struct {
	net.Conn
	hold bool
	held []byte
}

func (b *batched) Write(p []byte) (int, error) {
	if b.hold {
		b.held = append(b.held, p...)
		return len(p), nil
	}
	return b.Conn.Write(p)
}

// A server that refuses the client's certificate says so by an alert, and then
// resets. Whichever of reader and writer notices it, the alert is named.
func TestRefusalIsNamed(t *testing.T) {
	c := newCerts(t)
	for range 30 {
		ln := listen(t, "tls://127.0.0.1:0"+c.serving("clientca=file:"+c.File, "clientname=*"))
		a := dial(t, "tls://"+ln.Addr().String()+c.trusting())
		read := background(t, func() error {
			_, err := io.ReadAll(a)
			return err
		})
		var err error
		for err == nil {
			_, err = a.Write([]byte("x"))
		}
		if !errors.Is(err, net.ErrClosed) {
			wantError(t, err, anysock.KindAuth, "certificate required", "cert=file:PATH")
		}
		wantError(t, wait(t, "reading", read), anysock.KindAuth, "certificate required", "cert=file:PATH")
		if end := a.End(); end.How != anysock.AbortedByPeer {
			t.Errorf("the ending is %v", end)
		}
	}
}
