package anysock_test

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/internal/sys"
)

// scheduling is how late an attempt may begin on a busy machine: rounds are
// paced exactly, and each attempt begins a little after its round.
const scheduling = 40 * time.Millisecond

// TestRetryPacedByStart: attempts start Interval apart, however fast they
// fail, and every one is in the error.
func TestRetryPacedByStart(t *testing.T) {
	port := boundPort(t, "127.0.0.1")
	const interval = 80 * time.Millisecond
	var events recorder
	d := &anysock.Dialer{Retry: anysock.Retry{Attempts: 3, Interval: interval}, Trace: events.trace}
	_, err := d.Dial(soon(t), "tcp://127.0.0.1:"+port)
	e := errorOfKind(t, "dial", err, anysock.KindRefused)
	if len(e.Attempts) != 3 {
		t.Fatalf("%d attempts, want 3: %v", len(e.Attempts), err)
	}
	for i, a := range e.Attempts {
		if a.Round != i+1 {
			t.Errorf("attempt %d is of round %d", i, a.Round)
		}
		if i > 0 {
			if gap := a.Started - e.Attempts[i-1].Started; gap < interval-scheduling {
				t.Errorf("attempt %d began %s after the one before, want %s", i, gap, interval)
			}
		}
	}
	want := []string{"socket", "connect", "wait", "socket", "connect", "wait", "socket", "connect"}
	if got := events.ops(0); !slices.Equal(got, want) {
		t.Errorf("the steps are %v, want %v", got, want)
	}
	for _, ev := range events.all(isOp(anysock.OpWait)) {
		if ev.State != anysock.StateWaiting || ev.Err == nil {
			t.Errorf("the wait between two rounds: %v in state %v", ev, ev.State)
		}
	}
}

// TestRetrySlowAttempt: the pace counts from start to start: an attempt that
// takes long is not followed by a whole interval more.
func TestRetrySlowAttempt(t *testing.T) {
	hole := blackHole(t, "127.0.0.1")
	const timeout, interval = 400 * time.Millisecond, 500 * time.Millisecond
	d := &anysock.Dialer{AttemptTimeout: timeout, Retry: anysock.Retry{Attempts: 2, Interval: interval}}
	_, err := d.Dial(soon(t), "tcp://"+hole)
	e := errorOfKind(t, "dial", err, anysock.KindTimeout)
	if len(e.Attempts) != 2 {
		t.Fatalf("%d attempts: %v", len(e.Attempts), err)
	}
	gap := e.Attempts[1].Started - e.Attempts[0].Started
	if gap < interval-scheduling || gap >= timeout+interval {
		t.Errorf("the second attempt began %s after the first, want %s", gap, interval)
	}
}

// TestRetryUntilServerComes: a retry without a limit goes on until somebody
// listens; both networks.
func TestRetryUntilServerComes(t *testing.T) {
	// A port that is free again, so that the server can take it.
	l := mustListen(t, &anysock.ListenConfig{}, "tcp://127.0.0.1:0")
	must(t, "close", l.Close())
	for _, addr := range []string{urlOf(l), "unix:" + t.TempDir() + "/s"} {
		var ln *anysock.Listener
		waits := 0
		events := recorder{notify: func(ev anysock.Event) {
			if ev.Op != anysock.OpWait {
				return
			}
			if waits++; waits == 3 {
				var err error
				if ln, err = anysock.Listen(context.Background(), addr); err != nil {
					t.Errorf("listen: %v", err)
				}
			}
		}}
		d := &anysock.Dialer{Retry: anysock.Retry{Attempts: -1, Interval: 5 * time.Millisecond}, Trace: events.trace}
		c, err := d.Dial(soon(t), addr)
		if ln != nil {
			ln.Close()
		}
		must(t, addr, err)
		_ = c.Abort()
		if waits != 3 {
			t.Errorf("%s: waited %d times, want 3", addr, waits)
		}
	}
}

// TestRetryOption: the same by the address.
func TestRetryOption(t *testing.T) {
	port := boundPort(t, "127.0.0.1")
	_, err := anysock.Dial(soon(t), "tcp://127.0.0.1:"+port+"?retry=4&retryinterval=1ms")
	if e := errorOfKind(t, "dial", err, anysock.KindRefused); len(e.Attempts) != 4 {
		t.Errorf("%d attempts, want 4", len(e.Attempts))
	}
	_, err = anysock.Dial(soon(t), "unix:"+t.TempDir()+"/none?retry=2&retryinterval=1ms")
	e := errorOfKind(t, "dial", err, anysock.KindRefused)
	if len(e.Attempts) != 2 || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%d attempts, want 2: %v", len(e.Attempts), err)
	}
}

// TestRetryNotWorthIt: what another try cannot cure is not tried again.
func TestRetryNotWorthIt(t *testing.T) {
	port := boundPort(t, "127.0.0.1")
	d := anysock.Dialer{Retry: anysock.Retry{Attempts: 5, Interval: time.Hour}}
	for name, dial := range map[string]func(d anysock.Dialer) error{
		"bad local": func(d anysock.Dialer) error {
			d.Local = "nonsense"
			_, err := d.Dial(soon(t), "tcp://127.0.0.1:"+port)
			return err
		},
		"permission": func(d anysock.Dialer) error {
			restore := sys.Inject(func(call sys.Call, _ int) error {
				if call == sys.CallConnect {
					return syscall.EACCES
				}
				return nil
			})
			defer restore()
			_, err := d.Dial(soon(t), "tcp://127.0.0.1:"+port)
			return err
		},
		"cancelled": func(d anysock.Dialer) error {
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			_, err := d.Dial(ctx, "tcp://127.0.0.1:"+port)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			if err := dial(d); err == nil {
				t.Error("dialed")
			}
			if time.Since(start) > tooLong/2 {
				t.Error("tried again")
			}
		})
	}
}

// TestRetryEndsWithContext: the context ends the wait between two rounds, and
// the error keeps the attempts.
func TestRetryEndsWithContext(t *testing.T) {
	port := boundPort(t, "127.0.0.1")
	ctx, cancel := context.WithCancel(t.Context())
	events := recorder{notify: func(ev anysock.Event) {
		if ev.Op == anysock.OpWait {
			cancel()
		}
	}}
	d := &anysock.Dialer{Retry: anysock.Retry{Attempts: -1, Interval: time.Hour}, Trace: events.trace}
	_, err := d.Dial(ctx, "tcp://127.0.0.1:"+port)
	e := errorOfKind(t, "dial", err, anysock.KindCanceled)
	if !errors.Is(err, context.Canceled) || len(e.Attempts) != 1 {
		t.Errorf("%v, attempts %+v", err, e.Attempts)
	}
}

// TestRetryAfterUnknownName: a name may be known later.
func TestRetryAfterUnknownName(t *testing.T) {
	ln := mustListen(t, &anysock.ListenConfig{}, "tcp://127.0.0.1:0")
	_, port, _ := strings.Cut(strings.TrimPrefix(urlOf(ln), "tcp://"), ":")
	hosts := map[string]*host{}
	ns := newNameServer(t, hosts)
	events := recorder{notify: func(ev anysock.Event) {
		if ev.Op == anysock.OpWait {
			ns.mu.Lock()
			hosts["later.test"] = &host{four: []string{"127.0.0.1"}}
			ns.mu.Unlock()
		}
	}}
	d := &anysock.Dialer{Resolver: ns.resolver(), Retry: anysock.Retry{Attempts: 3, Interval: time.Millisecond}, Trace: events.trace}
	c, err := d.Dial(soon(t), "tcp://later.test:"+port)
	must(t, "dial", err)
	_ = c.Abort()
}
