package anysock

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/anysock/anysock/internal/sys"
)

// This file holds the tests of the order of addresses (RFC 8305 section 4),
// for which the resolver's timing must play no part.

func ips(list string) []netip.Addr {
	var out []netip.Addr
	for _, s := range strings.Fields(list) {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

func TestInterleave(t *testing.T) {
	for _, tt := range []struct{ six, four, want string }{
		{"", "", ""},
		{"::1 ::2 ::3", "", "::1,::2,::3"},
		{"", "10.0.0.1 10.0.0.2", "10.0.0.1,10.0.0.2"},
		{"::1 ::2", "10.0.0.1 10.0.0.2", "::1,10.0.0.1,::2,10.0.0.2"},
		{"::1", "10.0.0.1 10.0.0.2 10.0.0.3", "::1,10.0.0.1,10.0.0.2,10.0.0.3"},
		{"::1 ::2 ::3", "10.0.0.1", "::1,10.0.0.1,::2,::3"},
	} {
		if got := joinAddrs(interleave(ips(tt.six), ips(tt.four))); got != tt.want {
			t.Errorf("interleave(%s; %s) = %s, want %s", tt.six, tt.four, got, tt.want)
		}
		// Whichever answer came first, IPv6 leads.
		six, four := answer{six: true, ips: ips(tt.six)}, answer{ips: ips(tt.four)}
		for _, a := range []answer{both(six, four), both(four, six)} {
			if got := joinAddrs(a.ips); got != tt.want || a.err != nil {
				t.Errorf("both(%s; %s) = %s, %v; want %s", tt.six, tt.four, got, a.err, tt.want)
			}
		}
	}
}

func TestBothErrors(t *testing.T) {
	e6, e4 := errors.New("six"), errors.New("four")
	if a := both(answer{six: true, err: e6}, answer{err: e4}); !errors.Is(a.err, e4) && !errors.Is(a.err, e6) {
		t.Errorf("no address at all: the error is %v", a.err)
	}
	if a := both(answer{six: true, err: e6}, answer{ips: ips("10.0.0.1")}); a.err != nil || len(a.ips) != 1 {
		t.Errorf("one family failed: %v", a)
	}
}

// TestEnqueue: addresses that come late alternate with what is left.
func TestEnqueue(t *testing.T) {
	r := &dialRound{port: 80}
	queue := r.enqueue(nil, answer{ips: ips("10.0.0.1 10.0.0.2 10.0.0.3")})
	queue = r.enqueue(queue[1:], answer{six: true, ips: ips("::1 ::2 ::3")})
	var got []string
	for _, a := range queue {
		got = append(got, a.Net().String())
	}
	want := []string{"[::1]:80", "10.0.0.2:80", "[::2]:80", "10.0.0.3:80", "[::3]:80"}
	if !slices.Equal(got, want) {
		t.Errorf("the queue is %v, want %v", got, want)
	}
	// A local address leaves only its family.
	local := sys.IPAddr(netip.MustParseAddrPort("10.9.9.9:0"))
	r.local = &local
	if queue = r.enqueue(nil, answer{ips: ips("::1 10.0.0.1 ::2")}); len(queue) != 1 || queue[0].Family != sys.Inet4 {
		t.Errorf("from an IPv4 address the queue is %v", queue)
	}
}
