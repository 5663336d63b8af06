package anysock_test

import (
	"errors"
	"net/netip"
	"sync"
	"testing"

	"github.com/anysock/anysock"
)

// TestAllow: every numeric address is asked about before its attempt, with
// IPv4-mapped forms folded; one that is refused is not connected to, and the
// next is tried.
func TestAllow(t *testing.T) {
	ln := mustListen(t, &anysock.ListenConfig{}, "tcp://127.0.0.1:0")
	want := netip.MustParseAddrPort(ln.Addr().String())
	refusal := errors.New("not this one")
	var mu sync.Mutex
	var asked []netip.AddrPort
	d := &anysock.Dialer{AttemptDelay: -1, Allow: func(a netip.AddrPort) error {
		mu.Lock()
		defer mu.Unlock()
		asked = append(asked, a)
		if len(asked) == 1 {
			return refusal
		}
		return nil
	}}
	_, err := d.Dial(soon(t), "tcp://[::ffff:127.0.0.1]:"+portOf(want))
	e := errorOfKind(t, "a refused address", err, anysock.KindPermission)
	if !errors.Is(err, refusal) || len(e.Attempts) != 1 {
		t.Errorf("the error is %v", e)
	}
	var told []netip.AddrPort
	d.OnConnected = func(local, peer netip.AddrPort) { told = append(told, local, peer) }
	c := mustDial(t, d, "tcp://"+want.String())
	if len(asked) != 2 || asked[0] != want || asked[1] != want {
		t.Errorf("asked about %v, want %v twice", asked, want)
	}
	if local := netip.MustParseAddrPort(c.LocalAddr().String()); len(told) != 2 || told[0] != local || told[1] != want {
		t.Errorf("told of %v", told)
	}
}

func portOf(a netip.AddrPort) string { return a.String()[len(a.Addr().String())+1:] }

// TestOriginalDestination: a connection that nothing redirected was going
// where it is, and only TCP has the notion. Redirected ones are package
// relay's test.
func TestOriginalDestination(t *testing.T) {
	for _, addr := range []string{"tcp://127.0.0.1:0", "tcp://[::1]:0"} {
		_, b := mustPair(t, addr, &anysock.Dialer{}, &anysock.ListenConfig{})
		to, err := b.OriginalDestination()
		if errors.Is(err, errors.ErrUnsupported) {
			t.Skip("this platform has no transparent redirection")
		}
		if err != nil || to.String() != b.LocalAddr().String() {
			t.Errorf("the destination is %s, %v; want %s", to, err, b.LocalAddr())
		}
	}
	a, _ := mustPair(t, "unix:"+t.TempDir()+"/s", &anysock.Dialer{}, &anysock.ListenConfig{})
	if _, err := a.OriginalDestination(); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("on unix: %v", err)
	}
	_, err := anysock.Dial(t.Context(), "original:")
	wantErrorKind(t, "dialing original:", err, anysock.KindUnsupported)
}
