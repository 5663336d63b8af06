// This file tests dialing: addresses of both families, local addresses, and
// what nobody answers.

package quic

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/anysock/anysock"
)

// Where nobody listens the dial ends at once, by the kernel's word.
func TestRefused(t *testing.T) {
	r, ctx := newRig(t), bound(t)
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	pc.Close()
	began := time.Now()
	_, err = anysock.Dial(ctx, r.dialTo(pc.LocalAddr(), ""))
	var e *anysock.Error
	if !errors.As(err, &e) || e.Kind != anysock.KindRefused || e.Hint == "" || len(e.Attempts) != 1 {
		t.Errorf("Dial: %v, %+v", err, e)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %s", took)
	}
}

// A listener that is closed while connections of it live refuses new ones, and
// the old ones go on.
func TestClosedListenerRefuses(t *testing.T) {
	r, ctx := newRig(t), bound(t)
	ln := r.listen("")
	a, b := r.pair(ctx, ln, ln.Addr(), "")
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := anysock.Dial(ctx, r.dialTo(ln.Addr(), "")); kindOf(err) != anysock.KindRefused {
		t.Errorf("Dial: %v (%s), want refused", err, kindOf(err))
	}
	if _, err := a.Write([]byte("still")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(b, make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
}

// A server that does not answer is a timeout, within the attempt's bound.
func TestNoAnswer(t *testing.T) {
	r, ctx := newRig(t), bound(t)
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	_, err = anysock.Dial(ctx, r.dialTo(pc.LocalAddr(), "&timeout=300ms"))
	if kindOf(err) != anysock.KindTimeout {
		t.Errorf("Dial: %v (%s), want timeout", err, kindOf(err))
	}
	cctx, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := anysock.Dial(cctx, r.dialTo(pc.LocalAddr(), "")); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled Dial: %v", err)
	}
}

// A name with addresses of both families reaches a listener of either.
func TestBothFamilies(t *testing.T) {
	r, ctx := newRig(t), bound(t)
	probe, err := net.ListenPacket("udp6", "[::1]:0")
	if err != nil {
		t.Skip("no IPv6 here: ", err)
	}
	probe.Close()
	localhost, err := net.LookupHost("localhost")
	if err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{"127.0.0.1", "[::1]", "[::]"} {
		ln, err := anysock.Listen(ctx, strings.Replace(r.listenAt(""), "127.0.0.1", host, 1))
		if err != nil {
			t.Fatal(err)
		}
		port := ln.Addr().(*net.UDPAddr).Port
		hosts := []string{""} // this machine, by either family
		if slices.Contains(localhost, strings.Trim(host, "[]")) {
			hosts = append(hosts, "localhost")
		}
		if host == "[::]" {
			hosts = append(hosts, "127.0.0.1", "[::1]")
		}
		for _, to := range hosts {
			a, err := anysock.Dial(ctx, "quic://"+to+":"+strconv.Itoa(port)+"?ca=file:"+r.ca.File)
			if err != nil {
				t.Errorf("%q to a listener on %s: %v", to, host, err)
				continue
			}
			b := accept(ctx, t, ln)
			if a.RemoteAddr().Network() != "quic" || b.RemoteAddr().String() != a.LocalAddr().String() && host != "[::]" {
				t.Errorf("from %s to %s, accepted from %s", a.LocalAddr(), a.RemoteAddr(), b.RemoteAddr())
			}
			_, _ = a.Abort(), b.Abort()
		}
		ln.Close()
	}
}

// The local address and the interface are chosen.
func TestLocalAddressAndInterface(t *testing.T) {
	r, ctx := newRig(t), bound(t)
	ln := r.listen("")
	a, b := r.pair(ctx, ln, ln.Addr(), "&bind=127.0.0.1:0")
	_, _ = a.Abort(), b.Abort()
	if runtime.GOOS != "linux" {
		t.Skip("other systems have other addresses of loopback, and no SO_BINDTODEVICE")
	}
	a, b = r.pair(ctx, ln, ln.Addr(), "&bind=127.0.0.9:0&interface=lo")
	if !strings.HasPrefix(b.RemoteAddr().String(), "127.0.0.9:") {
		t.Errorf("it comes from %s", b.RemoteAddr())
	}
	_, _ = a.Abort(), b.Abort()
	_, err := anysock.Dial(ctx, r.dialTo(ln.Addr(), "&interface=nosuchdevice"))
	if err == nil || !strings.Contains(err.Error(), "no such device") {
		t.Errorf("an interface that there is not: %v", err)
	}
}

// The caller's rule is asked before a socket is made.
func TestAllowIsAsked(t *testing.T) {
	r, ctx := newRig(t), bound(t)
	ln := r.listen("")
	forbidden := errors.New("forbidden")
	d := anysock.Dialer{Allow: func(netip.AddrPort) error { return forbidden }}
	if _, err := d.Dial(ctx, r.dialTo(ln.Addr(), "")); !errors.Is(err, forbidden) || kindOf(err) != anysock.KindPermission {
		t.Errorf("Dial: %v", err)
	}
}
