package deadline

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

// A watchedPipe is one end of net.Pipe as a Lookout sees it. Wait keeps
// the bytes that it has waited for.
type watchedPipe struct {
	net.Conn
	held  []byte
	fails error // instead of io.EOF
}

func (w *watchedPipe) Held() int { return len(w.held) }

func (w *watchedPipe) Wait() error {
	if len(w.held) > 0 {
		return nil
	}
	p := make([]byte, 100)
	n, err := w.read(p)
	w.held = p[:n]
	return err
}

func (w *watchedPipe) Read(p []byte) (int, error) {
	if n := copy(p, w.held); n > 0 {
		w.held = w.held[n:]
		return n, nil
	}
	return w.read(p)
}

func (w *watchedPipe) read(p []byte) (int, error) {
	n, err := w.Conn.Read(p)
	if errors.Is(err, io.EOF) && w.fails != nil {
		err = w.fails
	}
	return n, err
}

// withLookout runs f in a bubble with a Lookout and the other end of its pipe.
// Whatever the Lookout started is gone when it was closed, or the bubble says
// so.
func withLookout(t *testing.T, fails error, f func(t *testing.T, l *Lookout, peer net.Conn)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe()
		var l Lookout
		l.Over(&watchedPipe{Conn: a, fails: fails})
		f(t, &l, b)
		l.Close()
		l.Wait()
		_, _ = a.Close(), b.Close()
	})
}

// looking is who looks, when everybody waits.
func looking(l *Lookout) (who seat, timer bool) {
	synctest.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.seat, l.timer != nil
}

// A caller looks for itself, whether the goroutine has begun or not; while it
// waits there is nothing else, and when it has left, the goroutine comes.
func TestLookoutSeat(t *testing.T) {
	withLookout(t, nil, func(t *testing.T, l *Lookout, peer net.Conn) {
		if who, timer := looking(l); who != seatFree || !timer {
			t.Fatalf("at first: %d, %t", who, timer)
		}
		for _, pause := range []time.Duration{0, Relief / 2, 3 * Relief} {
			<-time.After(pause)
			if who, _ := looking(l); (who == seatGoroutine) != (pause > Relief) {
				t.Errorf("after %s: %d", pause, who)
			}
			read := make(chan error, 1)
			go func() {
				_, err := l.Read(make([]byte, 10))
				read <- err
			}()
			<-time.After(3 * Relief)
			if who, timer := looking(l); who != seatCaller || timer {
				t.Errorf("%s later, with a caller: %d, %t", pause, who, timer)
			}
			mustWrite(t, peer, "x")
			if err := <-read; err != nil {
				t.Error(err)
			}
		}
	})
}

// A program that reads often is not followed by a goroutine.
func TestLookoutWithBusyCaller(t *testing.T) {
	withLookout(t, nil, func(t *testing.T, l *Lookout, peer net.Conn) {
		for range 100 {
			_ = l.SetDeadline(time.Now().Add(Relief / 3))
			if _, err := l.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatal(err)
			}
			<-time.After(Relief / 3)
			if who, _ := looking(l); who != seatFree {
				t.Fatalf("looking is %d", who)
			}
		}
	})
}

// Whoever looks at the moment, and however often waits are cut short, every byte
// comes once and in order.
func TestLookoutLosesNothing(t *testing.T) {
	withLookout(t, nil, func(t *testing.T, l *Lookout, peer net.Conn) {
		var want, got bytes.Buffer
		go func() {
			for i := range 300 {
				piece := bytes.Repeat([]byte{byte(i)}, 1+i%7)
				want.Write(piece)
				<-time.After(time.Duration(i%13) * Relief / 6)
				if _, err := peer.Write(piece); err != nil {
					t.Error(err)
				}
			}
			_ = peer.Close()
		}()
		for i := 0; ; i++ {
			if i%5 == 0 {
				<-time.After(2 * Relief)
			}
			_ = l.SetDeadline(time.Now().Add(time.Duration(i%4) * Relief / 2))
			p := make([]byte, 3)
			n, err := l.Read(p)
			got.Write(p[:n])
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil && (n > 0 || !errors.Is(err, os.ErrDeadlineExceeded)) {
				t.Fatal(n, err)
			}
		}
		if !bytes.Equal(got.Bytes(), want.Bytes()) {
			t.Errorf("%d bytes came of %d, or others", got.Len(), want.Len())
		}
		if isClosed(l.Failed()) {
			t.Error("an end is reported as a failure")
		}
	})
}

// Without a caller it reads ahead, up to its bound, and holds no buffer before
// anything came or after all was taken.
func TestLookoutReadsAhead(t *testing.T) {
	withLookout(t, nil, func(t *testing.T, l *Lookout, peer net.Conn) {
		buffer := func() bool {
			synctest.Wait()
			l.mu.Lock()
			defer l.mu.Unlock()
			return l.ring.buf != nil
		}
		<-time.After(2 * Relief)
		if buffer() || l.Buffered() != 0 {
			t.Error("something is buffered where nothing came")
		}
		data := make([]byte, 3*BufferSize)
		for i := range data {
			data[i] = byte(i * 7 >> 3)
		}
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			_, _ = peer.Write(data)
		}()
		synctest.Wait()
		if n := l.Buffered(); n < BufferSize*3/4 || n > BufferSize || isClosed(sent) {
			t.Errorf("%d bytes are buffered", n)
		}
		// A deadline that has passed counts for what is there, too.
		_ = l.SetDeadline(time.Now())
		if n, err := l.Read(make([]byte, 1)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%d, %v", n, err)
		}
		_ = l.SetDeadline(time.Time{})
		got := make([]byte, len(data))
		if _, err := io.ReadFull(l, got); err != nil || !bytes.Equal(got, data) {
			t.Errorf("what was read is not what was there, %v", err)
		}
		<-sent
		// Nor when a caller has left nothing and does not come back.
		for range 3 {
			<-time.After(2 * Relief)
			mustWrite(t, peer, "x")
			synctest.Wait()
			if n := l.Buffered(); n != 1 || !buffer() {
				t.Errorf("%d bytes are buffered", n)
			}
			if n, err := l.Read(got); n != 1 || err != nil || buffer() {
				t.Errorf("%d, %v, or a buffer is held", n, err)
			}
		}
	})
}

// A failure is noticed without a caller, and comes behind the bytes before it.
func TestLookoutFailed(t *testing.T) {
	reset := errors.New("reset")
	withLookout(t, reset, func(t *testing.T, l *Lookout, peer net.Conn) {
		go func() {
			_, _ = io.WriteString(peer, "last words")
			_ = peer.Close()
		}()
		<-l.Failed()
		if err := l.Err(); !errors.Is(err, reset) {
			t.Error(err)
		}
		for range 2 {
			got, err := io.ReadAll(l)
			if !errors.Is(err, reset) || len(got) > 0 && string(got) != "last words" {
				t.Errorf("%q, %v", got, err)
			}
		}
		if !isClosed(l.Failed()) {
			t.Error("Failed is open")
		}
	})
}

// Who waits hears of a deadline that is set and moved, of Fail, and of Close.
func TestLookoutWakes(t *testing.T) {
	lost := errors.New("lost")
	for _, tt := range []struct {
		name string
		wake func(l *Lookout)
		want error
	}{
		{"a deadline", func(l *Lookout) { _ = l.SetDeadline(time.Now().Add(short)) }, os.ErrDeadlineExceeded},
		{"an earlier one", func(l *Lookout) { _, _ = l.SetDeadline(time.Now().Add(bound)), l.SetDeadline(time.Now()) }, os.ErrDeadlineExceeded},
		{"Fail", func(l *Lookout) { l.Fail(lost) }, lost},
		{"Close", (*Lookout).Close, net.ErrClosed},
	} {
		withLookout(t, nil, func(t *testing.T, l *Lookout, _ net.Conn) {
			for _, before := range []time.Duration{0, 2 * Relief} { // the goroutine is there the second time, or it is over
				<-time.After(before)
				read := make(chan error, 1)
				go func() {
					_, err := l.Read(make([]byte, 1))
					read <- err
				}()
				synctest.Wait()
				began := time.Now()
				tt.wake(l)
				if err := <-read; !errors.Is(err, tt.want) || time.Since(began) > short {
					t.Errorf("%s: %v after %s", tt.name, err, time.Since(began))
				}
				_ = l.SetDeadline(time.Time{})
			}
		})
	}
}

// A deadline that somebody else left below does not make it spin.
func TestLookoutForeignDeadline(t *testing.T) {
	withLookout(t, nil, func(t *testing.T, l *Lookout, peer net.Conn) {
		for _, before := range []time.Duration{0, 2 * Relief} {
			<-time.After(before)
			_ = l.src.SetDeadline(longAgo)
			go func() { _, _ = io.WriteString(peer, "x") }()
			if n, err := l.Read(make([]byte, 1)); n != 1 || err != nil {
				t.Errorf("%d, %v", n, err)
			}
		}
	})
}

// Closing is no failure, and ends the goroutine.
func TestLookoutClose(t *testing.T) {
	withLookout(t, errors.New("reset"), func(t *testing.T, l *Lookout, peer net.Conn) {
		<-time.After(2 * Relief)
		l.Close()
		l.Wait()
		if who, timer := looking(l); who != seatFree || timer || isClosed(l.Failed()) {
			t.Errorf("afterwards: %d, %t", who, timer)
		}
		if err := l.SetDeadline(time.Time{}); !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
		if _, err := l.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
		_ = peer
	})
}

// A goroutine that is sent away may bring what the caller came for, who then
// does not look: the timer runs again, so that somebody will.
func TestLookoutSentAwayWithBytes(t *testing.T) {
	withLookout(t, nil, func(t *testing.T, l *Lookout, peer net.Conn) {
		<-time.After(2 * Relief)
		if who, _ := looking(l); who != seatGoroutine {
			t.Fatalf("after Relief: %d", who)
		}
		l.mu.Lock()
		go func() { _, _ = peer.Write([]byte("x")) }()
		l.relieved = true // as a caller that finds nothing does
		l.mu.Unlock()
		synctest.Wait()
		if n, err := l.Read(make([]byte, 10)); n != 1 || err != nil {
			t.Fatalf("read %d, %v", n, err)
		}
		if who, timer := looking(l); who != seatFree || !timer {
			t.Errorf("afterwards: %d, %t", who, timer)
		}
		<-time.After(2 * Relief)
		if who, _ := looking(l); who != seatGoroutine {
			t.Errorf("after Relief again: %d", who)
		}
	})
}
