// This file tests the signs of life, with the real defaults on a clock of its
// own.

package lifecycle

import (
	"errors"
	"io"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anysock/anysock"
)

var defaults = liveness{idle: DefaultPingIdle, interval: DefaultPingInterval, count: DefaultPingCount}

// lcPair makes two lc ends over mem.
func lcPair(t *testing.T, live liveness, opts anysock.Options) (x, y *anysock.Conn) {
	t.Helper()
	a, b := memPair(t, opts)
	x, y = anysock.Wrap(newStream(a, live), opts), anysock.Wrap(newStream(b, live), opts)
	t.Cleanup(func() {
		_ = x.Abort()
		_ = y.Abort()
	})
	return x, y
}

// TestSilentPeerIsLost: asked after 30 s, 40 s and 50 s, lost after 60 s,
// whether the program reads or not.
func TestSilentPeerIsLost(t *testing.T) {
	for name, reads := range map[string]bool{"reading": true, "not reading": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, raw := withRawPeer(t, defaults)
				raw.patience = time.Hour
				began := time.Now()
				failed := make(chan error, 1)
				go func() {
					if reads {
						_, err := c.Read(make([]byte, 1))
						failed <- err
						return
					}
					r, err := c.Wait(t.Context(), 0, 1)
					if err == nil && r&anysock.Failed == 0 {
						err = errors.New("no failure")
					}
					failed <- err
				}()
				for i := range 3 {
					b := make([]byte, headerSize+countSize)
					if _, err := io.ReadFull(raw, b); err != nil || b[0] != framePing {
						t.Fatalf("the raw peer got %x, %v; want PING", b, err)
					}
					if at, want := time.Since(began), 30*time.Second+time.Duration(i)*10*time.Second; at < want || at > want+time.Second {
						t.Errorf("PING %d came after %s, want %s", i+1, at, want)
					}
				}
				err := <-failed
				if at := time.Since(began); at < time.Minute || at > time.Minute+time.Second {
					t.Errorf("lost after %s, want a minute", at)
				}
				if reads && (kindOf(err) != anysock.KindLost || !errors.Is(err, syscall.ETIMEDOUT)) || !reads && err != nil {
					t.Errorf("the program was told %v", err)
				}
				_, err = c.Write([]byte("x"))
				if kindOf(err) != anysock.KindLost {
					t.Errorf("a write then says %v", err)
				}
				_ = c.Close()
				if e := c.End(); e.How != anysock.Lost {
					t.Errorf("the ending is %q", e)
				}
			})
		})
	}
}

// TestAnswersKeepAlive: a peer that answers is asked every 30 s and never
// lost.
func TestAnswersKeepAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, raw := withRawPeer(t, defaults)
		raw.patience = time.Hour
		began := time.Now()
		for range 100 {
			raw.expect(counted(framePing, 0))
			raw.send(counted(framePong, 0))
		}
		if took := time.Since(began); took < 49*time.Minute || took > 51*time.Minute {
			t.Errorf("100 PINGs took %s, want 50 minutes", took)
		}
		wantAlive(t, c)
	})
}

func wantAlive(t *testing.T, conns ...*anysock.Conn) {
	t.Helper()
	for _, c := range conns {
		if e := c.End(); e.How != anysock.NotEnded {
			t.Errorf("the connection has ended: %q, %v", e, e.Err)
		}
	}
}

// TestProgramsThatDoNothingLive: nobody reads and nobody writes for a day.
func TestProgramsThatDoNothingLive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x, y := lcPair(t, defaults, anysock.Options{})
		<-time.After(24 * time.Hour) // by the clock of the bubble
		wantAlive(t, x, y)
		exchange(t, x, y)
	})
}

// exchange sends something each way.
func exchange(t *testing.T, x, y *anysock.Conn) {
	t.Helper()
	for _, pair := range [][2]*anysock.Conn{{x, y}, {y, x}} {
		if _, err := pair[0].Write([]byte("hello")); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 5)
		if _, err := io.ReadFull(pair[1], b); err != nil || string(b) != "hello" {
			t.Fatalf("read %q, %v", b, err)
		}
	}
}

// TestBackpressureIsNoLoss: DATA lies unread, one way, the other, and both, for
// a day: that is no verdict. Afterwards everything arrives.
func TestBackpressureIsNoLoss(t *testing.T) {
	for name, ways := range map[string][2]bool{"there": {true, false}, "back": {false, true}, "both": {true, true}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				x, y := lcPair(t, defaults, anysock.Options{})
				ends := [2]*anysock.Conn{x, y}
				for i, fill := range ways {
					if fill {
						go func() { _, _ = ends[i].Write(make([]byte, 1<<20)) }()
					}
				}
				<-time.After(24 * time.Hour) // by the clock of the bubble
				wantAlive(t, x, y)
				for i, fill := range ways {
					if fill {
						if _, err := io.ReadFull(ends[1-i], make([]byte, 1<<20)); err != nil {
							t.Error(err)
						}
					}
				}
				exchange(t, x, y)
			})
		})
	}
}

// TestUnconfirmedDataIsAskedForOnce: however long the peer's program does not
// read, one PING waits behind the DATA; and once it has answered, silence
// counts again.
func TestUnconfirmedDataIsAskedForOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, raw := withRawPeer(t, defaults)
		raw.patience = time.Hour
		if _, err := c.Write([]byte("hello")); err != nil {
			t.Fatal(err)
		}
		<-time.After(24 * time.Hour) // by the clock of the bubble
		wantAlive(t, c)
		raw.expect(data("hello"), counted(framePing, 5))
		raw.send(counted(framePong, 5))
		began := time.Now()
		raw.expect(counted(framePing, 5)) // not a second one from before
		if at := time.Since(began); at < 29*time.Second {
			t.Errorf("the next PING came after %s", at)
		}
		raw.expect(counted(framePing, 5), counted(framePing, 5))
		if _, err := c.Read(make([]byte, 1)); kindOf(err) != anysock.KindLost {
			t.Errorf("the program was told %v", err)
		}
	})
}

// TestNoPingsWhenTurnedOff: pingidle=0.
func TestNoPingsWhenTurnedOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, raw := withRawPeer(t, liveness{})
		_ = raw.SetReadDeadline(timeout(24 * time.Hour))
		if n, err := raw.Read(make([]byte, 1)); n != 0 || !isDeadline(err) {
			t.Errorf("the raw peer got %d bytes, %v", n, err)
		}
		wantAlive(t, c)
	})
}
