package relay_test

// The transparent relay, in a network namespace of its own: this binary runs
// itself there, with the rules of a firewall that redirect to it.

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/relay"
)

const inNamespace = "ANYSOCK_RELAY_NAMESPACE"

// transparentRules redirect what goes to port 80 of the servers' addresses,
// except from the address that the relay uses. Port 15001 is the relay's; 81
// is redirected whoever asks.
const transparentRules = `
table inet anysock {
	chain output {
		type nat hook output priority -100; policy accept;
		ip daddr 10.99.0.1 tcp dport 80 ip saddr != 10.99.0.2 redirect to :15001
		ip6 daddr fd99::1 tcp dport 80 ip6 saddr != fd99::2 redirect to :15001
		ip daddr 10.99.0.1 tcp dport 81 redirect to :15001
		ip6 daddr fd99::1 tcp dport 81 redirect to :15001
		ip daddr 10.99.0.3 tcp dport 15001 redirect to :15001
	}
}
`

// TestTransparentRelay runs itself in the namespace, and there its subtests.
func TestTransparentRelay(t *testing.T) {
	if os.Getenv(inNamespace) != "" {
		t.Run("destination", testOriginalDestination)
		t.Run("refused there", testRefusedThere)
		t.Run("not redirected", testNotRedirected)
		t.Run("loop", testLoop)
		t.Run("own address", testOwnAddress)
		return
	}
	needsBackend(t)
	if os.Getuid() != 0 {
		t.Skip("needs root for a network namespace")
	}
	for _, program := range []string{"unshare", "ip", "nft"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("needs %s", program)
		}
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	setUp := `set -e
ip link set lo up
for a in 10.99.0.1 10.99.0.2 10.99.0.3; do ip addr add $a/32 dev lo; done
for a in fd99::1 fd99::2; do ip -6 addr add $a/128 dev lo nodad; done
printf %s "$RULES" | nft -f -
`
	env := append(os.Environ(), inNamespace+"=1", "RULES="+transparentRules)
	try := exec.Command("unshare", "-n", "sh", "-c", setUp)
	try.Env = env
	if out, err := try.CombinedOutput(); err != nil {
		t.Skipf("cannot redirect in a network namespace: %v: %s", err, bytes.TrimSpace(out))
	}
	cmd := exec.Command("unshare", "-n", "sh", "-c", setUp+`exec "$0" -test.run=^TestTransparentRelay$ -test.v -test.timeout=60s`, exe)
	cmd.Env = env
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Error(err)
	}
	if n := strings.Count(string(out), "--- PASS: TestTransparentRelay/"); n < 5 {
		t.Errorf("%d tests have passed there", n)
	}
}

// A way is one family's addresses in the namespace.
type way struct{ name, server, looping, relay, own string }

var ways = []way{
	{"IPv4", "10.99.0.1:80", "10.99.0.1:81", "127.0.0.1:15001", "10.99.0.2:0"},
	{"IPv6", "[fd99::1]:80", "[fd99::1]:81", "[::1]:15001", "[fd99::2]:0"},
}

// transparent is a dual-stack relay to where connections were going.
func transparent(t *testing.T, target, own string) *station {
	t.Helper()
	r := &relay.Relay{Dialer: anysock.Dialer{Local: own, Retry: anysock.Retry{Attempts: 1}}}
	return newStationAt(t, "tcp://:15001", target, r)
}

// testOriginalDestination: a connection reaches where it was going, and its
// endings pass.
func testOriginalDestination(t *testing.T) {
	for _, w := range ways {
		t.Run(w.name, func(t *testing.T) {
			s := transparent(t, "original:?original.keepidle=20s&nodelay=1", w.own)
			ln := listen(t, anysock.ListenConfig{}, "tcp://"+w.server)
			client, err := anysock.Dial(t.Context(), "tcp://"+w.server)
			if err != nil {
				t.Fatal(err)
			}
			defer client.Abort()
			server, err := ln.AcceptContext(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer server.Abort()
			host, _, _ := strings.Cut(w.own, "]:")
			if got := server.RemoteAddr().String(); !strings.HasPrefix(got, strings.TrimSuffix(host, ":0")) {
				t.Errorf("the server sees %s, not the relay", got)
			}
			write(t, client, text(100))
			closeWrite(t, client)
			read(t, server, text(100))
			readEnd(t, server)
			write(t, server, text(200))
			disconnect(t, server)
			read(t, client, text(200))
			readEnd(t, client)
			rec := s.record()
			if rec.How != anysock.Graceful || rec.Target != "tcp://"+w.server+"?tcp.keepidle=20s&nodelay=1" || rec.Outbound.Peer != w.server {
				t.Errorf("%v, target %s, outbound %s", rec, rec.Target, rec.Outbound.Peer)
			}
		})
	}
}

// testRefusedThere: nobody listens where it was going.
func testRefusedThere(t *testing.T) {
	w := ways[0]
	s := transparent(t, "original:", w.own)
	wantReset(t, "tcp://"+w.server)
	if rec := s.record(); rec.How != anysock.Refused || rec.By != relay.Outbound || kindOf(rec.Err) != anysock.KindRefused {
		t.Error(rec)
	}
}

// testNotRedirected: who connects to the relay itself is refused.
func testNotRedirected(t *testing.T) {
	for _, w := range ways {
		t.Run(w.name, func(t *testing.T) {
			s := transparent(t, "original:", w.own)
			wantReset(t, "tcp://"+w.relay)
			rec := s.record()
			wantSelfRefused(t, rec, relay.ErrNotRedirected, "docs/TRANSPARENT.md")
			if !rec.Connected.IsZero() {
				t.Error("it was connected somewhere")
			}
		})
	}
}

// testLoop: a rule that catches the relay's own connections too
// makes it dial itself; it notices at once.
func testLoop(t *testing.T) {
	for _, w := range ways {
		t.Run(w.name, func(t *testing.T) {
			s := transparent(t, "original:", "")
			for range 20 {
				wantReset(t, "tcp://"+w.looping)
			}
			if _, err := s.Shutdown(context.Background()); err != nil {
				t.Error(err)
			}
			refused, most := 0, 0
			for len(s.records) > 0 {
				rec := s.record()
				most++
				if errors.Is(rec.Err, relay.ErrLoop) {
					refused++
					wantSelfRefused(t, rec, relay.ErrLoop, "by user or by source address")
				}
			}
			// Each client makes one connection and the one that comes back; a look
			// that came too early makes one more.
			if refused < 20 || most > 20*4 {
				t.Errorf("%d refused of %d connections for 20 clients", refused, most)
			}
			t.Logf("%d connections for 20 clients", most)
		})
	}
}

// testOwnAddress: the destination is the relay's own, on another
// address of this machine.
func testOwnAddress(t *testing.T) {
	s := transparent(t, "original:", "")
	wantReset(t, "tcp://10.99.0.3:15001")
	wantSelfRefused(t, s.record(), relay.ErrLoop, "leave out its port")
}

// TestOriginalNeedsTCP: nothing else is redirected.
func TestOriginalNeedsTCP(t *testing.T) {
	s := newStation(t, "unix", "original:", &relay.Relay{})
	c, err := anysock.Dial(t.Context(), s.address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Abort()
	rec := s.record()
	if rec.How != anysock.Refused || !errors.Is(rec.Err, errors.ErrUnsupported) {
		t.Error(rec)
	}
}

// wantReset connects and must be reset, which may come before the connecting
// is seen to have succeeded.
func wantReset(t *testing.T, address string) {
	t.Helper()
	c, err := anysock.Dial(t.Context(), address)
	if err != nil {
		if !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.ENOTCONN) {
			t.Errorf("the client got %v", err)
		}
		return
	}
	defer c.Abort()
	if err := nextError(t, c); kindOf(err) != anysock.KindReset {
		t.Errorf("the client got %v", err)
	}
}

func wantSelfRefused(t *testing.T, rec relay.Record, reason error, hint string) {
	t.Helper()
	var e *anysock.Error
	if rec.How != anysock.Refused || rec.By != relay.Self || !errors.Is(rec.Err, reason) {
		t.Errorf("%v by %v: %v", rec.How, rec.By, rec.Err)
	}
	if !errors.As(rec.Err, &e) || !strings.Contains(e.Hint, hint) {
		t.Errorf("no hint %q in %+v", hint, rec.Err)
	}
	if b, err := rec.MarshalJSON(); err != nil || !strings.Contains(string(b), `"hint":"`) {
		t.Errorf("no hint in %s, %v", b, err)
	}
	if !strings.Contains(rec.String(), hint) {
		t.Errorf("no hint in %s", rec)
	}
}
