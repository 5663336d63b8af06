// This file holds what the tests share: the specification's vectors, and a
// connection whose peer is the test itself, byte by byte.

package lifecycle

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anysock/anysock"
)

// vectors are the specification's, by name.
func vectors(t testing.TB) map[string][]byte {
	t.Helper()
	text, err := os.ReadFile("../docs/LIFECYCLE-PROTOCOL.md")
	if err != nil {
		t.Fatal(err)
	}
	found := map[string][]byte{}
	for _, block := range strings.Split(string(text), "```vector ")[1:] {
		name, rest, _ := strings.Cut(block, "\n")
		body, _, ok := strings.Cut(rest, "```")
		if !ok {
			t.Fatalf("the vector %s has no end", name)
		}
		b, err := hex.DecodeString(strings.Join(strings.Fields(body), ""))
		if err != nil {
			t.Fatalf("the vector %s: %v", name, err)
		}
		found[name] = b
	}
	return found
}

// testBound is for one test, on a busy machine.
const testBound = 20 * time.Second

func bounded(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testBound)
	t.Cleanup(cancel)
	return ctx
}

var memNames = numbered("mem:raw-")

// memPair is a plain connection within the process, both ends.
func memPair(t testing.TB, opts anysock.Options) (a, b *anysock.Conn) {
	t.Helper()
	return memPairAt(t, opts, "")
}

// memPairAt is memPair with options in the address.
func memPairAt(t testing.TB, opts anysock.Options, options string) (a, b *anysock.Conn) {
	t.Helper()
	ctx, name := bounded(t), memNames()+options
	ln, err := (&anysock.ListenConfig{Options: opts}).Listen(ctx, name)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if a, err = (&anysock.Dialer{Options: opts}).Dial(ctx, name); err != nil {
		t.Fatal(err)
	}
	if b, err = ln.AcceptContext(ctx); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = a.Abort()
		_ = b.Abort()
	})
	return a, b
}

// A rawPeer is the other end of a connection that speaks lc: it sends and
// receives bytes.
type rawPeer struct {
	t testing.TB
	*anysock.Conn
	patience time.Duration // of expect; 0 is testBound
}

// withRawPeer makes an lc connection whose opening is over.
func withRawPeer(t testing.TB, live liveness) (*anysock.Conn, rawPeer) {
	t.Helper()
	return withRawPeerOptions(t, live, anysock.Options{})
}

func withRawPeerOptions(t testing.TB, live liveness, opts anysock.Options) (*anysock.Conn, rawPeer) {
	t.Helper()
	below, raw := memPair(t, opts)
	nc := newStream(below, live)
	c := anysock.Wrap(nc, opts)
	streams.Store(c, nc.(streamOverReset).stream)
	t.Cleanup(func() { _ = c.Abort() })
	return c, rawPeer{t: t, Conn: raw}
}

func (p rawPeer) send(b ...[]byte) {
	p.t.Helper()
	for _, b := range b {
		if _, err := p.Write(b); err != nil {
			p.t.Fatalf("the raw peer writes: %v", err)
		}
	}
}

// expect reads exactly want.
func (p rawPeer) expect(want ...[]byte) {
	p.t.Helper()
	all := bytes.Join(want, nil)
	got := make([]byte, len(all))
	if n, err := io.ReadFull(rawReader{p}, got); err != nil || !bytes.Equal(got, all) {
		p.t.Fatalf("the raw peer read %x, %v; want %x", got[:n], err, all)
	}
}

// A rawReader bounds each read.
type rawReader struct{ p rawPeer }

func (r rawReader) Read(b []byte) (int, error) {
	patience := r.p.patience
	if patience == 0 {
		patience = testBound
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return r.p.ReadContext(ctx, b)
}

// frame is one frame's bytes, right or wrong.
func frame(kind byte, payload ...byte) []byte {
	return append(appendHeader(nil, kind, len(payload)), payload...)
}

func data(s string) []byte                 { return frame(frameData, []byte(s)...) }
func counted(kind byte, n int64) []byte    { return appendCount(nil, kind, n) }
func aborted(code Code, why string) []byte { return appendAbort(nil, &AbortError{code, why}) }

// kindOf is the Kind of an *anysock.Error.
func kindOf(err error) anysock.Kind {
	var e *anysock.Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return anysock.KindOther
}

// readAll reads to the end, which leaves err nil, or to an error.
func readAll(c io.Reader) (string, error) {
	b, err := io.ReadAll(c)
	return string(b), err
}

// until waits for a condition that nothing announces.
func until(t testing.TB, what string, met func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for limit := time.Now().Add(testBound); !met(); <-tick.C {
		if time.Now().After(limit) {
			t.Fatalf("%s: not within %s", what, testBound)
		}
	}
}

var never time.Time

func timeout(d time.Duration) time.Time { return time.Now().Add(d) }

// streams finds the stream that a test's Conn drives.
var streams sync.Map // *anysock.Conn to *stream

func underneath(c *anysock.Conn) *stream {
	s, _ := streams.Load(c)
	return s.(*stream)
}
