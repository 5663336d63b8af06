// The transparent relay between network namespaces, with the firewall's rules
// of docs/TRANSPARENT.md and curl.

package integration_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

// A gateway is two hosts: a client, and the gateway that its connections go
// through, behind which a web server listens.
type gateway struct {
	t               *testing.T
	client, gateway string // namespaces
}

func newGateway(t *testing.T) *gateway {
	t.Helper()
	if runtime.GOOS != "linux" || os.Getuid() != 0 {
		t.Skip("needs root on Linux for network namespaces")
	}
	need(t, "ip")
	need(t, "nft")
	id := fmt.Sprintf("asgw%d", os.Getpid())
	g := &gateway{t: t, client: id + "c", gateway: id + "g"}
	for _, ns := range []string{g.client, g.gateway} {
		if out, err := exec.Command("ip", "netns", "add", ns).CombinedOutput(); err != nil {
			t.Skipf("cannot make a network namespace: %s", bytes.TrimSpace(out))
		}
		t.Cleanup(func() { _ = exec.Command("ip", "netns", "del", ns).Run() })
	}
	g.run("ip", "link", "add", "lan0", "netns", g.gateway, "type", "veth", "peer", "name", "eth0", "netns", g.client)
	for _, line := range []string{
		g.gateway + " link set lo up",
		g.gateway + " addr add 10.98.1.1/32 dev lo",
		g.gateway + " addr add fd98:1::1/128 dev lo nodad",
		g.gateway + " addr add 10.98.0.1/24 dev lan0",
		g.gateway + " addr add fd98::1/64 dev lan0 nodad",
		g.gateway + " link set lan0 up",
		g.client + " link set lo up",
		g.client + " addr add 10.98.0.2/24 dev eth0",
		g.client + " addr add fd98::2/64 dev eth0 nodad",
		g.client + " link set eth0 up",
		g.client + " route add default via 10.98.0.1",
		g.client + " -6 route add default via fd98::1",
	} {
		g.run(append([]string{"ip", "-n"}, strings.Fields(line)...)...)
	}
	return g
}

func (g *gateway) run(argv ...string) {
	g.t.Helper()
	if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
		g.t.Fatalf("%s: %v: %s", strings.Join(argv, " "), err, out)
	}
}

// start starts a program in a namespace.
func (g *gateway) start(ns string, argv ...string) *process {
	g.t.Helper()
	return start(g.t, command{argv: append([]string{"ip", "netns", "exec", ns}, argv...)})
}

// rules loads a file of rules into the gateway.
func (g *gateway) rules(text string) {
	g.t.Helper()
	file := filepath.Join(g.t.TempDir(), "rules")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		g.t.Fatal(err)
	}
	if out, err := exec.Command("ip", "netns", "exec", g.gateway, "nft", "-f", file).CombinedOutput(); err != nil {
		g.t.Skipf("this kernel cannot redirect: %v: %s", err, bytes.TrimSpace(out))
	}
}

func TestTransparentRelay(t *testing.T) {
	t.Parallel()
	python, curl := need(t, "python3"), need(t, "curl")
	g := newGateway(t)
	g.rules(`
table inet anysock {
	chain prerouting {
		type nat hook prerouting priority dstnat; policy accept;
		iifname "lan0" tcp dport 80 redirect to :15001
		iifname "lan0" tcp dport 81 redirect to :15002
	}
	chain output {
		type nat hook output priority -100; policy accept;
		meta skuid 0 accept
		tcp dport 80 redirect to :15001
	}
}
`)
	dir := t.TempDir()
	page := strings.Repeat("what the destination has to say\n", 20_000)
	if err := os.WriteFile(filepath.Join(dir, "page"), []byte(page), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, at := range [][2]string{{"10.98.1.1", "80"}, {"fd98:1::1", "80"}, {"10.98.1.1", "81"}} {
		g.start(g.gateway, python, "-u", "-m", "http.server", at[1], "--bind", at[0], "--directory", dir).says(`Serving HTTP`)
	}
	p := g.start(g.gateway, binary, "relay", "-v", "tcp://:15001", "original:")
	p.complains(`(?m)^listening on tcp://\[::\]:15001$`)

	url := func(host string) string { return "http://" + host + "/page" }
	for _, tt := range []struct {
		name, from string
		as         []string // what curl is run by
		host       string
	}{
		{"from the network", g.client, nil, "10.98.1.1"},
		{"from the network by IPv6", g.client, nil, "[fd98:1::1]"},
		{"from another user", g.gateway, []string{need(t, "setpriv"), "--reuid=65534", "--regid=65534", "--clear-groups"}, "10.98.1.1"},
		{"from another user by IPv6", g.gateway, []string{need(t, "setpriv"), "--reuid=65534", "--regid=65534", "--clear-groups"}, "[fd98:1::1]"},
	} {
		seen := strings.Count(p.errs.String(), ": graceful, ")
		c := g.start(tt.from, append(tt.as, curl, "-sS", "--noproxy", "*", "--max-time", "10", url(tt.host))...)
		c.ok()
		if c.out.String() != page {
			t.Errorf("%s: %d of %d bytes", tt.name, len(c.out.String()), len(page))
		}
		until(t, "the relay's record", func() bool { return strings.Count(p.errs.String(), ": graceful, ") > seen })
	}
	// Through a proxy.
	proxy := g.start(g.gateway, binary, "proxy", "-v", "tcp://127.0.0.1:1080")
	proxy.complains(`(?m)^listening on `)
	via := g.start(g.gateway, binary, "relay", "-v", "tcp://:15002", "socks5://127.0.0.1:1080,original:")
	via.complains(`(?m)^listening on `)
	c := g.start(g.client, curl, "-sS", "--noproxy", "*", "--max-time", "10", url("10.98.1.1:81"))
	c.ok()
	if c.out.String() != page {
		t.Errorf("through a proxy: %d of %d bytes", len(c.out.String()), len(page))
	}
	via.complains(`: graceful, `)
	proxy.complains(`10\.98\.1\.1:81`)

	// Who is left out by the rule, and who comes to the relay itself.
	own := g.start(g.gateway, curl, "-sS", "--noproxy", "*", "--max-time", "10", "-o", os.DevNull, url("10.98.1.1"))
	own.ok()
	direct := g.start(g.client, curl, "-sS", "--noproxy", "*", "--max-time", "10", "http://10.98.0.1:15001/")
	if direct.status() == 0 {
		t.Error("a connection to the relay itself was answered")
	}
	p.complains(`refused.*the connection was not redirected.*docs/TRANSPARENT\.md`)
	if n := strings.Count(p.errs.String(), ": graceful, "); n != 4 {
		t.Errorf("the relay has relayed %d connections, want 4", n)
	}
	p.signal(syscall.SIGTERM)
	p.ok()
}
