// This file tests what is noticed while the program does not read.

package lifecycle

import (
	"context"
	"errors"
	"path/filepath"
	"testing"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/internal/testproc"
)

// unixPair is lc over a Unix socket, whose own abort is an end.
func unixPair(t *testing.T) (x, y *anysock.Conn) {
	t.Helper()
	return addressPair(t, "lc+unix:"+filepath.Join(t.TempDir(), "s"), func(b string) string { return "lc+unix:" + b })
}

func addressPair(t *testing.T, listen string, dial func(bound string) string) (x, y *anysock.Conn) {
	t.Helper()
	ctx := bounded(t)
	ln, err := anysock.Listen(ctx, listen)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if x, err = anysock.Dial(ctx, dial(ln.Addr().String())); err != nil {
		t.Fatal(err)
	}
	if y, err = ln.AcceptContext(ctx); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = x.Abort()
		_ = y.Abort()
	})
	return x, y
}

// waitFailed waits until c is known to have failed, without reading it.
func waitFailed(t *testing.T, c *anysock.Conn) {
	t.Helper()
	r, err := c.Wait(bounded(t), 0, 1)
	if err != nil || r&anysock.Failed == 0 {
		t.Fatalf("Wait for a failure says %s, %v", r, err)
	}
}

// TestAbortIsNoticedUnread in every state of the connection, over a carrier
// that shows no reset.
func TestAbortIsNoticedUnread(t *testing.T) {
	for name, before := range map[string]func(x, y *anysock.Conn) error{
		"fresh":          func(_, _ *anysock.Conn) error { return nil },
		"after our end":  func(_, y *anysock.Conn) error { return y.CloseWrite() },
		"after our data": func(_, y *anysock.Conn) error { _, err := y.Write([]byte("hello")); return err },
		"after their end": func(x, y *anysock.Conn) error {
			if err := x.CloseWrite(); err != nil {
				return err
			}
			_, err := readAll(y)
			return err
		},
		"before their end is read": func(x, _ *anysock.Conn) error { return x.CloseWrite() },
		"after their data was read": func(x, y *anysock.Conn) error {
			_, err := x.Write([]byte("hello"))
			return errors.Join(err, readExactly(y, 5))
		},
	} {
		t.Run(name, func(t *testing.T) {
			x, y := unixPair(t)
			if err := before(x, y); err != nil {
				t.Fatal(err)
			}
			if err := x.AbortAs(anysock.AbortedByUs, &AbortError{CodeProgram, "enough"}); err != nil {
				t.Fatal(err)
			}
			waitFailed(t, y)
			var why *AbortError
			if err := y.AbortAs(anysock.Idle, nil); err != nil {
				t.Error(err)
			}
			if e := y.End(); e.How != anysock.AbortedByPeer || !errors.As(e.Err, &why) || why.Code != CodeProgram || why.Reason != "enough" {
				t.Errorf("the ending is %q, %v; want the peer's abort with its reason", e, e.Err)
			}
		})
	}
}

func readExactly(c *anysock.Conn, n int) error {
	_, err := c.ReadAtLeast(context.Background(), make([]byte, n), n)
	return err
}

// TestAbortBehindUnreadData does not overtake the data; the carrier's reset,
// where there is one and the platform tells of it, is noticed all the same.
func TestAbortBehindUnreadData(t *testing.T) {
	for name, pair := range map[string]func(t *testing.T) (x, y *anysock.Conn){
		"tcp": func(t *testing.T) (x, y *anysock.Conn) {
			return addressPair(t, "lc+tcp://127.0.0.1:0", func(b string) string { return "lc+tcp://" + b })
		},
		"unix": unixPair,
		"mem":  func(t *testing.T) (x, y *anysock.Conn) { return lcPair(t, liveness{}, anysock.Options{}) },
	} {
		t.Run(name, func(t *testing.T) {
			x, y := pair(t)
			if _, err := x.Write([]byte("hello")); err != nil {
				t.Fatal(err)
			}
			if err := x.AbortAs(anysock.AbortedByUs, &AbortError{CodeProgram, "enough"}); err != nil {
				t.Fatal(err)
			}
			if name == "mem" || name == "tcp" && testproc.HasEpoll(t) {
				waitFailed(t, y)
			}
			s, err := readAll(y)
			var why *AbortError
			if s != "hello" || kindOf(err) != anysock.KindReset || !errors.As(err, &why) {
				t.Errorf("the program read %q, %v", s, err)
			}
		})
	}
}

// TestCarrierFailureIsNoticedBehindUnreadData: nothing reads, DATA waits, and
// the carrier is reset.
func TestCarrierFailureIsNoticedBehindUnreadData(t *testing.T) {
	c, raw := withRawPeer(t, liveness{})
	raw.send(data("hello"))
	until(t, "the watcher has seen the data", func() bool {
		return underneath(c).unread.Load() == 5
	})
	if err := raw.Abort(); err != nil {
		t.Fatal(err)
	}
	waitFailed(t, c)
	if s, err := readAll(c); s != "hello" || kindOf(err) != anysock.KindReset {
		t.Errorf("the program read %q, %v", s, err)
	}
}

// TestWriteSaysWhyThePeerAborted: the reason waits unread when the write
// fails.
func TestWriteSaysWhyThePeerAborted(t *testing.T) {
	x, y := unixPair(t)
	if err := x.AbortAs(anysock.AbortedByUs, &AbortError{CodeProgram, "enough"}); err != nil {
		t.Fatal(err)
	}
	var err error
	until(t, "the write fails", func() bool {
		_, err = y.Write(make([]byte, 1000))
		return err != nil
	})
	var why *AbortError
	if kindOf(err) != anysock.KindReset || !errors.As(err, &why) || why.Reason != "enough" {
		t.Errorf("the write says %v", err)
	}
}

// TestProgramTakesOverFromTheWatcher, again and again, and loses nothing.
func TestProgramTakesOverFromTheWatcher(t *testing.T) {
	c, raw := withRawPeer(t, liveness{})
	s := underneath(c)
	var got int64
	for range 5 {
		until(t, "somebody watches", func() bool {
			s.mu.Lock()
			defer s.mu.Unlock()
			return s.reader == ourselves
		})
		raw.send(data("hello")[:6]) // a header and two bytes
		b := make([]byte, 5)
		reading := make(chan error, 1)
		go func() {
			_, err := c.ReadAtLeast(context.Background(), b, 5)
			reading <- err
		}()
		raw.send(data("hello")[6:])
		if err := <-reading; err != nil || string(b) != "hello" {
			t.Fatalf("read %q, %v", b, err)
		}
		got += 5
		raw.send(counted(framePing, got))
		raw.expect(counted(framePong, got))
	}
}

// TestBufferGoesBackWhenNothingComes while the program waits in Read.
func TestBufferGoesBackWhenNothingComes(t *testing.T) {
	c, raw := withRawPeer(t, liveness{})
	s := underneath(c)
	reading := make(chan error, 1)
	go func() {
		reading <- readExactly(c, 20*100+1)
	}()
	for range 20 {
		raw.send(data(string(make([]byte, 100))))
	}
	until(t, "all has come", func() bool { return c.Received() == 2000 })
	if !s.holding.Load() {
		t.Skip("the frames came one by one: no buffer was used")
	}
	until(t, "the buffer is given back", func() bool { return !s.holding.Load() })
	raw.send(data("x"))
	if err := <-reading; err != nil {
		t.Error(err)
	}
}
