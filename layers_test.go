package anysock_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anysock/anysock"
)

// layeredAddrs is where the layers are put: to listen on, and the address to
// dial then.
var layeredAddrs = []struct {
	name string
	addr func(t testing.TB, layers string) string
	dial func(ln *anysock.Listener, listened, layers string) string
}{
	{
		"tcp",
		func(_ testing.TB, layers string) string { return layers + "+tcp://127.0.0.1:0" },
		func(ln *anysock.Listener, _, layers string) string { return layers + "+tcp://" + ln.Addr().String() },
	},
	{
		"unix",
		func(t testing.TB, layers string) string { return layers + "+unix:" + t.TempDir() + "/s" },
		func(_ *anysock.Listener, listened, _ string) string { return listened },
	},
	{
		"mem",
		func(t testing.TB, layers string) string {
			return layers + "+mem:" + strings.ReplaceAll(t.Name(), "/", "-")
		},
		func(_ *anysock.Listener, listened, _ string) string { return listened },
	},
}

// TestLayers: layers stand on any base and on each other, both sides.
func TestLayers(t *testing.T) {
	for _, base := range layeredAddrs {
		for _, layers := range []string{"tls", "ws", "ws+tls", "tls+ws", "tls+tls", "tls+ws+tls"} {
			t.Run(layers+" over "+base.name, func(t *testing.T) {
				listened := base.addr(t, layers)
				ln := mustListen(t, &anysock.ListenConfig{}, listened)
				ends := echoUntilEnd(t, ln)
				c := mustDial(t, &anysock.Dialer{}, base.dial(ln, listened, layers))
				top, _, _ := strings.Cut(layers, "+")
				if ln.Network() != top {
					t.Errorf("the listener's network is %q, want %q", ln.Network(), top)
				}
				if c.Caps() != ln.Caps() {
					t.Errorf("the caps are %v dialed and %v accepted", c.Caps(), ln.Caps())
				}
				want := strings.Repeat("layers", 10_000)
				go func() {
					if _, err := c.Write([]byte(want)); err != nil {
						t.Errorf("Write: %v", err)
					}
					if c.Caps().Has(anysock.CapHalfClose) {
						if err := c.CloseWrite(); err != nil {
							t.Errorf("CloseWrite: %v", err)
						}
					}
				}()
				got := make([]byte, len(want))
				if n, err := c.ReadAtLeast(soon(t), got, len(got)); err != nil || string(got) != want {
					t.Fatalf("read %d bytes, %v", n, err)
				}
				if c.Caps().Has(anysock.CapHalfClose) {
					if rest := readAll(t, c); rest != "" {
						t.Errorf("%d bytes follow", len(rest))
					}
				} else if err := c.CloseWrite(); !errors.Is(err, errors.ErrUnsupported) {
					t.Errorf("CloseWrite without the capability: %v", err)
				}
				end, err := c.Disconnect(soon(t))
				if err != nil || !end.How.Complete() {
					t.Errorf("Disconnect: %v, %v", end, err)
				}
				theirs := await(t, "the server's end", ends)
				if !theirs.How.Complete() || theirs.Received != int64(len(want)) || theirs.Sent != int64(len(want)) {
					t.Errorf("the server's end: %v", theirs)
				}
			})
		}
	}
}

// TestLayerHidesBytes: what is on the wire went through the layer.
func TestLayerHidesBytes(t *testing.T) {
	raw := mustListen(t, &anysock.ListenConfig{}, "tcp://127.0.0.1:0")
	dialed := make(chan error, 1)
	go func() {
		c, err := anysock.Dial(soon(t), "tls://"+raw.Addr().String()+"?key=1")
		if err == nil {
			_, err = c.Write([]byte("bcd"))
			_ = c.CloseWrite()
			defer func() { _ = c.Abort() }()
		}
		dialed <- err
	}()
	c := mustAccept(t, raw)
	hello := make([]byte, 2)
	if _, err := c.ReadAtLeast(soon(t), hello, 2); err != nil || string(hello) != "X\x01" {
		t.Fatalf("the handshake begins with %q, %v", hello, err)
	}
	if _, err := c.Write([]byte("Y")); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 3)
	if _, err := c.ReadAtLeast(soon(t), b, 3); err != nil || string(b) != "cbe" {
		t.Errorf("on the wire is %q, %v", b, err)
	}
	must(t, "dial", await(t, "the dial", dialed))
}

// TestLayerOptions: an option goes to the layer that knows it, and to the one
// it names; anything else is an error that points at it.
func TestLayerOptions(t *testing.T) {
	ln := mustListen(t, &anysock.ListenConfig{}, "tls://127.0.0.1:0?min=3")
	echoUntilEnd(t, ln)
	host := ln.Addr().String()
	for addr, ok := range map[string]bool{
		"tls://" + host:                                true,
		"tls://" + host + "?key=3":                     true,
		"tls://" + host + "?tls.key=3":                 true,
		"tls://" + host + "?tls.1.key=3":               true,
		"tls://" + host + "?key=2":                     false, // below the server's minimum
		"tls://" + host + "?tls.key=2":                 false,
		"tls://" + host + "?tcp.timeout=9s&tls.key=7":  true,
		"tls://" + host + "?timeout=9s&tls.1.key=2":    false,
		"tls+tcp://" + host + "?tcp.nodelay=0&key=200": true,
	} {
		c, err := anysock.Dial(soon(t), addr)
		if (err == nil) != ok {
			t.Errorf("%s: %v, want it to work: %v", addr, err, ok)
		}
		if err == nil {
			_ = c.Abort()
		} else {
			wantHandshakeError(t, addr, err)
		}
	}
	for _, tt := range []struct{ addr, at, says string }{
		{"tls://h:1?nokey=3", "nokey", "unknown option"},
		{"tls://h:1?tls.nodelay=1", "tls.nodelay", "unknown option"},
		{"tls://h:1?tls.2.key=1", "tls.2.key", "unknown option"},
		{"tls+tls://h:1?key=1", "key", "ambiguous"},
		{"tls+tls://h:1?tls.key=1", "tls.key", "ambiguous"},
		{"ws+tls://h:1?min=1", "min", "ambiguous"},
		{"ws+tls://h:1?ws.min=1&tls.min=x", "x", "whole number"},
		{"tls://h:1?ws.min=1", "ws.min", "unknown option"},
		{"socks5://p:1?key=1,tls://h:1", "key", "unknown option"},
	} {
		_, err := anysock.Dial(soon(t), tt.addr)
		wantPointer(t, err, tt.addr, tt.at, tt.says)
		a, perr := anysock.ParseAddress(tt.addr)
		must(t, "parse", perr)
		wantPointer(t, a.Check(), tt.addr, tt.at, tt.says)
	}
	_, err := anysock.Listen(soon(t), "tls://127.0.0.1:0?key=1")
	wantPointer(t, err, "tls://127.0.0.1:0?key=1", "key", "means nothing for listening")

	// Each of two equal layers has its own value.
	two := mustListen(t, &anysock.ListenConfig{}, "tls+tls://127.0.0.1:0?tls.1.min=9&tls.2.min=5")
	echoUntilEnd(t, two)
	for _, tt := range []struct {
		outer, inner int
		ok           bool
	}{{9, 5, true}, {8, 5, false}, {9, 4, false}} {
		c, err := anysock.Dial(soon(t), fmt.Sprintf("tls+tls://%s?tls.1.key=%d&tls.2.key=%d", two.Addr(), tt.outer, tt.inner))
		if (err == nil) != tt.ok {
			t.Errorf("keys %d and %d: %v", tt.outer, tt.inner, err)
		}
		if err == nil {
			_ = c.Abort()
		}
	}
}

// wantHandshakeError: the error says that it was the handshake.
func wantHandshakeError(t testing.TB, what string, err error) {
	t.Helper()
	var e *anysock.Error
	if !errors.As(err, &e) {
		t.Errorf("%s: %v is no *Error", what, err)
		return
	}
	switch e.Kind {
	case anysock.KindAuth, anysock.KindReset, anysock.KindTruncated, anysock.KindHop, anysock.KindOther:
	default:
		t.Errorf("%s: the kind of a failed handshake is %v: %v", what, e.Kind, err)
	}
}

// TestConnOptionsOfLayeredAddress: an option of the connection that the
// address gives to its base counts for the connection that Dial returns.
func TestConnOptionsOfLayeredAddress(t *testing.T) {
	ln := mustListen(t, &anysock.ListenConfig{}, "tls://127.0.0.1:0?draintimeout=30ms")
	for _, who := range []string{"dialed", "accepted"} {
		options := ""
		if who == "dialed" {
			options = "?draintimeout=30ms"
		}
		c := mustDial(t, &anysock.Dialer{}, "tls://"+ln.Addr().String()+options)
		silent := mustAccept(t, ln)
		if who == "accepted" {
			c, silent = silent, c
		}
		ctx, cancel := context.WithTimeout(t.Context(), anysock.DefaultDrainTimeout/2)
		defer cancel()
		if end, err := c.Disconnect(ctx); err != nil || end.How != anysock.Delivered {
			t.Errorf("%s: draintimeout=30ms was not heard: %v, %v", who, end, err)
		}
		if b := readAll(t, silent); b != "" {
			t.Errorf("%s: the silent end read %q", who, b)
		}
	}
}

// TestHandshakeFailureAbortsBelow: the peer of a failed handshake sees a
// reset, not an end; a listener goes on with the next.
func TestHandshakeFailureAbortsBelow(t *testing.T) {
	t.Run("client", func(t *testing.T) {
		raw := mustListen(t, &anysock.ListenConfig{}, "tcp://127.0.0.1:0")
		var events recorder
		failed := make(chan error, 1)
		go func() {
			_, err := (&anysock.Dialer{Trace: events.trace}).Dial(soon(t), "tls://"+raw.Addr().String())
			failed <- err
		}()
		c := mustAccept(t, raw)
		if _, err := c.ReadAtLeast(soon(t), make([]byte, 2), 2); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write([]byte("N")); err != nil {
			t.Fatal(err)
		}
		c.SetReadDeadline(time.Now().Add(tooLong))
		_, err := c.Read(make([]byte, 1))
		wantErrorKind(t, "the server's read", err, anysock.KindReset)
		err = await(t, "the dial", failed)
		if !errors.Is(err, errXor) {
			t.Errorf("the dial's error is %v", err)
		}
		var e *anysock.Error
		if !errors.As(err, &e) || e.Op != anysock.OpHandshake || !strings.Contains(err.Error(), raw.Addr().String()) {
			t.Errorf("the error names neither the step nor the peer: %v", err)
		}
		shakes := events.all(isOp(anysock.OpHandshake))
		if len(shakes) != 1 || shakes[0].Detail != "tls" || !errors.Is(shakes[0].Err, errXor) {
			t.Errorf("the trace has %v", shakes)
		}
	})
	t.Run("server", func(t *testing.T) {
		var events recorder
		ln := mustListen(t, &anysock.ListenConfig{Trace: events.trace}, "tls://127.0.0.1:0")
		raw := mustDial(t, &anysock.Dialer{}, "tcp://"+ln.Addr().String())
		if _, err := raw.Write([]byte("NO")); err != nil {
			t.Fatal(err)
		}
		raw.SetReadDeadline(time.Now().Add(tooLong))
		_, err := raw.Read(make([]byte, 1))
		wantErrorKind(t, "the client's read", err, anysock.KindReset)
		// The next is served.
		good := mustDial(t, &anysock.Dialer{}, "tls://"+ln.Addr().String())
		peer := mustAccept(t, ln)
		_ = good.Abort()
		_ = peer.Abort()
		if shakes := events.all(isOp(anysock.OpHandshake)); len(shakes) != 2 || shakes[0].Err == nil || shakes[1].Err != nil {
			t.Errorf("the trace has %v", shakes)
		}
	})
}

// TestHandshakeIsBounded: every handshake, on both sides and through hops, has
// a deadline of DefaultHandshake at most, and a silent peer is given up.
func TestHandshakeIsBounded(t *testing.T) {
	t.Run("deadline", func(t *testing.T) {
		hop := newLineHop(t)
		ln := mustListen(t, &anysock.ListenConfig{}, "tls://127.0.0.1:0")
		xorContexts.Lock()
		xorContexts.left = nil
		xorContexts.Unlock()
		c := mustDial(t, &anysock.Dialer{}, hop.addr()+",tls://"+ln.Addr().String())
		mustAccept(t, ln)
		_ = c.Abort()
		xorContexts.Lock()
		defer xorContexts.Unlock()
		if len(xorContexts.left) != 3 { // through, client, server
			t.Errorf("%d handshakes, want 3", len(xorContexts.left))
		}
		for _, left := range xorContexts.left {
			if left <= 0 || left > anysock.DefaultHandshake {
				t.Errorf("a handshake's deadline is %s away", left)
			}
		}
	})
	t.Run("silent server", func(t *testing.T) {
		raw := mustListen(t, &anysock.ListenConfig{}, "tcp://127.0.0.1:0")
		ctx, cancel := context.WithTimeout(t.Context(), 40*time.Millisecond)
		defer cancel()
		_, err := anysock.Dial(ctx, "tls://"+raw.Addr().String())
		wantErrorKind(t, "dial", err, anysock.KindTimeout)
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v does not match the context's error", err)
		}
		c := mustAccept(t, raw)
		c.SetReadDeadline(time.Now().Add(tooLong))
		_, err = io.Copy(io.Discard, c)
		wantErrorKind(t, "the silent server's read", err, anysock.KindReset)
	})
	t.Run("silent both ways", func(t *testing.T) {
		// In a bubble the bound passes at once.
		synctest.Test(t, func(t *testing.T) {
			ln, err := anysock.Listen(t.Context(), "tls+mem:silent-handshake")
			must(t, "listen", err)
			start := time.Now()
			c, err := anysock.Dial(t.Context(), "mem:silent-handshake")
			must(t, "dial", err)
			_, err = c.Read(make([]byte, 1))
			wantErrorKind(t, "the silent client's read", err, anysock.KindReset)
			if took := time.Since(start); took != anysock.DefaultHandshake {
				t.Errorf("given up after %s, want %s", took, anysock.DefaultHandshake)
			}
			_ = c.Abort()
			ln.Close()

			raw, err := anysock.Listen(t.Context(), "mem:silent-server")
			must(t, "listen", err)
			start = time.Now()
			_, err = anysock.Dial(t.Context(), "tls+mem:silent-server")
			wantErrorKind(t, "the dial to a silent server", err, anysock.KindTimeout)
			if took := time.Since(start); took != anysock.DefaultHandshake {
				t.Errorf("given up after %s, want %s", took, anysock.DefaultHandshake)
			}
			raw.Close()
			synctest.Wait()
		})
	})
}

// TestSlowHandshakeHoldsUpNobody: clients that are slow or silent do not keep
// others from being accepted.
func TestSlowHandshakeHoldsUpNobody(t *testing.T) {
	ln := mustListen(t, &anysock.ListenConfig{}, "tls://127.0.0.1:0")
	var slow []*anysock.Conn
	for range 20 {
		slow = append(slow, mustDial(t, &anysock.Dialer{}, "tcp://"+ln.Addr().String()))
	}
	for range 5 {
		quick := mustDial(t, &anysock.Dialer{}, "tls://"+ln.Addr().String())
		peer := mustAccept(t, ln)
		if _, err := quick.Write([]byte("q")); err != nil {
			t.Fatal(err)
		}
		if _, err := peer.ReadAtLeast(soon(t), make([]byte, 1), 1); err != nil {
			t.Fatal(err)
		}
	}
	// The slow ones are served when they come round to it.
	for _, c := range slow[:3] {
		if _, err := c.Write([]byte("X")); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write([]byte("k")); err != nil {
			t.Fatal(err)
		}
		mustAccept(t, ln)
	}
	// Close ends the handshakes that are under way, with a reset.
	must(t, "close", ln.Close())
	for _, c := range slow[3:] {
		c.SetReadDeadline(time.Now().Add(tooLong))
		_, err := c.Read(make([]byte, 1))
		wantErrorKind(t, "a slow client's read", err, anysock.KindReset)
	}
}

// TestHandshakesInFlightAreBounded: no more than 1024 handshakes at once; the
// next one begins when one has ended.
func TestHandshakesInFlightAreBounded(t *testing.T) {
	const most = 1024 // maxHandshakes
	ln := mustListen(t, &anysock.ListenConfig{}, "tls+mem:many-handshakes")
	before := xorHandshakes.Load()
	var silent []*anysock.Conn
	for range most + 10 {
		c, err := anysock.Dial(soon(t), "mem:many-handshakes")
		must(t, "dial", err)
		silent = append(silent, c)
	}
	defer func() {
		for _, c := range silent {
			_ = c.Abort()
		}
	}()
	eventually(t, "1024 handshakes", func() bool { return xorHandshakes.Load()-before >= most })
	for i := range 3 {
		if n := xorHandshakes.Load() - before; n != most+int64(i) {
			t.Fatalf("%d handshakes began, want %d", n, most+i)
		}
		_ = silent[i].Abort()
		eventually(t, "the next handshake", func() bool { return xorHandshakes.Load()-before > int64(most+i) })
	}
	must(t, "close", ln.Close())
}

// TestChain: hops are gone through in order, and the name of the target is
// resolved at the far end.
func TestChain(t *testing.T) {
	near, far := newLineHop(t), newLineHop(t)
	plain := mustListen(t, &anysock.ListenConfig{}, "tcp://127.0.0.1:0")
	hidden := mustListen(t, &anysock.ListenConfig{}, "tls://127.0.0.1:0")
	echoUntilEnd(t, plain)
	echoUntilEnd(t, hidden)
	_, port, _ := net.SplitHostPort(plain.Addr().String())
	for _, tt := range []struct {
		addr      string
		near, far []string
	}{
		{near.addr() + ",tcp://localhost:" + port, []string{"localhost " + port}, nil},
		{near.addr() + ",tls://" + hidden.Addr().String(), []string{strings.Replace(hidden.Addr().String(), ":", " ", 1)}, nil},
		{
			near.addr() + "," + far.addr() + ",tls://" + hidden.Addr().String(),
			[]string{strings.Replace(far.ln.Addr().String(), ":", " ", 1)},
			[]string{strings.Replace(hidden.Addr().String(), ":", " ", 1)},
		},
	} {
		nearBefore, farBefore := len(near.requests()), len(far.requests())
		c := mustDial(t, &anysock.Dialer{}, tt.addr)
		if _, err := c.Write([]byte("through")); err != nil {
			t.Fatal(err)
		}
		must(t, "CloseWrite", c.CloseWrite())
		if s := readAll(t, c); s != "through" {
			t.Errorf("%s: read %q", tt.addr, s)
		}
		if end, err := c.Disconnect(soon(t)); err != nil || end.How != anysock.Graceful {
			t.Errorf("%s: %v, %v", tt.addr, end, err)
		}
		if got := near.requests()[nearBefore:]; !slices.Equal(got, tt.near) {
			t.Errorf("%s: the first hop was asked for %v, want %v", tt.addr, got, tt.near)
		}
		if got := far.requests()[farBefore:]; !slices.Equal(got, tt.far) {
			t.Errorf("%s: the second hop was asked for %v, want %v", tt.addr, got, tt.far)
		}
		want, err := anysock.AddressCaps(anysock.MustParseAddress(tt.addr))
		must(t, "caps", err)
		if strings.Contains(tt.addr, "tls") && c.Caps() != want {
			t.Errorf("%s: the connection's caps are %v, the address's %v", tt.addr, c.Caps(), want)
		}
	}
}

// TestChainRefused: a hop that refuses is KindHop, and the connection to it is
// aborted; one that is not there is as any address.
func TestChainRefused(t *testing.T) {
	hop := newLineHop(t)
	nobody := boundPort(t, "127.0.0.1")
	_, err := anysock.Dial(soon(t), hop.addr()+",tcp://127.0.0.1:"+nobody)
	e := errorOfKind(t, "a refusing hop", err, anysock.KindHop)
	if e.Op != anysock.OpHandshake || !strings.Contains(err.Error(), "refused by the target") {
		t.Errorf("the error is %v", err)
	}
	_, err = anysock.Dial(soon(t), "socks5://127.0.0.1:"+nobody+","+hop.addr()+",tcp://127.0.0.1:1")
	wantErrorKind(t, "a missing hop", err, anysock.KindRefused)

	// A hop that says nothing: the context ends it, and it sees a reset.
	raw := mustListen(t, &anysock.ListenConfig{}, "tcp://127.0.0.1:0")
	ctx, cancel := context.WithTimeout(t.Context(), 40*time.Millisecond)
	defer cancel()
	_, err = anysock.Dial(ctx, "socks5://"+raw.Addr().String()+",tcp://x:1")
	wantErrorKind(t, "a silent hop", err, anysock.KindTimeout)
	c := mustAccept(t, raw)
	c.SetReadDeadline(time.Now().Add(tooLong))
	_, err = io.Copy(io.Discard, c)
	wantErrorKind(t, "the silent hop's read", err, anysock.KindReset)
}

// TestChainsThatMakeNoSense are errors before anybody is connected to.
func TestChainsThatMakeNoSense(t *testing.T) {
	trap := mustListen(t, &anysock.ListenConfig{}, "tcp://127.0.0.1:0")
	host := trap.Addr().String()
	for _, tt := range []struct {
		addr string
		kind anysock.Kind
	}{
		{"tcp://" + host + ",tcp://x:1", anysock.KindAddress},
		{"tls://" + host + ",tcp://x:1", anysock.KindAddress},
		{"socks5://" + host, anysock.KindAddress},                                 // a hop is no target
		{"ssh://" + host, anysock.KindUnsupported},                                // a layer without a client side
		{"socks5://" + host + ",ssh://x:1", anysock.KindUnsupported},              // the same, behind a hop
		{"ssh://" + host + ",tcp://x:1", anysock.KindAddress},                     // the fake ssh leads nowhere
		{"socks5://" + host + ",tcp://x:1?bind=127.0.0.1:0", anysock.KindAddress}, // bound where?
		{"socks5://" + host + ",tcp://x:1?retry=3", anysock.KindAddress},
	} {
		c, err := anysock.Dial(soon(t), tt.addr)
		if err == nil {
			t.Errorf("dialed %s", tt.addr)
			_ = c.Abort()
			continue
		}
		wantErrorKind(t, tt.addr, err, tt.kind)
	}
	for _, addr := range []string{"ssh://127.0.0.1:0,tcp://:0", "socks5://127.0.0.1:0", "echo:", "stdio:"} {
		ln, err := anysock.Listen(soon(t), addr)
		if err == nil {
			t.Errorf("listening on %s", addr)
			ln.Close()
			continue
		}
		if addr == "stdio:" {
			wantErrorKind(t, addr, err, anysock.KindAddress) // not registered here
			continue
		}
		wantErrorKind(t, addr, err, anysock.KindUnsupported)
		if !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("%s: %v does not match ErrUnsupported", addr, err)
		}
	}
	// Nobody was connected to.
	trap.SetDeadline(time.Now().Add(30 * time.Millisecond))
	if c, err := trap.AcceptContext(soon(t)); err == nil {
		t.Error("somebody was connected to before the address was looked at")
		_ = c.Abort()
	}
}

// TestCapsAlongTheChain: each layer and hop sees what is below it.
func TestCapsAlongTheChain(t *testing.T) {
	caps := func(addr string) anysock.Caps {
		t.Helper()
		c, err := anysock.AddressCaps(anysock.MustParseAddress(addr))
		must(t, addr, err)
		return c
	}
	tcp := caps("tcp://h:1")
	if !tcp.Has(anysock.CapHalfClose|anysock.CapAbort|anysock.CapCutDetect|anysock.CapDeadline) || tcp.Has(anysock.CapCloseAck) != acksKnown(t) {
		t.Errorf("tcp has %v", tcp)
	}
	unix := caps("unix:/x")
	if unix.Has(anysock.CapAbort) || unix.Has(anysock.CapCloseAck) || !unix.Has(anysock.CapHalfClose) {
		t.Errorf("unix has %v", unix)
	}
	for addr, want := range map[string]anysock.Caps{
		"tls://h:1":              tcp &^ anysock.CapCloseAck,
		"tls+unix:/x":            unix,
		"ws+tls://h:1":           tcp &^ (anysock.CapCloseAck | anysock.CapHalfClose | anysock.CapAbort),
		"tls+ws+tls://h:1":       tcp &^ (anysock.CapCloseAck | anysock.CapHalfClose | anysock.CapAbort),
		"socks5://p:1,tls://h:1": tcp &^ anysock.CapCloseAck,
		// Behind a hop the base adds nothing: what counts is the hop.
		"socks5://p:1,ws+unix:/x": tcp &^ (anysock.CapCloseAck | anysock.CapHalfClose | anysock.CapAbort),
	} {
		if got := caps(addr); got != want {
			t.Errorf("%s has %v, want %v", addr, got, want)
		}
	}
	if s := anysock.Caps(0).String(); s != "none" {
		t.Errorf("no caps print as %q", s)
	}
	if s := (anysock.CapHalfClose | anysock.CapBindSource).String(); s != "halfclose,bindsource" {
		t.Errorf("caps print as %q", s)
	}
	_, err := anysock.AddressCaps(anysock.MustParseAddress("tcp://h:1?x=1"))
	wantKindOfAddress(t, err)
}

func wantKindOfAddress(t testing.TB, err error) {
	t.Helper()
	var ae *anysock.AddressError
	if !errors.As(err, &ae) {
		t.Errorf("%v is no AddressError", err)
	}
}

// TestRegisterMistakes: programming errors panic.
func TestRegisterMistakes(t *testing.T) {
	something := func(context.Context, *anysock.Dialer, anysock.Target) (net.Conn, error) { return nil, io.EOF }
	for name, tr := range map[string]anysock.Transport{
		"no word":    {Scheme: "nosuchword", Dial: something},
		"twice":      {Scheme: "tcp", Dial: something},
		"nothing":    {Scheme: "quic"},
		"empty word": {Dial: something},
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			anysock.Register(tr)
		}()
	}
	if s := anysock.Schemes(); !slices.IsSorted(s) || !slices.Contains(s, "tcp") || !slices.Contains(s, "socks5") || slices.Contains(s, "quic") {
		t.Errorf("registered are %v", s)
	}
}

// TestLayerFailureIsNoticedUnread: a reset of the carrier is a failure of the
// layers over it, for those who wait without reading; data is not.
func TestLayerFailureIsNoticedUnread(t *testing.T) {
	ln := mustListen(t, &anysock.ListenConfig{}, "tls+tls+tcp://127.0.0.1:0")
	for _, how := range []string{"Wait", "Selector"} {
		t.Run(how, func(t *testing.T) {
			c := mustDial(t, &anysock.Dialer{}, "tls+tls+tcp://"+ln.Addr().String())
			peer := mustAccept(t, ln)
			if _, err := peer.Write([]byte("unread")); err != nil {
				t.Fatal(err)
			}
			ctx := soon(t)
			noticed := make(chan anysock.Readiness, 1)
			needEpoll(t)
			if how == "Wait" {
				go func() {
					r, err := c.Wait(ctx, 0, 1)
					if err != nil {
						t.Errorf("Wait: %v", err)
					}
					noticed <- r
				}()
			} else {
				sel := mustSelector(t)
				must(t, "Add", sel.Add(c, 0))
				if err := sel.Add(c, anysock.Readable); !errors.Is(err, errors.ErrUnsupported) {
					t.Errorf("Add for reading: %v", err)
				}
				go func() {
					found, err := sel.Wait(ctx)
					if err != nil || len(found) != 1 || found[0].Conn() != c {
						t.Errorf("Wait: %v, %v", found, err)
						noticed <- 0
						return
					}
					noticed <- found[0].Ready
				}()
			}
			select {
			case r := <-noticed:
				t.Fatalf("%s before the reset", r)
			case <-time.After(30 * time.Millisecond):
			}
			_ = peer.Abort()
			if r := <-noticed; r&anysock.Failed == 0 {
				t.Errorf("noticed is %s", r)
			}
		})
	}
}
