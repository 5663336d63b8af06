package deadline

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A pipeEnd is the connection below of a test: one end of net.Pipe, whose
// Write waits for the reader, and what was asked of it.
type pipeEnd struct {
	net.Conn
	mu      sync.Mutex
	aborted bool
	fails   error // of Write
	readEnd error // of Read, beside bytes
}

func (p *pipeEnd) Abort() error {
	p.mu.Lock()
	p.aborted = true
	p.mu.Unlock()
	return p.Close()
}

func (p *pipeEnd) Write(b []byte) (int, error) {
	p.mu.Lock()
	fails := p.fails
	p.mu.Unlock()
	if fails != nil {
		return 0, fails
	}
	return p.Conn.Write(b)
}

func (p *pipeEnd) Read(b []byte) (int, error) {
	n, err := p.Conn.Read(b)
	if err == nil {
		err = p.readEnd
	}
	return n, err
}

// newCarrierPair is a Carrier, what is below it, and the peer.
func newCarrierPair(t *testing.T) (*Carrier, *pipeEnd, net.Conn) {
	t.Helper()
	a, b := net.Pipe()
	below := &pipeEnd{Conn: a}
	c := NewCarrier(below)
	t.Cleanup(func() {
		_ = c.Close()
		_ = b.Close()
	})
	return c, below, b
}

// bubble runs f in a synctest bubble: time goes on when all wait, and no
// goroutine may be left.
func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, f)
}

func queue(t *testing.T, c *Carrier, p []byte) {
	t.Helper()
	if n, err := c.Write(p); n != len(p) || err != nil {
		t.Fatalf("Write of %d bytes: %d, %v", len(p), n, err)
	}
}

func expect(t *testing.T, r io.Reader, want []byte) {
	t.Helper()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(r, got); err != nil {
		t.Fatalf("reading %d bytes: %v", len(want), err)
	}
	if !bytes.Equal(got, want) {
		t.Fatalf("%d other bytes came than were written", len(want))
	}
}

func wantError(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("%s: %v, want %v", what, err, want)
	}
}

// idle checks that nothing is held.
func idle(t *testing.T, c *Carrier) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.head != nil || c.tail != nil || c.queued != 0 || c.later != nil || c.busy {
		t.Errorf("an idle Carrier holds head %t, tail %t, %d bytes, goroutine %t, busy %t", c.head != nil, c.tail != nil, c.queued, c.later != nil, c.busy)
	}
}

// pattern is n bytes that tell where they belong.
func pattern(n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(i * 7 / 3)
	}
	return p
}

var past = time.Unix(1, 0)

// Write only queues; Flush sends all of it in order, and holds nothing after.
func TestCarrierQueuesUntilFlush(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c, _, peer := newCarrierPair(t)
		p := pattern(MaxQueued)
		queue(t, c, p[:10])
		queue(t, c, p[10:5000])
		queue(t, c, p[5000:])
		synctest.Wait()
		if n := c.Queued(); n != len(p) {
			t.Fatalf("%d bytes are queued, want %d", n, len(p))
		}
		flushed := make(chan error)
		go func() { flushed <- c.Flush() }()
		expect(t, peer, p)
		wantError(t, "Flush", <-flushed, nil)
		idle(t, c)
	})
}

// The queue is bounded, also while a part of it is being sent.
func TestCarrierQueueIsBounded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c, _, peer := newCarrierPair(t)
		p := pattern(MaxQueued)
		queue(t, c, p[:1000])
		flushed := make(chan error)
		go func() { flushed <- c.Flush() }()
		synctest.Wait() // it is in below's Write
		if n, err := c.Write(p); n != 0 || !errors.Is(err, ErrQueueFull) {
			t.Fatalf("Write beyond the bound: %d, %v", n, err)
		}
		queue(t, c, p[1000:])
		if n, err := c.Write(p[:1]); n != 0 || !errors.Is(err, ErrQueueFull) {
			t.Fatalf("Write beyond the bound: %d, %v", n, err)
		}
		expect(t, peer, p)
		wantError(t, "Flush", <-flushed, nil)
		idle(t, c)
	})
}

// The end of the carrier is no end of the protocol above, whatever crypto/tls
// makes of it, and bytes beside it come first.
func TestCarrierTurnsEndIntoCut(t *testing.T) {
	c, below, peer := newCarrierPair(t)
	below.readEnd = io.EOF
	go func() { _, _ = peer.Write([]byte("last")) }()
	buf := make([]byte, 10)
	if n, err := c.Read(buf); n != 4 || err != nil {
		t.Fatalf("Read of bytes with an end beside them: %d, %v", n, err)
	}
	_ = peer.Close()
	n, err := c.Read(buf)
	if n != 0 || err != ErrCut { //nolint:errorlint // crypto/tls compares
		t.Fatalf("Read at the end: %d, %v", n, err)
	}
	if errors.Is(err, io.EOF) || err == io.ErrUnexpectedEOF || !errors.Is(err, io.ErrUnexpectedEOF) { //nolint:errorlint // crypto/tls compares
		t.Errorf("ErrCut must match io.ErrUnexpectedEOF, but not be it, and not match io.EOF")
	}
	_ = c.Close()
	if _, err := c.Read(buf); errors.Is(err, ErrCut) || err == nil {
		t.Errorf("Read after Close: %v", err)
	}
}

// A deadline that passes in the middle of a Flush ends the call; the rest is
// sent though the deadline stays in the past and nobody writes again.
func TestCarrierSendsTheRestAfterTheDeadline(t *testing.T) {
	for name, cut := range map[string]func(c *Carrier){
		"that passes":         func(c *Carrier) { _ = c.SetFlushDeadline(time.Now().Add(time.Second)) },
		"moved while pending": func(c *Carrier) { time.AfterFunc(time.Second, func() { _ = c.SetFlushDeadline(past) }) },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				c, _, peer := newCarrierPair(t)
				p := pattern(50_000)
				queue(t, c, p)
				read := make(chan error)
				go func() {
					_, err := io.ReadFull(peer, make([]byte, 20_000))
					read <- err
				}()
				cut(c)
				began := time.Now()
				wantError(t, "Flush", c.Flush(), os.ErrDeadlineExceeded)
				if took := time.Since(began); took != time.Second {
					t.Errorf("Flush gave up after %s", took)
				}
				wantError(t, "reading a part", <-read, nil)
				if n := c.Queued(); n != 30_000 {
					t.Errorf("%d bytes are queued, want what was not read", n)
				}
				// Whoever comes now gives up at once.
				wantError(t, "Flush past the deadline", c.Flush(), os.ErrDeadlineExceeded)
				<-time.After(time.Hour)
				expect(t, peer, p[20_000:])
				synctest.Wait()
				idle(t, c)
				wantError(t, "Flush past the deadline with nothing to send", c.Flush(), os.ErrDeadlineExceeded)
				_ = c.SetFlushDeadline(time.Time{})
				wantError(t, "Flush", c.Flush(), nil)
			})
		})
	}
}

// A Flush that finds the goroutine at work waits for it, as long as the
// deadline allows, also when that is moved; bytes keep their order.
func TestCarrierFlushWaitsForTheRest(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c, _, peer := newCarrierPair(t)
		p := pattern(60_000)
		queue(t, c, p[:30_000])
		_ = c.SetFlushDeadline(past)
		wantError(t, "Flush past the deadline", c.Flush(), os.ErrDeadlineExceeded)
		synctest.Wait() // the goroutine is in below's Write
		began := time.Now()
		_ = c.SetFlushDeadline(began.Add(time.Second))
		queue(t, c, p[30_000:40_000])
		wantError(t, "Flush", c.Flush(), os.ErrDeadlineExceeded)
		if took := time.Since(began); took != time.Second {
			t.Errorf("Flush gave up after %s", took)
		}
		_ = c.SetFlushDeadline(began.Add(time.Hour))
		queue(t, c, p[40_000:])
		flushed := make(chan error)
		go func() { flushed <- c.Flush() }()
		synctest.Wait()
		_ = c.SetFlushDeadline(past)
		wantError(t, "Flush whose deadline was moved to the past", <-flushed, os.ErrDeadlineExceeded)
		_ = c.SetFlushDeadline(began.Add(time.Hour))
		go func() { flushed <- c.Flush() }()
		synctest.Wait()
		_ = c.SetFlushDeadline(time.Time{})
		expect(t, peer, p)
		wantError(t, "Flush", <-flushed, nil)
		synctest.Wait()
		idle(t, c)
	})
}

// A pending Flush whose deadline is put off goes on.
func TestCarrierDeadlineCanBePutOff(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c, _, peer := newCarrierPair(t)
		_ = c.SetFlushDeadline(time.Now().Add(time.Second))
		queue(t, c, pattern(100))
		flushed := make(chan error)
		go func() { flushed <- c.Flush() }()
		synctest.Wait()
		_ = c.SetFlushDeadline(time.Now().Add(time.Minute))
		<-time.After(10 * time.Second)
		expect(t, peer, pattern(100))
		wantError(t, "Flush", <-flushed, nil)
		idle(t, c)
	})
}

// What the library writes while it reads is sent without a Flush and without
// regard to the caller's deadline, but not in front of a Flush that follows.
func TestCarrierReadSendsWhatWasQueued(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c, _, peer := newCarrierPair(t)
		_ = c.SetFlushDeadline(past)
		queue(t, c, []byte("alert"))
		go func() { _, _ = c.Read(make([]byte, 1)) }()
		expect(t, peer, []byte("alert"))
		synctest.Wait()
		idle(t, c)

		queue(t, c, []byte("pong"))
		c.FlushLater()
		c.FlushLater()
		expect(t, peer, []byte("pong"))
		synctest.Wait()
		idle(t, c)

		c.Cork()
		queue(t, c, []byte("half a"))
		c.FlushLater()
		synctest.Wait()
		c.mu.Lock()
		started := c.later != nil
		c.mu.Unlock()
		if n := c.Queued(); n != 6 || started {
			t.Fatalf("%d bytes are queued behind a Cork, want 6; the goroutine sends them: %t", n, started)
		}
		_ = c.SetFlushDeadline(time.Time{})
		queue(t, c, []byte(" frame"))
		flushed := make(chan error)
		go func() { flushed <- c.Flush() }()
		expect(t, peer, []byte("half a frame"))
		wantError(t, "Flush", <-flushed, nil)
		idle(t, c)
		queue(t, c, []byte("pong"))
		c.FlushLater() // the Flush has ended the Cork
		expect(t, peer, []byte("pong"))
		_ = peer.Close()
		synctest.Wait()
	})
}

// Frames that several goroutines queue and flush at once, some with deadlines
// that pass, arrive whole, each once.
func TestCarrierConcurrentFlushes(t *testing.T) {
	const writers, frames = 8, 200
	c, _, peer := newCarrierPair(t)
	var wg sync.WaitGroup
	for w := range writers {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := range frames {
				frame := make([]byte, 8+(w*frames+i)%700)
				binary.BigEndian.PutUint16(frame, uint16(len(frame)))
				frame[2] = byte(w)
				binary.BigEndian.PutUint32(frame[4:], uint32(i))
				for {
					n, err := c.Write(frame)
					if err == nil && n == len(frame) {
						break
					}
					if !errors.Is(err, ErrQueueFull) {
						t.Errorf("Write: %d, %v", n, err)
						return
					}
					if err := c.Flush(); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
						t.Errorf("Flush: %v", err)
						return
					}
				}
				switch i % 3 {
				case 0:
					_ = c.SetFlushDeadline(time.Now().Add(time.Duration(i%7) * 10 * time.Microsecond))
				case 1:
					_ = c.SetFlushDeadline(time.Time{})
				}
				if w%2 == 0 {
					c.FlushLater()
				} else if err := c.Flush(); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("Flush: %v", err)
					return
				}
			}
		}()
	}
	next := make([]uint32, writers)
	for range writers * frames {
		var size [2]byte
		if _, err := io.ReadFull(peer, size[:]); err != nil {
			t.Fatal(err)
		}
		rest := make([]byte, binary.BigEndian.Uint16(size[:])-2)
		if _, err := io.ReadFull(peer, rest); err != nil {
			t.Fatal(err)
		}
		w, i := rest[0], binary.BigEndian.Uint32(rest[2:])
		if int(w) >= writers || next[w] != i {
			t.Fatalf("frame %d of writer %d came, want %v", i, w, next)
		}
		next[w]++
	}
	wg.Wait()
	_ = c.SetFlushDeadline(time.Time{})
	wantError(t, "Flush", c.Flush(), nil)
	if n := c.Queued(); n != 0 {
		t.Errorf("%d bytes are left", n)
	}
}

// The error of below is that of every later call, and drops the queue.
func TestCarrierErrorStays(t *testing.T) {
	broken := errors.New("broken")
	for name, call := range map[string]func(c *Carrier) error{
		"Flush": (*Carrier).Flush,
		"later": func(c *Carrier) error {
			c.FlushLater()
			synctest.Wait()
			return c.Flush()
		},
		"Within": func(c *Carrier) error { return c.Within(func() error { panic("the queue was not sent") }) },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				c, below, _ := newCarrierPair(t)
				below.fails = broken
				queue(t, c, pattern(100))
				wantError(t, name, call(c), broken)
				wantError(t, "Flush after it", c.Flush(), broken)
				_, err := c.Write([]byte("more"))
				wantError(t, "Write after it", err, broken)
				idle(t, c)
			})
		})
	}
}

// Close and Abort wake a Flush, one that waits for another, and the goroutine,
// and wait for that.
func TestCarrierCloseWakes(t *testing.T) {
	for name, end := range map[string]func(c *Carrier) error{"Close": (*Carrier).Close, "Abort": (*Carrier).Abort} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				c, below, _ := newCarrierPair(t)
				queue(t, c, pattern(100))
				flushed := make(chan error, 2)
				for range 2 {
					go func() { flushed <- c.Flush() }()
				}
				synctest.Wait()
				wantError(t, name, end(c), nil)
				wantError(t, "Flush", <-flushed, net.ErrClosed)
				wantError(t, "Flush", <-flushed, net.ErrClosed)
				idle(t, c)
				if below.aborted != (name == "Abort") {
					t.Errorf("%s: below was aborted: %t", name, below.aborted)
				}
				_, err := c.Write([]byte("more"))
				wantError(t, "Write after it", err, net.ErrClosed)
				wantError(t, "Within after it", c.Within(func() error { return nil }), net.ErrClosed)
			})
			bubble(t, func(t *testing.T) {
				c, _, _ := newCarrierPair(t)
				queue(t, c, pattern(100))
				c.FlushLater()
				synctest.Wait()
				wantError(t, name, end(c), nil)
				idle(t, c) // at once: it was waited for
			})
			bubble(t, func(t *testing.T) {
				c, _, _ := newCarrierPair(t)
				queue(t, c, pattern(100))
				wantError(t, name, end(c), nil)
				idle(t, c)
			})
		})
	}
}

// Within has the caller's deadline on below, moved ones too; what is queued
// meanwhile goes out after it.
func TestCarrierWithin(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c, below, peer := newCarrierPair(t)
		queue(t, c, []byte("first"))
		go func() {
			_, _ = io.ReadFull(peer, make([]byte, 5))
			synctest.Wait()
			_, _ = c.Write([]byte("pong"))
			c.FlushLater()
			synctest.Wait()
			_ = c.SetFlushDeadline(time.Now().Add(time.Second))
		}()
		began := time.Now()
		err := c.Within(func() error {
			// Only the deadline ends this: nobody reads.
			_, err := below.Write([]byte("x"))
			return err
		})
		wantError(t, "Within", err, os.ErrDeadlineExceeded)
		if took := time.Since(began); took != time.Second {
			t.Errorf("Within gave up after %s", took)
		}
		expect(t, peer, []byte("pong"))
		synctest.Wait()
		idle(t, c)
		wantError(t, "Within past the deadline", c.Within(func() error { panic("called") }), os.ErrDeadlineExceeded)
	})
}

// In a handshake Write sends at once, what is longer than the queue too, and
// the deadline counts.
func TestCarrierThrough(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c, _, peer := newCarrierPair(t)
		c.SetThrough(true)
		p := pattern(3*MaxQueued + 5)
		wrote := make(chan error)
		go func() {
			n, err := c.Write(p)
			if n != len(p) && err == nil {
				err = io.ErrShortWrite
			}
			wrote <- err
		}()
		expect(t, peer, p)
		wantError(t, "Write", <-wrote, nil)
		_ = c.SetFlushDeadline(time.Now().Add(time.Second))
		n, err := c.Write([]byte("nobody reads"))
		if n != 0 {
			t.Errorf("Write past its deadline: %d bytes", n)
		}
		wantError(t, "Write past its deadline", err, os.ErrDeadlineExceeded)
	})
}

// The library's deadlines are nothing to us.
func TestCarrierIgnoresTheLibrarysDeadlines(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c, _, peer := newCarrierPair(t)
		for _, set := range []func(time.Time) error{c.SetDeadline, c.SetReadDeadline, c.SetWriteDeadline} {
			wantError(t, "setting a deadline", set(past), nil)
		}
		queue(t, c, []byte("x"))
		flushed := make(chan error)
		go func() { flushed <- c.Flush() }()
		expect(t, peer, []byte("x"))
		wantError(t, "Flush", <-flushed, nil)
		go func() { _, _ = peer.Write([]byte("y")) }()
		expect(t, c, []byte("y"))
	})
}
