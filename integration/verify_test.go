// Verify judges the relays of others, and ours: what each loses is found and
// called by its name.

package integration_test

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
)

var loopbacks atomic.Int32

// ownLoopback is an address of loopback that no other test uses, so that a port
// of it is free: for programs that are told the port and cannot choose it.
func ownLoopback(t *testing.T) string {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("only Linux has all of 127.0.0.0/8")
	}
	pid := os.Getpid()
	return fmt.Sprintf("127.%d.%d.%d:9000", 64+pid>>8&63, pid&255, 1+loopbacks.Add(1))
}

// listens waits until somebody does at address.
func listens(t *testing.T, p *process, address string) {
	t.Helper()
	until(t, p.name+" listens", func() bool {
		select {
		case <-p.exited:
			t.Fatalf("%s ended: %s", p.name, p.errs.String())
		default:
		}
		c, err := net.Dial("tcp", address)
		if err != nil {
			return false
		}
		c.Close()
		return true
	})
}

// others are relays that pass on connections from one tcp address to another.
var others = map[string]func(t *testing.T, from, to string){
	"haproxy": func(t *testing.T, from, to string) {
		path := need(t, "haproxy")
		file := filepath.Join(t.TempDir(), "haproxy.cfg")
		config := sprintf("global\n maxconn 1000\ndefaults\n mode tcp\n timeout connect 5s\n timeout client 20s\n timeout server 20s\n"+
			"frontend f\n bind %s\n default_backend b\nbackend b\n server s %s\n", from, to)
		if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
			t.Fatal(err)
		}
		listens(t, start(t, command{argv: []string{path, "-db", "-q", "-f", file}}), from)
	},
	"nginx": func(t *testing.T, from, to string) {
		nginx(t, t.TempDir(), "", sprintf("server { listen %s; proxy_pass %s; }", from, to))
	},
	"socat": func(t *testing.T, from, to string) {
		listens(t, start(t, command{argv: []string{need(t, "socat"), "TCP-LISTEN:9000,fork,reuseaddr,backlog=200,bind=" + strings.TrimSuffix(from, ":9000"), "TCP:" + to}}), from)
	},
}

// A verified is what verify says with --json at its end.
type verified struct {
	Event       string
	Connections int
	InOrder     int `json:"in_order"`
	Aborted     int
	Faults      map[string]int
	Complete    bool
}

// judged runs verify, wants its status, and returns its report.
func judged(t *testing.T, status int, args ...string) verified {
	t.Helper()
	p := anysock(t, nil, append([]string{"verify", "--json", "--at-once=20", "--late=100ms", "--timeout=12s"}, args...)...)
	p.wantStatus(status)
	lines := strings.Split(strings.TrimSpace(p.out.String()), "\n")
	var v verified
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &v); err != nil || v.Event != "report" || !v.Complete {
		t.Fatalf("%v: %s", err, lines[len(lines)-1])
	}
	return v
}

const (
	endsInOrder = "--orders=client-half-closes,server-half-closes,client-closes,server-closes,both-end"
	aborts      = "--orders=client-aborts-sending,server-aborts-sending,client-aborts-receiving,server-aborts-receiving"
)

// TestVerifyOthers: what HAProxy, nginx and socat make of resets is an end of
// file, which is found; HAProxy and socat pass ends in order on, nginx makes one
// end both.
func TestVerifyOthers(t *testing.T) {
	t.Parallel()
	for name, relay := range others {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			from, to := ownLoopback(t), ownLoopback(t)
			relay(t, from, to)
			path := "--relay=" + from + "," + to
			v := judged(t, 9, "--count=80", aborts, path)
			if v.Faults["false-end"] < 20 || v.Faults["wrong-bytes"]+v.Faults["extra-bytes"] > 0 {
				t.Errorf("aborts: %+v", v)
			}
			if name == "nginx" {
				v = judged(t, 9, "--count=100", endsInOrder, path)
				if v.Faults["false-end"]+v.Faults["lost-bytes"] < 20 {
					t.Errorf("ends in order: %+v", v)
				}
				return
			}
			if v = judged(t, 0, "--count=100", endsInOrder, path); v.InOrder != 100 {
				t.Errorf("ends in order: %+v", v)
			}
		})
	}
}

// TestVerifyLateReply: socat waits half a second for the reply to a half-close,
// and loses what comes later.
func TestVerifyLateReply(t *testing.T) {
	t.Parallel()
	from, to := ownLoopback(t), ownLoopback(t)
	others["socat"](t, from, to)
	p := anysock(t, nil, "verify", "--count=100", "--at-once=50", "--late=3s", "--orders=client-half-closes", "--relay="+from+","+to)
	p.wantStatus(9)
	p.complains(`(false-end|lost-bytes): the client read an end of file after [0-9]+ of [0-9]+ bytes .*late reply after`)
}

// TestVerifyOurs: ours passes everything on, over whatever is in its addresses.
func TestVerifyOurs(t *testing.T) {
	t.Parallel()
	f := newTLSFiles(t)
	dir := shortDir(t)
	unix := func(name string) string { return "unix:" + filepath.Join(dir, name) }
	for name, legs := range map[string]struct{ from, dial, to, dialTo string }{
		"tcp to tcp":   {from: anyPort, to: "tcp://" + ownLoopback(t)},
		"tcp to unix":  {from: anyPort, to: unix("a")},
		"unix to tcp":  {from: unix("b"), to: "tcp://" + ownLoopback(t)},
		"unix to unix": {from: unix("c"), to: unix("d")},
		"tls to tcp":   {from: "tls://127.0.0.1:0" + f.serving(), dial: f.trusting(), to: "tcp://" + ownLoopback(t)},
		"tcp to tls":   {from: anyPort, to: "tls://" + ownLoopback(t) + f.serving(), dialTo: f.trusting("sni=localhost")},
		"wss to tcp":   {from: "wss://127.0.0.1:0" + f.serving(), dial: f.trusting(), to: "tcp://" + ownLoopback(t)},
		"quic to tcp":  {from: "quic://127.0.0.1:0" + f.serving(), dial: f.trusting(), to: "tcp://" + ownLoopback(t)},
		"lc+tcp":       {from: "lc+tcp://127.0.0.1:0", to: "lc+tcp://" + ownLoopback(t)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			target := legs.to
			if legs.dialTo != "" {
				target = withoutOptions(legs.to) + legs.dialTo
			}
			r, at := relay(t, legs.from, target)
			v := judged(t, 0, "--count=180", "--relay="+at+legs.dial+","+legs.to)
			if v.Connections != 180 || len(v.Faults) > 0 || v.InOrder == 0 {
				t.Errorf("%+v", v)
			}
			r.signal(syscall.SIGTERM)
			r.ok()
		})
	}
}

// TestVerifyProxy: TO is dialed through a proxy, ours and a foreign one.
func TestVerifyProxy(t *testing.T) {
	t.Parallel()
	for _, scheme := range []string{"socks5", "http"} {
		t.Run(scheme, func(t *testing.T) {
			t.Parallel()
			p := anysock(t, nil, "proxy", anyPort)
			_, at, _ := strings.Cut(p.bound(), "://")
			v := judged(t, 0, "--count=180", "--relay="+scheme+"://"+at+",tcp://"+ownLoopback(t))
			if v.InOrder != 100 || v.Connections != 180 {
				t.Errorf("%+v", v)
			}
		})
	}
}

// TestVerifyElsewhere: the far end in another process, over what is between two
// machines.
func TestVerifyElsewhere(t *testing.T) {
	t.Parallel()
	f := newTLSFiles(t)
	for _, at := range []string{"tcp", "tls", "wss", "quic"} {
		t.Run(at, func(t *testing.T) {
			t.Parallel()
			serving, trusting := f.serving(), f.trusting()
			if at == "tcp" {
				serving, trusting = "", ""
			}
			far := anysock(t, nil, "verify", "--serve", at+"://127.0.0.1:0"+serving)
			v := judged(t, 0, "--count=90", far.bound()+trusting)
			if v.Connections != 90 || len(v.Faults) > 0 {
				t.Errorf("%+v", v)
			}
			far.signal(syscall.SIGTERM)
			far.ok()
		})
	}
}
