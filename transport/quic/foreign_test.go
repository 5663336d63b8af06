// This file tests foreign protocols: the library used bare at the other end.

package quic

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"testing"

	quicgo "github.com/quic-go/quic-go"

	"github.com/anysock/anysock"
)

func kindOf(err error) anysock.Kind {
	var e *anysock.Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return anysock.KindOther
}

// A foreign server gets our bytes and nothing else, and our last ones too.
func TestForeignServer(t *testing.T) {
	r := newRig(t)
	ctx := bound(t)
	ql := r.foreignServer(nil, "echo", "other")
	request := bytes.Repeat([]byte("request"), 40_000)
	served := make(chan error, 1)
	go func() {
		qc, err := ql.Accept(ctx)
		if err != nil {
			served <- err
			return
		}
		qs, err := qc.AcceptStream(ctx)
		if err != nil {
			served <- err
			return
		}
		got, err := io.ReadAll(qs)
		if !bytes.Equal(got, request) {
			err = errors.Join(err, errors.New("not the request"))
		}
		_, werr := qs.Write([]byte("reply"))
		served <- errors.Join(err, werr, qs.Close())
	}()
	c, err := anysock.Dial(ctx, r.dialTo(ql.Addr(), "&alpn=echo"))
	if err != nil {
		t.Fatal(err)
	}
	if c.Caps() != capsOf(false) {
		t.Errorf("the capabilities are %s, want %s", c.Caps(), capsOf(false))
	}
	if _, err := c.Unacked(); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("Unacked: %v", err)
	}
	if _, err := c.Write(request); err != nil {
		t.Fatal(err)
	}
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(c)
	if err != nil || string(got) != "reply" {
		t.Fatalf("the reply is %q, %v", got, err)
	}
	e, err := c.Disconnect(ctx)
	if err != nil || e.How != anysock.Graceful || e.AckedBy != anysock.AckedNone {
		t.Errorf("Disconnect: %v, %v", e, err)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
}

// A foreign client's streams are Conns; it has to speak first.
func TestForeignClient(t *testing.T) {
	r := newRig(t)
	ctx := bound(t)
	ln := r.listen("&alpn=echo")
	qc, err := r.foreignClient(ctx, ln.Addr(), "echo")
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		qs, err := qc.OpenStream()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := qs.Write([]byte{byte('a' + i)}); err != nil {
			t.Fatal(err)
		}
		if err := qs.Close(); err != nil {
			t.Fatal(err)
		}
		c, err := ln.AcceptContext(ctx)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(c)
		if err != nil || string(got) != string(rune('a'+i)) {
			t.Fatalf("stream %d: %q, %v", i, got, err)
		}
		if _, err := c.Write([]byte("reply")); err != nil {
			t.Fatal(err)
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		back, err := io.ReadAll(qs)
		if err != nil || string(back) != "reply" {
			t.Fatalf("the reply on stream %d: %q, %v", i, back, err)
		}
	}
	if err := qc.CloseWithError(0, ""); err != nil {
		t.Fatal(err)
	}
}

// What a foreign peer does to the connection in the middle of a stream is
// never an end of file.
func TestForeignPeerThatClosesIsNoEnd(t *testing.T) {
	r := newRig(t)
	ctx := bound(t)
	for name, c := range map[string]struct {
		end  func(qc *quicgo.Conn, qs *quicgo.Stream)
		kind anysock.Kind
		how  anysock.How
	}{
		"CONNECTION_CLOSE 0":  {func(qc *quicgo.Conn, _ *quicgo.Stream) { _ = qc.CloseWithError(0, "bye") }, anysock.KindTruncated, anysock.Truncated},
		"CONNECTION_CLOSE 77": {func(qc *quicgo.Conn, _ *quicgo.Stream) { _ = qc.CloseWithError(77, "") }, anysock.KindReset, anysock.AbortedByPeer},
		"RESET_STREAM":        {func(_ *quicgo.Conn, qs *quicgo.Stream) { qs.CancelWrite(5) }, anysock.KindReset, anysock.AbortedByPeer},
	} {
		t.Run(name, func(t *testing.T) {
			ln := r.listen("&alpn=echo")
			qc, err := r.foreignClient(ctx, ln.Addr(), "echo")
			if err != nil {
				t.Fatal(err)
			}
			qs, err := qc.OpenStream()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := qs.Write([]byte("half a message")); err != nil {
				t.Fatal(err)
			}
			conn, err := ln.AcceptContext(ctx)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if _, err := io.ReadFull(conn, make([]byte, 4)); err != nil {
				t.Fatal(err)
			}
			c.end(qc, qs)
			if _, err := io.ReadAll(conn); kindOf(err) != c.kind {
				t.Errorf("the read says %v (%s), want %s", err, kindOf(err), c.kind)
			}
			if e := conn.End(); e.How != c.how {
				t.Errorf("the ending is %v, want %s", e, c.how)
			}
			qs.CancelWrite(0)
			_ = qc.CloseWithError(0, "")
		})
	}
}

// 0-RTT is neither offered nor taken: a client that has a session of this
// server gets no ticket to resume it with.
func TestNoEarlyData(t *testing.T) {
	r := newRig(t)
	ctx := bound(t)
	ln := r.listen("&alpn=echo")
	cache := &countingCache{ClientSessionCache: tls.NewLRUClientSessionCache(4)}
	for range 2 {
		tr := r.bareTransport()
		conf := &tls.Config{RootCAs: r.ca.Pool, ServerName: "127.0.0.1", NextProtos: []string{"echo"}, MinVersion: tls.VersionTLS13, ClientSessionCache: cache}
		qc, err := tr.DialEarly(ctx, udpOf(t, ln.Addr()), conf, nil)
		if err != nil {
			t.Fatal(err)
		}
		qs, err := qc.OpenStream()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := qs.Write([]byte("early?")); err != nil {
			t.Fatal(err)
		}
		c, err := ln.AcceptContext(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(qs, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		if s := qc.ConnectionState(); s.Used0RTT || s.TLS.DidResume {
			t.Errorf("0-RTT %t, resumed %t", s.Used0RTT, s.TLS.DidResume)
		}
		_ = c.Abort()
		_ = qc.CloseWithError(0, "")
	}
	if cache.put != 0 {
		t.Errorf("the server gave out %d tickets", cache.put)
	}
}

type countingCache struct {
	tls.ClientSessionCache
	put int
}

func (c *countingCache) Put(key string, s *tls.ClientSessionState) {
	if s != nil {
		c.put++
	}
	c.ClientSessionCache.Put(key, s)
}
