package loop_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/anysock/anysock"
)

// These are scripts for the accepted side of a connection, played by an
// anysock.Conn, by callbacks and by a coroutine: the contract is one.

// readAll is io.ReadAll in pieces of at most n.
func readAll(r io.Reader, n int) ([]byte, error) {
	var all []byte
	p := make([]byte, n)
	for {
		m, err := r.Read(p)
		all = append(all, p[:m]...)
		if err == io.EOF {
			return all, nil
		}
		if err != nil {
			return all, err
		}
	}
}

func same(what string, got, want []byte) error {
	if !bytes.Equal(got, want) {
		i := 0
		for i < min(len(got), len(want)) && got[i] == want[i] {
			i++
		}
		return fmt.Errorf("%s: %d bytes, want %d; they differ from byte %d on", what, len(got), len(want), i)
	}
	return nil
}

// check ends the test on an error.
func (st *stage) check(what string, err error) {
	st.t.Helper()
	if err != nil {
		st.t.Fatalf("%s: %v", what, err)
	}
}

// Contract 2 and 3: after the peer's end a long reply reaches it whole, and both
// sides end gracefully.
func TestReplyAfterTheirEnd(t *testing.T) {
	up, down := pattern(300_000), pattern(1<<20)
	onStages(t, anysock.Options{}, func(_ *stage, s side) error {
		got, err := readAll(s, 10_000)
		if err != nil {
			return err
		}
		if err := same("the request", got, up); err != nil {
			return err
		}
		if _, err := s.Write(down); err != nil {
			return err
		}
		return s.Close()
	}, func(st *stage) {
		c := st.dial(anysock.Options{})
		_, err := c.Write(up)
		st.check("Write", err)
		st.check("CloseWrite", c.CloseWrite())
		got, err := readAll(c, 1000)
		st.check("reading", err)
		st.check("reading", same("the reply", got, down))
		end, err := c.Disconnect(st.ctx)
		if err != nil || end.How != anysock.Graceful {
			t.Errorf("client: %v, %v", end, err)
		}
		e, err := st.over()
		st.check("the script", err)
		st.want(e, ending{anysock.Graceful, anysock.Peer, int64(len(down)), int64(len(up))})
	})
}

// Contract 3: after our end the peer sends for as long as it likes.
func TestTheirDataAfterOurEnd(t *testing.T) {
	up, down := pattern(500_000), pattern(1<<20)
	onStages(t, anysock.Options{}, func(_ *stage, s side) error {
		if _, err := s.Write(down); err != nil {
			return err
		}
		if err := s.CloseWrite(); err != nil {
			return err
		}
		if err := s.CloseWrite(); err != nil {
			return fmt.Errorf("a second CloseWrite: %w", err)
		}
		if n, err := s.Write([]byte("x")); n != 0 || kindOf(err) != anysock.KindState {
			return fmt.Errorf("a Write after CloseWrite: %d, %w", n, err)
		}
		got, err := readAll(s, 70_000)
		if err != nil {
			return err
		}
		if err := same("the request", got, up); err != nil {
			return err
		}
		return s.Close()
	}, func(st *stage) {
		c := st.dial(anysock.Options{})
		got, err := readAll(c, 10_000)
		st.check("reading", err)
		st.check("reading", same("the greeting", got, down))
		for rest := up; len(rest) > 0; {
			n, err := c.Write(rest[:min(len(rest), 33_333)])
			st.check("Write", err)
			rest = rest[n:]
		}
		end, err := c.Disconnect(st.ctx)
		if err != nil || end.How != anysock.Graceful {
			t.Errorf("client: %v, %v", end, err)
		}
		e, err := st.over()
		st.check("the script", err)
		st.want(e, ending{anysock.Graceful, anysock.Us, int64(len(down)), int64(len(up))})
	})
}

// Contract 1 and 6: a reset comes behind the bytes that had arrived, and is no
// end.
func TestResetBehindData(t *testing.T) {
	up := pattern(30_000) // fits the first window: it is there when Write returns
	sent := make(chan chan struct{}, 1)
	onTCP(t, anysock.Options{}, func(_ *stage, s side) error {
		<-<-sent // which holds up the loop, and is meant to
		got, err := readAll(s, 1000)
		if err == nil {
			return errors.New("the reset came as an end")
		}
		if kindOf(err) != anysock.KindReset {
			return err
		}
		return same("what came before the reset", got, up)
	}, func(st *stage) {
		gone := make(chan struct{})
		sent <- gone
		c := st.dial(anysock.Options{})
		_, err := c.Write(up)
		st.check("Write", err)
		st.check("Abort", c.Abort())
		close(gone)
		e, err := st.over()
		st.check("the script", err)
		st.want(e, ending{anysock.AbortedByPeer, anysock.Peer, 0, int64(len(up))})
		if kindOf(e.Err) != anysock.KindReset {
			t.Errorf("the ending's error: %v", e.Err)
		}
	})
}

// Contract 1 and 6: a reset while we write is an error of the write and the
// ending.
func TestResetWhileWriting(t *testing.T) {
	onTCP(t, anysock.Options{}, func(_ *stage, s side) error {
		p := pattern(10_000)
		for {
			if _, err := s.Write(p); err != nil {
				if kindOf(err) != anysock.KindReset && kindOf(err) != anysock.KindClosed {
					return err
				}
				return nil
			}
		}
	}, func(st *stage) {
		c := st.dial(anysock.Options{})
		_, err := io.ReadFull(c, make([]byte, 100_000))
		st.check("reading", err)
		st.check("Abort", c.Abort())
		e, err := st.over()
		st.check("the script", err)
		st.want(e, ending{anysock.AbortedByPeer, anysock.Peer, -1, 0})
	})
}

// Contract 2 and 5: all that was written before Close arrives, however slowly it
// is read.
func TestCloseKeepsTheTail(t *testing.T) {
	down := pattern(4 << 20)
	onStages(t, anysock.Options{}, func(_ *stage, s side) error {
		if _, err := s.Write(down); err != nil {
			return err
		}
		return s.Close()
	}, func(st *stage) {
		c := st.dial(anysock.Options{ReceiveBuffer: 128 << 10})
		got, err := readAll(c, 5000)
		st.check("reading", err)
		st.check("reading", same("what was written", got, down))
		_, err = c.Disconnect(st.ctx)
		st.check("Disconnect", err)
		e, err := st.over()
		st.check("the script", err)
		st.want(e, ending{anysock.Graceful, anysock.Us, int64(len(down)), 0})
	})
}

// Contract 4 and 5: what the peer still sends after Close is taken, counted and
// discarded; nothing of ours is destroyed by it.
func TestCloseDrainsTheirs(t *testing.T) {
	up, down := pattern(200_000), pattern(100_000)
	onStages(t, anysock.Options{}, func(_ *stage, s side) error {
		if _, err := io.ReadFull(s, make([]byte, 1)); err != nil {
			return err
		}
		if _, err := s.Write(down); err != nil {
			return err
		}
		return s.Close()
	}, func(st *stage) {
		c := st.dial(anysock.Options{})
		_, err := c.Write(up)
		st.check("Write", err)
		got, err := readAll(c, 10_000)
		st.check("reading", err)
		st.check("reading", same("what was written", got, down))
		_, err = c.Disconnect(st.ctx)
		st.check("Disconnect", err)
		e, err := st.over()
		st.check("the script", err)
		st.want(e, ending{anysock.Graceful, anysock.Us, int64(len(down)), int64(len(up))})
	})
}

// Contract 4 and 9: the peer's end is waited for no longer than the bound, and
// a flood is cut: ours is acknowledged, so it was delivered.
func TestCloseDelivers(t *testing.T) {
	down := pattern(100_000)
	for name, test := range map[string]func(st *stage, c *anysock.Conn){
		"silence": func(*stage, *anysock.Conn) {},
		"flood": func(st *stage, c *anysock.Conn) {
			for { // until the other side has seen enough
				if _, err := c.Write(down); err != nil {
					return
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			opts := anysock.Options{DrainTimeout: 300 * time.Millisecond, CloseTimeout: 300 * time.Millisecond, DrainBytes: 1 << 20}
			if name == "flood" {
				opts.DrainTimeout, opts.CloseTimeout = 10*time.Second, 20*time.Second
			}
			onStages(t, opts, func(_ *stage, s side) error {
				if _, err := s.Write(down); err != nil {
					return err
				}
				return s.Close()
			}, func(st *stage) {
				c := st.dial(anysock.Options{})
				got, err := readAll(c, 10_000)
				st.check("reading", err)
				st.check("reading", same("what was written", got, down))
				test(st, c)
				e, err := st.over()
				st.check("the script", err)
				st.want(e, ending{anysock.Delivered, anysock.Us, int64(len(down)), -1})
				if name == "flood" && e.Received < opts.DrainBytes/2 {
					t.Errorf("%d bytes were drained, want about %d: %q", e.Received, opts.DrainBytes, e)
				}
			})
		})
	}
}

// Contract 4 and 9: what the peer does not take within the bound is lost, and
// counted.
func TestCloseLoses(t *testing.T) {
	down := pattern(150_000)
	opts := anysock.Options{DrainTimeout: 300 * time.Millisecond, CloseTimeout: 300 * time.Millisecond, SendBuffer: 300_000}
	onTCP(t, opts, func(_ *stage, s side) error {
		if _, err := s.Write(down); err != nil {
			return err
		}
		return s.Close()
	}, func(st *stage) {
		c := st.dial(anysock.Options{ReceiveBuffer: 4096})
		e, err := st.over()
		st.check("the script", err)
		if !acksKnown(t) {
			st.want(e, ending{anysock.Delivered, anysock.Us, int64(len(down)), 0})
			return
		}
		st.want(e, ending{anysock.Lost, anysock.Us, int64(len(down)), 0})
		// A Conn says KindTimeout: it was the time for all of Close that ran out.
		if k := kindOf(e.Err); e.Unacked < 100_000 || e.Unacked > int64(len(down)) || k != anysock.KindLost && k != anysock.KindTimeout {
			st.t.Errorf("%d bytes are unacknowledged, %v", e.Unacked, e.Err)
		}
		// What the kernel has it goes on sending.
		got, err := readAll(c, 10_000)
		st.check("reading", err)
		st.check("reading", same("what was written", got, down))
	})
}

// Contract 6 and 10: an abort is heard as a reset, and is our ending.
func TestAbortIsHeard(t *testing.T) {
	onStages(t, anysock.Options{}, func(st *stage, s side) error {
		if _, err := io.ReadFull(s, make([]byte, 1)); err != nil {
			return err
		}
		if _, err := s.Write(pattern(1000)); err != nil {
			return err
		}
		err := s.Abort()
		if !st.tcp() {
			if !errors.Is(err, errors.ErrUnsupported) {
				return fmt.Errorf("Abort on unix: %w", err)
			}
			err = nil
		}
		if err == nil {
			if _, werr := s.Write([]byte("x")); werr == nil {
				return errors.New("a Write after Abort was taken")
			}
			if _, rerr := s.Read(make([]byte, 1)); rerr == nil || errors.Is(rerr, io.EOF) {
				return fmt.Errorf("a Read after Abort: %w", rerr)
			}
		}
		return err
	}, func(st *stage) {
		c := st.dial(anysock.Options{})
		_, err := c.Write([]byte("x"))
		st.check("Write", err)
		_, err = readAll(c, 1000)
		if st.tcp() && kindOf(err) != anysock.KindReset {
			st.t.Errorf("the peer sees %v", err)
		}
		e, err := st.over()
		st.check("the script", err)
		st.want(e, ending{anysock.AbortedByUs, anysock.Us, 1000, 1})
	})
}

// Contract 10: when both end at once there is one ending on each side.
func TestBothEndAtOnce(t *testing.T) {
	onStages(t, anysock.Options{}, func(_ *stage, s side) error {
		if _, err := s.Write(pattern(1000)); err != nil {
			return err
		}
		return s.Close()
	}, func(st *stage) {
		for range 30 {
			c := st.dial(anysock.Options{})
			_, err := c.Write(pattern(1000))
			st.check("Write", err)
			end, err := c.Disconnect(st.ctx)
			if err != nil || end.How != anysock.Graceful {
				t.Errorf("client: %v, %v", end, err)
			}
			e, err := st.over()
			st.check("the script", err)
			if e.How != anysock.Graceful || e.Sent != 1000 || e.Received != 1000 {
				t.Errorf("server: %q", e)
			}
		}
	})
}
