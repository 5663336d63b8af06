package anysock_test

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/anysock/anysock"
)

func mustSelector(t testing.TB) *anysock.Selector {
	t.Helper()
	needEpoll(t)
	s, err := anysock.NewSelector()
	must(t, "NewSelector", err)
	t.Cleanup(func() { s.Close() })
	return s
}

// selectOne waits for one source and checks what it meets.
func selectOne(t testing.TB, s *anysock.Selector, src anysock.Source, want anysock.Readiness) {
	t.Helper()
	got, err := s.Wait(soon(t))
	must(t, "Wait", err)
	if len(got) != 1 || got[0].Source != src || got[0].Ready != want {
		t.Errorf("Wait = %v, want source %d and %v", got, src.ID(), want)
	}
}

// selectNone checks that nothing is ready.
func selectNone(t testing.TB, s *anysock.Selector) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Millisecond)
	defer cancel()
	got, err := s.Wait(ctx)
	if !errors.Is(err, context.DeadlineExceeded) || len(got) != 0 {
		t.Errorf("Wait = %v, %v; want nothing, and a time-out", got, err)
	}
	wantErrorKind(t, "a time-out", err, anysock.KindTimeout)
}

// TestSelector goes through what a connection can be ready for. Looking
// consumes nothing, and what is not taken is reported again.
func TestSelector(t *testing.T) {
	overKernelNetworks(t, func(t *testing.T, addr string) {
		s := mustSelector(t)
		c, peer := mustPair(t, addr, &anysock.Dialer{}, &anysock.ListenConfig{})
		must(t, "Add", s.Add(c, anysock.Readable))
		selectNone(t, s)
		if _, err := peer.Write([]byte("abc")); err != nil {
			t.Fatal(err)
		}
		selectOne(t, s, c, anysock.Readable)
		selectOne(t, s, c, anysock.Readable)
		if n, err := c.Read(make([]byte, 10)); n != 3 || err != nil {
			t.Fatalf("Read = %d, %v", n, err)
		}
		selectNone(t, s)
		must(t, "Modify", s.Modify(c, anysock.Readable|anysock.Writable|anysock.PeerEnd))
		selectOne(t, s, c, anysock.Writable)
		must(t, "the peer's CloseWrite", peer.CloseWrite())
		must(t, "Modify", s.Modify(c, anysock.Readable|anysock.PeerEnd))
		selectOne(t, s, c, anysock.Readable|anysock.PeerEnd)
		if _, err := c.Read(make([]byte, 1)); err != io.EOF { //nolint:errorlint // EOF comes bare
			t.Errorf("Read = %v", err)
		}
		must(t, "Modify", s.Modify(c, 0))
		selectNone(t, s)
		must(t, "CloseWrite", c.CloseWrite())
		selectOne(t, s, c, anysock.HungUp) // reported though nobody asked
		must(t, "Remove", s.Remove(c))
		must(t, "Remove again", s.Remove(c))
		selectNone(t, s)
	})
}

// TestContract01SelectorSeesReset: a reset is reported as a failure, is not
// consumed by looking, and is the next read's error.
func TestContract01SelectorSeesReset(t *testing.T) {
	s := mustSelector(t)
	c, peer := mustPair(t, "tcp://127.0.0.1:0", &anysock.Dialer{}, &anysock.ListenConfig{})
	must(t, "Add", s.Add(c, anysock.Readable))
	must(t, "Abort", peer.Abort())
	for range 3 {
		got, err := s.Wait(soon(t))
		must(t, "Wait", err)
		if len(got) != 1 || got[0].Ready&anysock.Failed == 0 || got[0].Ready&anysock.Readable == 0 {
			t.Fatalf("Wait = %v", got)
		}
	}
	_, err := c.Read(make([]byte, 1))
	wantErrorKind(t, "Read", err, anysock.KindReset)
	_, err = c.Read(make([]byte, 1))
	wantErrorKind(t, "Read again", err, anysock.KindReset)
}

// TestSelectorListener: a listener is readable when somebody waits to be
// accepted.
func TestSelectorListener(t *testing.T) {
	overKernelNetworks(t, func(t *testing.T, addr string) {
		s := mustSelector(t)
		ln := mustListen(t, &anysock.ListenConfig{}, addr)
		must(t, "Add", s.Add(ln, anysock.Readable))
		selectNone(t, s)
		mustDial(t, &anysock.Dialer{}, urlOf(ln))
		got, err := s.Wait(soon(t))
		must(t, "Wait", err)
		if len(got) != 1 || got[0].Listener() != ln || got[0].Conn() != nil || got[0].Ready != anysock.Readable {
			t.Fatalf("Wait = %v", got)
		}
		c := mustAccept(t, ln)
		selectNone(t, s)
		must(t, "Add", s.Add(c, anysock.Writable))
		got, err = s.Wait(soon(t))
		must(t, "Wait", err)
		if len(got) != 1 || got[0].Conn() != c || got[0].Listener() != nil {
			t.Fatalf("Wait = %v", got)
		}
	})
}

// TestSelectorInMemory: bytes that were received and given back are in no
// kernel queue, and are reported all the same.
func TestSelectorInMemory(t *testing.T) {
	s := mustSelector(t)
	c, peer := mustPair(t, "tcp://127.0.0.1:0", &anysock.Dialer{}, &anysock.ListenConfig{})
	if _, err := peer.Write([]byte("kept")); err != nil {
		t.Fatal(err)
	}
	full := errors.New("no room")
	if _, err := c.WriteTo(failingWriter{full}); !errors.Is(err, full) {
		t.Fatalf("WriteTo: %v", err)
	}
	must(t, "Add", s.Add(c, anysock.Readable))
	selectOne(t, s, c, anysock.Readable)
	if r, err := c.Wait(soon(t), anysock.Readable, 4); r&anysock.Readable == 0 || err != nil {
		t.Errorf("Conn.Wait = %v, %v", r, err)
	}
	b := make([]byte, 10)
	if n, err := c.Read(b); string(b[:n]) != "kept" || err != nil {
		t.Errorf("Read = %q, %v", b[:n], err)
	}
	selectNone(t, s)
}

type failingWriter struct{ err error }

func (w failingWriter) Write([]byte) (int, error) { return 0, w.err }

// TestSelectorMany: of many that are ready every one is reported, over
// several calls, and none twice before the others.
func TestSelectorMany(t *testing.T) {
	s := mustSelector(t)
	const many = 150
	ln := mustListen(t, &anysock.ListenConfig{}, "tcp://127.0.0.1:0")
	for range many {
		c := mustDial(t, &anysock.Dialer{}, urlOf(ln))
		peer := mustAccept(t, ln)
		must(t, "Add", s.Add(c, anysock.Readable))
		if _, err := peer.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	seen := map[uint64]bool{}
	for range many {
		got, err := s.Wait(soon(t))
		must(t, "Wait", err)
		if len(got) > 64 {
			t.Fatalf("%d at once", len(got))
		}
		for _, sel := range got {
			seen[sel.Source.ID()] = true
			if n, err := sel.Conn().Read(make([]byte, 10)); n != 1 || err != nil {
				t.Errorf("Read = %d, %v", n, err)
			}
		}
		if len(seen) == many {
			break
		}
	}
	if len(seen) != many {
		t.Errorf("%d of %d were reported", len(seen), many)
	}
	selectNone(t, s)
}

// TestSelectorErrors: what cannot be watched, and why.
func TestSelectorErrors(t *testing.T) {
	s := mustSelector(t)
	c, _ := mustPair(t, "tcp://127.0.0.1:0", &anysock.Dialer{}, &anysock.ListenConfig{})
	wantErrorKind(t, "Modify of one that is not there", s.Modify(c, anysock.Readable), anysock.KindState)
	must(t, "Add", s.Add(c, anysock.Readable))
	wantErrorKind(t, "Add again", s.Add(c, anysock.Readable), anysock.KindState)

	a, b := net.Pipe()
	defer b.Close()
	w := anysock.Wrap(a, anysock.Options{})
	defer func() { _ = w.Abort() }()
	m := mustListen(t, &anysock.ListenConfig{}, "mem:selector-errors")
	for name, src := range map[string]anysock.Source{"net.Pipe": w, "a mem listener": m} {
		err := s.Add(src, anysock.Readable)
		wantErrorKind(t, name, err, anysock.KindUnsupported)
		if !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("%s: %v does not match ErrUnsupported", name, err)
		}
	}

	// A closed source is reported no more; its place can be given back.
	must(t, "Abort", c.Abort())
	selectNone(t, s)
	must(t, "Remove", s.Remove(c))
	wantErrorKind(t, "Add of a closed one", s.Add(c, anysock.Readable), anysock.KindClosed)

	// Close ends a Wait.
	ended := make(chan error, 1)
	go func() {
		_, err := s.Wait(soon(t))
		ended <- err
	}()
	stillWaits(t, "Wait", ended)
	must(t, "Close", s.Close())
	wantErrorKind(t, "Wait", await(t, "Wait", ended), anysock.KindClosed)
	must(t, "Close again", s.Close())
	_, err := s.Wait(soon(t))
	wantErrorKind(t, "Wait after Close", err, anysock.KindClosed)
	d, _ := mustPair(t, "tcp://127.0.0.1:0", &anysock.Dialer{}, &anysock.ListenConfig{})
	wantErrorKind(t, "Add after Close", s.Add(d, anysock.Readable), anysock.KindClosed)
}

// TestSelectorChangesDuringWait: Add and Modify are heard by a Wait that is
// at work; concurrent Waits take turns; a cancelled one disturbs nobody.
func TestSelectorChangesDuringWait(t *testing.T) {
	s := mustSelector(t)
	c, peer := mustPair(t, "tcp://127.0.0.1:0", &anysock.Dialer{}, &anysock.ListenConfig{})
	got := make(chan []anysock.Selection, 3)
	for range 3 {
		go func() {
			sel, err := s.Wait(soon(t))
			if err != nil {
				t.Errorf("Wait: %v", err)
			}
			got <- sel
		}()
	}
	stillWaits(t, "Wait", got)
	ctx, cancel := context.WithCancel(t.Context())
	cancelled := make(chan error, 1)
	go func() {
		_, err := s.Wait(ctx)
		cancelled <- err
	}()
	cancel()
	if err := await(t, "the cancelled Wait", cancelled); !errors.Is(err, context.Canceled) {
		t.Errorf("the cancelled Wait: %v", err)
	}
	must(t, "Add", s.Add(c, anysock.Readable))
	stillWaits(t, "Wait", got)
	must(t, "Modify", s.Modify(c, anysock.Writable))
	for range 3 {
		if sel := await(t, "a Wait", got); len(sel) != 1 || sel[0].Ready != anysock.Writable {
			t.Errorf("Wait = %v", sel)
		}
	}
	_ = peer
}

// TestReadinessString: the conditions print as words.
func TestReadinessString(t *testing.T) {
	for r, want := range map[anysock.Readiness]string{
		0:                                   "none",
		anysock.Readable:                    "readable",
		anysock.Readable | anysock.Writable: "readable|writable",
		anysock.PeerEnd | anysock.HungUp | anysock.Failed: "peer-end|hung-up|failed",
	} {
		if got := r.String(); got != want {
			t.Errorf("%d prints as %q, want %q", uint8(r), got, want)
		}
	}
}
