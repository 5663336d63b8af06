package anysock_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/anysock/anysock"
)

// accepting runs one AcceptContext; its outcome comes over the channel.
type accepted struct {
	c   *anysock.Conn
	err error
}

func accepting(ctx context.Context, ln *anysock.Listener) <-chan accepted {
	ch := make(chan accepted, 1)
	go func() {
		c, err := ln.AcceptContext(ctx)
		ch <- accepted{c, err}
	}()
	return ch
}

// stillWaits checks that nothing has come.
func stillWaits[T any](t testing.TB, what string, ch <-chan T) {
	t.Helper()
	select {
	case v := <-ch:
		t.Fatalf("%s did not wait: %v", what, v)
	case <-time.After(20 * time.Millisecond):
	}
}

// overEveryListener runs a test on tcp, unix and mem, and on a layer.
func overEveryListener(t *testing.T, f func(t *testing.T, listen func(lc *anysock.ListenConfig) (*anysock.Listener, string))) {
	for name, addr := range map[string]func(t *testing.T) string{
		"tcp":        func(*testing.T) string { return "tcp://127.0.0.1:0" },
		"unix":       func(t *testing.T) string { return "unix:" + t.TempDir() + "/s" },
		"mem":        func(t *testing.T) string { return fmt.Sprintf("mem:every-listener-%s", t.Name()[:12]) },
		"tls+tcp":    func(*testing.T) string { return "tls://127.0.0.1:0" },
		"tls+ws+mem": func(*testing.T) string { return "tls+ws+mem:every-listener" },
	} {
		t.Run(name, func(t *testing.T) {
			f(t, func(lc *anysock.ListenConfig) (*anysock.Listener, string) {
				listened := addr(t)
				ln := mustListen(t, lc, listened)
				switch name {
				case "tcp", "tls+tcp":
					return ln, name[:3] + "://" + ln.Addr().String()
				}
				return ln, listened
			})
		})
	}
}

// TestAcceptContext: a cancelled accept leaves the listener and its deadline
// as they were, and loses no connection.
func TestAcceptContext(t *testing.T) {
	overEveryListener(t, func(t *testing.T, listen func(*anysock.ListenConfig) (*anysock.Listener, string)) {
		ln, addr := listen(&anysock.ListenConfig{})
		for range 3 {
			ctx, cancel := context.WithCancel(t.Context())
			ch := accepting(ctx, ln)
			stillWaits(t, "accept", ch)
			cancel()
			got := await(t, "the cancelled accept", ch)
			wantErrorKind(t, "accept", got.err, anysock.KindCanceled)
			if !errors.Is(got.err, context.Canceled) {
				t.Errorf("%v does not match context.Canceled", got.err)
			}
		}
		done, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := ln.AcceptContext(done); !errors.Is(err, context.Canceled) {
			t.Errorf("a context that is done: %v", err)
		}
		c := mustDial(t, &anysock.Dialer{}, addr)
		peer := mustAccept(t, ln)
		if _, err := c.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if _, err := peer.ReadAtLeast(soon(t), make([]byte, 1), 1); err != nil {
			t.Fatal(err)
		}
	})
}

// TestAcceptDeadline: a deadline ends a pending accept and the ones to come,
// until it is set anew; a cancelled call does not change it.
func TestAcceptDeadline(t *testing.T) {
	overEveryListener(t, func(t *testing.T, listen func(*anysock.ListenConfig) (*anysock.Listener, string)) {
		ln, addr := listen(&anysock.ListenConfig{})
		expired := func(what string, err error) {
			t.Helper()
			e := errorOfKind(t, what, err, anysock.KindTimeout)
			if !errors.Is(err, os.ErrDeadlineExceeded) || !e.Timeout() || !e.Temporary() {
				t.Errorf("%s: %v is no time-out as package net has it", what, err)
			}
		}
		ch := accepting(t.Context(), ln)
		stillWaits(t, "accept", ch)
		ln.SetDeadline(time.Now())
		expired("a pending accept", await(t, "the pending accept", ch).err)
		_, err := ln.Accept()
		expired("the next accept", err)

		// A cancelled call in between puts the deadline back.
		ln.SetDeadline(time.Now().Add(50 * time.Millisecond))
		ctx, cancel := context.WithCancel(t.Context())
		ch = accepting(ctx, ln)
		cancel()
		if err := await(t, "the cancelled accept", ch).err; err == nil {
			t.Error("nobody connected")
		}
		_, err = ln.AcceptContext(soon(t))
		expired("after a cancelled accept", err)

		ln.SetDeadline(time.Time{})
		ch = accepting(t.Context(), ln)
		stillWaits(t, "accept without a deadline", ch)
		mustDial(t, &anysock.Dialer{}, addr)
		got := await(t, "the connection", ch)
		must(t, "accept", got.err)
		_ = got.c.Abort()
	})
}

// TestCloseWakesAccept: every accept that waits returns net.ErrClosed.
func TestCloseWakesAccept(t *testing.T) {
	overEveryListener(t, func(t *testing.T, listen func(*anysock.ListenConfig) (*anysock.Listener, string)) {
		ln, _ := listen(&anysock.ListenConfig{})
		var waiting []<-chan accepted
		for range 3 {
			waiting = append(waiting, accepting(t.Context(), ln))
		}
		stillWaits(t, "accept", waiting[0])
		must(t, "close", ln.Close())
		for _, ch := range waiting {
			got := await(t, "an accept", ch)
			wantErrorKind(t, "accept", got.err, anysock.KindClosed)
			if !errors.Is(got.err, net.ErrClosed) {
				t.Errorf("%v does not match net.ErrClosed", got.err)
			}
		}
		nc, err := ln.Accept()
		if nc != nil || !errors.Is(err, net.ErrClosed) {
			t.Errorf("Accept = %v, %v", nc, err)
		}
		must(t, "close again", ln.Close())
	})
}

// TestMaxConns: while as many connections are open as are allowed, further
// ones wait in the backlog; each close lets one in, and nothing is counted
// twice.
func TestMaxConns(t *testing.T) {
	overEveryListener(t, func(t *testing.T, listen func(*anysock.ListenConfig) (*anysock.Listener, string)) {
		ln, addr := listen(&anysock.ListenConfig{MaxConns: 2})
		for range 6 {
			mustDial(t, &anysock.Dialer{}, addr)
		}
		open := []*anysock.Conn{mustAccept(t, ln), mustAccept(t, ln)}
		for i := range 4 {
			ch := accepting(soon(t), ln)
			stillWaits(t, "accept with two open", ch)
			first := open[0]
			if i%2 == 0 {
				_ = first.Abort()
			} else {
				// Graceful, in the background, as its peer has ended.
				must(t, "close", first.Close())
				_ = first.Abort() // a second ending gives no second place
			}
			got := await(t, "the next connection", ch)
			must(t, "accept", got.err)
			defer func() { _ = got.c.Abort() }()
			open = append(open[1:], got.c)
		}
	})
}

// TestMaxConnsWaitIsCutShort: what ends a wait for a connection ends a wait
// for a place.
func TestMaxConnsWaitIsCutShort(t *testing.T) {
	full := func(t *testing.T) (*anysock.Listener, *anysock.Conn) {
		ln := mustListen(t, &anysock.ListenConfig{MaxConns: 1}, "tcp://127.0.0.1:0")
		mustDial(t, &anysock.Dialer{}, urlOf(ln))
		mustDial(t, &anysock.Dialer{}, urlOf(ln))
		return ln, mustAccept(t, ln)
	}
	t.Run("context", func(t *testing.T) {
		ln, open := full(t)
		ctx, cancel := context.WithCancel(t.Context())
		ch := accepting(ctx, ln)
		stillWaits(t, "accept", ch)
		cancel()
		wantErrorKind(t, "accept", await(t, "accept", ch).err, anysock.KindCanceled)
		_ = open.Abort()
		mustAccept(t, ln)
	})
	t.Run("deadline before", func(t *testing.T) {
		ln, open := full(t)
		ln.SetDeadline(time.Now().Add(20 * time.Millisecond))
		wantErrorKind(t, "accept", await(t, "accept", accepting(t.Context(), ln)).err, anysock.KindTimeout)
		ln.SetDeadline(time.Time{})
		_ = open.Abort()
		mustAccept(t, ln)
	})
	t.Run("deadline meanwhile", func(t *testing.T) {
		ln, _ := full(t)
		ch := accepting(t.Context(), ln)
		stillWaits(t, "accept", ch)
		ln.SetDeadline(time.Now())
		wantErrorKind(t, "accept", await(t, "accept", ch).err, anysock.KindTimeout)
	})
	t.Run("close", func(t *testing.T) {
		ln, _ := full(t)
		ch := accepting(t.Context(), ln)
		stillWaits(t, "accept", ch)
		must(t, "close", ln.Close())
		wantErrorKind(t, "accept", await(t, "accept", ch).err, anysock.KindClosed)
	})
	t.Run("drain", func(t *testing.T) {
		ln, _ := full(t)
		ch := accepting(t.Context(), ln)
		stillWaits(t, "accept", ch)
		drained := make(chan int, 1)
		go func() {
			conns, err := ln.Drain()
			if err != nil {
				t.Errorf("drain: %v", err)
			}
			for _, c := range conns {
				_ = c.Abort()
			}
			drained <- len(conns)
		}()
		wantErrorKind(t, "accept", await(t, "accept", ch).err, anysock.KindClosed)
		// The limit is no reason to turn away who waits already.
		if n := await(t, "drain", drained); n != 1 {
			t.Errorf("drained %d connections, want 1", n)
		}
	})
}

// TestDrain: everybody who is queued is accepted and can be served; nobody
// else gets in; who waits in Accept is told that the listener is closed.
func TestDrain(t *testing.T) {
	overEveryListener(t, func(t *testing.T, listen func(*anysock.ListenConfig) (*anysock.Listener, string)) {
		const clients = 10
		ln, addr := listen(&anysock.ListenConfig{})
		var cs []*anysock.Conn
		for i := range clients {
			c := mustDial(t, &anysock.Dialer{}, addr)
			cs = append(cs, c)
			if _, err := c.Write([]byte{byte(i)}); err != nil {
				t.Fatal(err)
			}
		}
		conns, err := ln.Drain()
		must(t, "drain", err)
		if len(conns) != clients {
			t.Errorf("drained %d connections, want %d", len(conns), clients)
		}
		if c, err := anysock.Dial(soon(t), addr); err == nil {
			t.Error("connected after Drain")
			_ = c.Abort()
		}
		seen := map[byte]bool{}
		var wg sync.WaitGroup
		for _, c := range conns {
			defer func() { _ = c.Abort() }()
			b := make([]byte, 1)
			if _, err := c.ReadAtLeast(soon(t), b, 1); err != nil {
				t.Errorf("reading from a drained connection: %v", err)
			}
			seen[b[0]] = true
			if _, err := c.Write(b); err != nil {
				t.Errorf("writing to a drained connection: %v", err)
			}
			wg.Go(func() { _, _ = c.Disconnect(soon(t)) })
		}
		for i, c := range cs {
			b := make([]byte, 1)
			if _, err := c.ReadAtLeast(soon(t), b, 1); err != nil || int(b[0]) != i {
				t.Errorf("client %d got %d, %v", i, b[0], err)
			}
			_, _ = c.Disconnect(soon(t))
		}
		wg.Wait()
		if len(seen) != clients {
			t.Errorf("%d clients were served, want %d", len(seen), clients)
		}
		if _, err := ln.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Accept after Drain: %v", err)
		}
	})
}

// TestDrainTurnsAcceptersAway: those who accept while Drain is called.
func TestDrainTurnsAcceptersAway(t *testing.T) {
	overEveryListener(t, func(t *testing.T, listen func(*anysock.ListenConfig) (*anysock.Listener, string)) {
		ln, _ := listen(&anysock.ListenConfig{})
		var waiting []<-chan accepted
		for range 3 {
			waiting = append(waiting, accepting(t.Context(), ln))
		}
		stillWaits(t, "accept", waiting[0])
		conns, err := ln.Drain()
		if len(conns) != 0 || err != nil {
			t.Errorf("Drain = %d, %v", len(conns), err)
		}
		for _, ch := range waiting {
			wantErrorKind(t, "accept", await(t, "accept", ch).err, anysock.KindClosed)
		}
	})
}

// TestDrainAndCloseAtOnce: whoever comes first, nobody hangs, and each
// connection is given out once.
func TestDrainAndCloseAtOnce(t *testing.T) {
	overEveryListener(t, func(t *testing.T, listen func(*anysock.ListenConfig) (*anysock.Listener, string)) {
		ln, addr := listen(&anysock.ListenConfig{})
		for range 5 {
			mustDial(t, &anysock.Dialer{}, addr)
		}
		var wg sync.WaitGroup
		var mu sync.Mutex
		ids := map[uint64]int{}
		keep := func(c *anysock.Conn) {
			mu.Lock()
			defer mu.Unlock()
			ids[c.ID()]++
			_ = c.Abort()
		}
		for range 3 {
			wg.Go(func() {
				conns, err := ln.Drain()
				if err != nil {
					t.Errorf("Drain: %v", err)
				}
				for _, c := range conns {
					keep(c)
				}
			})
			wg.Go(func() {
				for {
					c, err := ln.AcceptContext(t.Context())
					if err != nil {
						wantErrorKind(t, "accept", err, anysock.KindClosed)
						return
					}
					keep(c)
				}
			})
		}
		wg.Go(func() {
			if err := ln.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
		})
		wg.Wait()
		if len(ids) > 5 {
			t.Errorf("%d connections of 5", len(ids))
		}
		for id, n := range ids {
			if n != 1 {
				t.Errorf("connection %d was given out %d times", id, n)
			}
		}
	})
}

// TestDrainLayered: clients in the middle of their handshake have connected,
// and are not turned away.
func TestDrainLayered(t *testing.T) {
	needOwnSockets(t, "cannot close a listener's door")
	ln := mustListen(t, &anysock.ListenConfig{}, "tls://127.0.0.1:0")
	before := xorHandshakes.Load()
	slow := mustDial(t, &anysock.Dialer{}, "tcp://"+ln.Addr().String())
	if _, err := slow.Write([]byte("X")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the handshake to begin", func() bool { return xorHandshakes.Load() > before })
	drained := make(chan []*anysock.Conn, 1)
	go func() {
		conns, err := ln.Drain()
		if err != nil {
			t.Errorf("drain: %v", err)
		}
		drained <- conns
	}()
	eventually(t, "the door to close", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		c, err := anysock.Dial(ctx, "tcp://"+ln.Addr().String())
		if err == nil {
			_ = c.Abort()
		}
		return err != nil
	})
	if _, err := slow.Write([]byte{0}); err != nil {
		t.Errorf("the handshake was cut: %v", err)
	}
	conns := await(t, "drain", drained)
	if len(conns) != 1 {
		t.Fatalf("drained %d connections, want the one in its handshake", len(conns))
	}
	defer func() { _ = conns[0].Abort() }()
	if _, err := slow.ReadAtLeast(soon(t), make([]byte, 1), 1); err != nil {
		t.Errorf("the handshake's end: %v", err)
	}
}

// TestCloseResetsQueued: what the kernel does to those who wait when a
// listener is closed without Drain: they see a reset, never an end
// (docs/notes/close-listener).
func TestCloseResetsQueued(t *testing.T) {
	overKernelNetworks(t, func(t *testing.T, addr string) {
		ln := mustListen(t, &anysock.ListenConfig{}, addr)
		silent := mustDial(t, &anysock.Dialer{}, urlOf(ln))
		asking := mustDial(t, &anysock.Dialer{}, urlOf(ln))
		if _, err := asking.Write([]byte("request")); err != nil {
			t.Fatal(err)
		}
		must(t, "close", ln.Close())
		for _, c := range []*anysock.Conn{silent, asking} {
			c.SetReadDeadline(time.Now().Add(tooLong))
			_, err := c.Read(make([]byte, 1))
			wantErrorKind(t, "read", err, anysock.KindReset)
			if end := c.End(); end.How != anysock.AbortedByPeer {
				t.Errorf("the end is %v", end)
			}
		}
	})
}

// TestConns: the iterator ends without an error when ctx is done or the
// listener is closed, and stops when its body does.
func TestConns(t *testing.T) {
	overEveryListener(t, func(t *testing.T, listen func(*anysock.ListenConfig) (*anysock.Listener, string)) {
		ln, addr := listen(&anysock.ListenConfig{})
		dial := func(n int) {
			for range n {
				mustDial(t, &anysock.Dialer{}, addr)
			}
		}
		dial(3)
		n := 0
		for c, err := range ln.Conns(soon(t)) {
			must(t, "accept", err)
			_ = c.Abort()
			if n++; n == 3 {
				break
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		dial(2)
		n = 0
		for c, err := range ln.Conns(ctx) {
			must(t, "accept", err)
			_ = c.Abort()
			if n++; n == 2 {
				cancel()
			}
		}
		if n != 2 {
			t.Errorf("%d connections until the context was done, want 2", n)
		}
		dial(1)
		n = 0
		for c, err := range ln.Conns(soon(t)) {
			must(t, "accept", err)
			n++
			_ = c.Abort()
			must(t, "close", ln.Close())
		}
		if n != 1 {
			t.Errorf("%d connections until the listener was closed, want 1", n)
		}
		for c, err := range ln.Conns(soon(t)) {
			t.Errorf("a closed listener has %v, %v", c, err)
		}
	})
}

// TestConcurrentAccepts: many accept at once; each connection is accepted
// exactly once and has a number of its own.
func TestConcurrentAccepts(t *testing.T) {
	overEveryListener(t, func(t *testing.T, listen func(*anysock.ListenConfig) (*anysock.Listener, string)) {
		const accepters, clients = 8, 200
		ln, addr := listen(&anysock.ListenConfig{})
		var mu sync.Mutex
		ids := map[uint64]bool{}
		got := map[uint16]int{}
		done := make(chan struct{})
		var wg sync.WaitGroup
		for range accepters {
			wg.Go(func() {
				for {
					c, err := ln.AcceptContext(t.Context())
					if err != nil {
						if !errors.Is(err, net.ErrClosed) {
							t.Errorf("accept: %v", err)
						}
						return
					}
					b := make([]byte, 2)
					if _, err := c.ReadAtLeast(soon(t), b, 2); err != nil {
						t.Errorf("read: %v", err)
					}
					mu.Lock()
					ids[c.ID()] = true
					got[uint16(b[0])<<8|uint16(b[1])]++
					if len(got) == clients {
						close(done)
					}
					mu.Unlock()
					_ = c.Abort()
				}
			})
		}
		for i := range clients {
			c := mustDial(t, &anysock.Dialer{}, addr)
			if _, err := c.Write([]byte{byte(i >> 8), byte(i)}); err != nil {
				t.Fatal(err)
			}
		}
		await(t, "all to be accepted", done)
		must(t, "close", ln.Close())
		wg.Wait()
		if len(ids) != clients {
			t.Errorf("%d numbers for %d connections", len(ids), clients)
		}
		for i, n := range got {
			if n != 1 {
				t.Errorf("connection %d was accepted %d times", i, n)
			}
		}
	})
}

// TestListenerUnderHTTP: http.Server serves a Listener of any kind, and
// Shutdown waits for the requests that are under way.
func TestListenerUnderHTTP(t *testing.T) {
	overEveryListener(t, func(t *testing.T, listen func(*anysock.ListenConfig) (*anysock.Listener, string)) {
		var group anysock.Group
		ln, addr := listen(&anysock.ListenConfig{Group: &group})
		entered, leave := make(chan struct{}), make(chan struct{})
		mux := http.NewServeMux()
		mux.HandleFunc("/slow", func(w http.ResponseWriter, _ *http.Request) {
			close(entered)
			<-leave
			fmt.Fprint(w, "done")
		})
		mux.HandleFunc("/echo", func(w http.ResponseWriter, r *http.Request) {
			if _, err := io.Copy(w, r.Body); err != nil {
				t.Errorf("echo: %v", err)
			}
		})
		srv := &http.Server{Handler: mux, ReadHeaderTimeout: tooLong}
		served := make(chan error, 1)
		go func() { served <- srv.Serve(ln) }()

		var clients anysock.Group
		d := &anysock.Dialer{Group: &clients}
		tr := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			c, err := d.Dial(ctx, addr)
			if err != nil {
				return nil, err
			}
			return c, nil
		}}
		client := &http.Client{Transport: tr}
		body := bytes.Repeat([]byte("body"), 100_000)
		for range 3 {
			resp, err := client.Post("http://server/echo", "", bytes.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil || !bytes.Equal(b, body) {
				t.Fatalf("%d bytes came back, %v", len(b), err)
			}
		}
		slow := make(chan string, 1)
		go func() {
			resp, err := client.Get("http://server/slow")
			if err != nil {
				slow <- err.Error()
				return
			}
			b, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			slow <- string(b)
		}()
		await(t, "the slow request", entered)
		down := make(chan error, 1)
		go func() { down <- srv.Shutdown(soon(t)) }()
		if err := await(t, "Serve", served); !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("Serve: %v", err)
		}
		stillWaits(t, "Shutdown with a request under way", down)
		close(leave)
		if s := await(t, "the slow response", slow); s != "done" {
			t.Errorf("the slow request got %q", s)
		}
		must(t, "Shutdown", await(t, "Shutdown", down))
		tr.CloseIdleConnections()
		for _, g := range []*anysock.Group{&group, &clients} {
			if _, err := g.Wait(soon(t)); err != nil {
				t.Errorf("closing in the background: %v", err)
			}
		}
	})
}
