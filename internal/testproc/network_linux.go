package testproc

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
)

// This file makes networks of two hosts for roles to run on.

// The addresses of a Network's two hosts.
const (
	AddrA = "10.99.0.1"
	AddrB = "10.99.0.2"
)

// A Network is two hosts, A and B: network namespaces (network_namespaces(7))
// that a veth pair joins, each with a loopback interface and v0. It is gone
// when the test ends.
type Network struct {
	t    testing.TB
	A, B string // the namespaces' names
}

var networks atomic.Int32

// NewNetwork makes one; where that cannot be done the test is skipped.
func NewNetwork(t testing.TB) *Network {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root for a network namespace")
	}
	if _, err := exec.LookPath("ip"); err != nil {
		t.Skip("needs ip(8) from iproute2")
	}
	id := fmt.Sprintf("as%d-%d", os.Getpid(), networks.Add(1))
	n := &Network{t: t, A: id + "a", B: id + "b"}
	for _, ns := range []string{n.A, n.B} {
		if out, err := exec.Command("ip", "netns", "add", ns).CombinedOutput(); err != nil {
			t.Skipf("cannot make a network namespace: %s", bytes.TrimSpace(out))
		}
		t.Cleanup(func() { _ = exec.Command("ip", "netns", "del", ns).Run() })
	}
	n.IP("link", "add", "v0", "netns", n.A, "type", "veth", "peer", "name", "v0", "netns", n.B)
	n.IP("-n", n.A, "addr", "add", AddrA+"/24", "dev", "v0")
	n.IP("-n", n.B, "addr", "add", AddrB+"/24", "dev", "v0")
	for _, ns := range []string{n.A, n.B} {
		n.IP("-n", ns, "link", "set", "lo", "up")
		n.IP("-n", ns, "link", "set", "v0", "up")
	}
	return n
}

// IP runs ip(8), which must succeed.
func (n *Network) IP(args ...string) {
	n.t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		n.t.Fatalf("ip %s: %v: %s", strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
}

// Cut takes a host's link down: from then on nothing gets through, and nobody
// is told.
func (n *Network) Cut(host string) {
	n.t.Helper()
	n.IP("-n", host, "link", "set", "v0", "down")
}

// Start runs a role on a host.
func (n *Network) Start(host, role string, env ...string) *Child {
	n.t.Helper()
	return start(n.t, []string{"ip", "netns", "exec", host}, role, env)
}

// In runs a command on a host; where it fails the test is skipped, for want of
// what it needs.
func (n *Network) In(host, needs string, argv ...string) {
	n.t.Helper()
	if out, err := exec.Command("ip", append([]string{"netns", "exec", host}, argv...)...).CombinedOutput(); err != nil {
		n.t.Skipf("needs %s: %v: %s", needs, err, bytes.TrimSpace(out))
	}
}
