package verify

// This file plays one end of a connection by its plan, and says what it saw.
//
//	order                  who is first            the other
//	half-closes            sends, ends; reads      reads to the end; later sends, ends
//	                       to the end
//	closes                 client: sends, reads; server: reads, sends;
//	                       then disconnects        reads the end; disconnects
//	both end               each sends and ends, and meanwhile reads to the end
//	aborts sending         sends a part, aborts    reads to the abort
//	aborts receiving       reads a part, aborts    sends; reads to the abort

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/anysock/anysock"
)

// A party is one end of a connection.
type party struct {
	c    *anysock.Conn
	plan Plan
	side Side
	// patience bounds each wait for progress, limit everything.
	patience time.Duration
	limit    time.Time

	mu  sync.Mutex // BothEnd reads and writes at once
	out Outcome
}

// limitFactor is how many times its patience a connection may take in all.
const limitFactor = 10

func newParty(c *anysock.Conn, p Plan, side Side, patience time.Duration) *party {
	return &party{c: c, plan: p, side: side, patience: patience, limit: time.Now().Add(limitFactor * patience)}
}

// until is the deadline of the next step.
func (y *party) until() time.Time {
	if t := time.Now().Add(y.patience); t.Before(y.limit) {
		return t
	}
	return y.limit
}

// A misfortune ends a party's part: what it saw.
type misfortune struct{ Outcome }

func (m *misfortune) Error() string { return m.Fault.String() + ": " + m.Saw }

func fault(f Fault, format string, args ...any) *misfortune {
	return &misfortune{Outcome{Fault: f, Saw: fmt.Sprintf(format, args...)}}
}

// play is this end's part from after the opening to the connection's end.
func (y *party) play() Outcome { return y.over(y.act()) }

// over releases the connection and says what became of it.
func (y *party) over(err error) Outcome {
	var m *misfortune
	switch {
	case err == nil:
	case errors.As(err, &m):
		o := m.Outcome
		o.Finished = y.out.Finished
		y.out = o
	default:
		y.out.Fault, y.out.Saw = Broken, err.Error()
	}
	// Whoever has failed must not look as if it had finished. After an ending
	// this only releases the connection.
	_ = y.c.Abort()
	y.out.Sent, y.out.Received = y.c.Sent(), y.c.Received()
	y.out.Saw = firstOf(y.out.Saw, maxText)
	return y.out
}

// maxText bounds what an outcome says in words.
const maxText = 300

func (y *party) act() error {
	p := y.plan
	mine, mySize, theirs, theirSize := p.upward(), p.Up, p.downward(), p.Down
	if y.side == Far {
		mine, mySize, theirs, theirSize = theirs, theirSize, mine, mySize
	}
	first := p.Order.clientFirst() == (y.side == Client)
	if err := y.greet(); err != nil {
		if p.Order.Aborts() && !first {
			return y.abortSeen(err)
		}
		return err
	}
	switch p.Order {
	case ClientHalfCloses, ServerHalfCloses:
		if first {
			return y.inTurn(
				func() error { return y.sendAndEnd(mine, mySize) },
				func() error { return y.receive(theirs, theirSize, true) },
				y.finish)
		}
		return y.inTurn(
			func() error { return y.receive(theirs, theirSize, true) },
			func() error { return y.pause(p.Late) },
			func() error { return y.send(mine, mySize) },
			y.finish)
	case ClientCloses, ServerCloses:
		send := func() error { return y.send(mine, mySize) }
		receive := func() error { return y.receive(theirs, theirSize, false) }
		end := func() error { return nil }
		if !first {
			end = func() error { return y.receive(theirs, 0, true) }
		}
		if y.side == Client {
			return y.inTurn(send, receive, end, y.finish)
		}
		return y.inTurn(receive, send, end, y.finish)
	case BothEnd:
		return y.inTurn(
			func() error {
				return y.atOnce(
					func() error { return y.sendAndEnd(mine, mySize) },
					func() error { return y.receive(theirs, theirSize, true) })
			}, y.finish)
	case ClientAbortsSending, ServerAbortsSending:
		if first {
			return y.inTurn(func() error { return y.send(mine, p.Cut) }, y.abort)
		}
		return y.receiveAbort(theirs, p.Cut)
	case ClientAbortsReceiving, ServerAbortsReceiving:
		if first {
			return y.inTurn(func() error { return y.receive(theirs, p.Cut, false) }, y.abort)
		}
		if err := y.send(mine, mySize); err != nil {
			return y.abortSeen(err)
		}
		return y.receiveAbort(theirs, 0)
	}
	return fault(Broken, "has no part in %s", p.Order)
}

// inTurn does one step after the other until one fails.
func (y *party) inTurn(steps ...func() error) error {
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// atOnce does both at the same time. When one fails the connection is aborted,
// which ends the other; what failed first is what happened.
func (y *party) atOnce(steps ...func() error) error {
	errs := make(chan error, len(steps))
	var wg sync.WaitGroup
	for _, step := range steps {
		wg.Go(func() {
			err := step()
			errs <- err // before the abort makes the other fail
			if err != nil {
				_ = y.c.Abort()
			}
		})
	}
	wg.Wait()
	var first error
	for range steps {
		if err := <-errs; err != nil && first == nil {
			first = err
		}
	}
	return first
}

// greet sends or takes the byte that says that the server knows the plan.
func (y *party) greet() error {
	if !y.plan.Greet {
		return nil
	}
	if y.side == Far {
		return y.write([]byte{greeting}, "the greeting")
	}
	var b [1]byte
	if err := y.setRead(); err != nil {
		return err
	}
	n, err := y.c.Read(b[:])
	switch {
	case n == 1 && b[0] != greeting:
		return fault(WrongBytes, "got %#02x for a greeting", b[0])
	case n == 1:
		return nil
	case errors.Is(err, io.EOF):
		return fault(FalseEnd, "read an end of file where the server's greeting had to come")
	}
	return y.failure(err, "the server's greeting")
}

func (y *party) setRead() error { return y.c.SetReadDeadline(y.until()) }

// send sends size bytes of m.
func (y *party) send(m message, size uint64) error {
	chunk := 1 + (y.plan.Seed>>8)%maxChunk
	for offset := uint64(0); offset < size; {
		n := min(chunk, size-offset)
		if err := y.write(m.at(offset, int(n)), fmt.Sprintf("room for byte %d of %d", offset, size)); err != nil {
			return err
		}
		offset += n
	}
	return nil
}

func (y *party) write(b []byte, what string) error {
	if err := y.c.SetWriteDeadline(y.until()); err != nil {
		return y.failure(err, what)
	}
	if _, err := y.c.Write(b); err != nil {
		return y.failure(err, what)
	}
	return nil
}

// sendAndEnd sends and ends this direction.
func (y *party) sendAndEnd(m message, size uint64) error {
	if err := y.send(m, size); err != nil {
		return err
	}
	if err := y.c.CloseWrite(); err != nil {
		return y.failure(err, "room for the end")
	}
	y.mu.Lock()
	defer y.mu.Unlock()
	y.out.Finished = true
	return nil
}

// failure is what an error of a call means, which waited for what.
func (y *party) failure(err error, what string) error {
	var m *misfortune
	if errors.As(err, &m) {
		return err
	}
	var e *anysock.Error
	kind := anysock.KindOther
	if errors.As(err, &e) {
		kind = e.Kind
	}
	o := Outcome{Fault: Broken, Ended: sawError, Saw: fmt.Sprintf("waited for %s and was told: %v", what, err)}
	switch kind {
	case anysock.KindReset:
		o.Ended = sawReset
	case anysock.KindTruncated:
		o.Ended = sawCut
	case anysock.KindLost:
		o.Ended = sawLost
	case anysock.KindTimeout:
		o = Outcome{Fault: Hang, Saw: fmt.Sprintf("waited in vain for %s", what)}
	case anysock.KindClosed, anysock.KindCanceled:
		o.canceled = true
	}
	return &misfortune{o}
}

// The pace of a slow reader: it begins late and then takes little at a time.
const (
	slowStart = 100 * time.Millisecond
	slowPause = time.Millisecond
	slowChunk = 8 << 10
)

// receive reads size bytes of m, and then, if there is to be an end, that.
func (y *party) receive(m message, size uint64, end bool) error {
	got, err := y.read(m, size, end)
	switch {
	case got < size && errors.Is(err, io.EOF):
		f := fault(LostBytes, "read an end of file after %d of %d bytes", got, size)
		f.Missing, f.Ended = int64(size-got), sawEnd
		return f
	case got < size:
		return y.failure(err, fmt.Sprintf("byte %d of %d", got, size))
	case !end:
		return nil
	case errors.Is(err, io.EOF):
		y.mu.Lock()
		defer y.mu.Unlock()
		y.out.Ended = sawEnd
		return nil
	}
	return y.failure(err, fmt.Sprintf("the end after all %d bytes", size))
}

// receiveAbort reads at most size bytes of m, and then an abort.
func (y *party) receiveAbort(m message, size uint64) error {
	got, err := y.read(m, size, true)
	if errors.Is(err, io.EOF) {
		f := fault(FalseEnd, "read an end of file after %d bytes where the %s had aborted", got, y.other())
		f.Ended = sawEnd
		return f
	}
	return y.abortSeen(y.failure(err, "the "+y.other()+"'s abort"))
}

// abortSeen takes an error for the abort that was due; a hang is none.
func (y *party) abortSeen(err error) error {
	var m *misfortune
	if !errors.As(err, &m) || m.Fault != Broken || m.canceled {
		return err
	}
	y.mu.Lock()
	defer y.mu.Unlock()
	y.out.Ended = m.Ended
	return nil
}

func (y *party) other() string {
	if y.side == Client {
		return Far.String()
	}
	return Client.String()
}

// read reads and compares size bytes of m, and with beyond what comes after
// them: an error, which includes io.EOF. It returns how many came.
func (y *party) read(m message, size uint64, beyond bool) (got uint64, err error) {
	slow := y.side == Client && y.plan.SlowClient || y.side == Far && y.plan.SlowServer
	buf := buffers.Get().(*[maxChunk]byte)
	defer buffers.Put(buf)
	most := uint64(maxChunk)
	if slow && size > 0 {
		most = slowChunk
		if err := y.pause(slowStart); err != nil {
			return 0, err
		}
	}
	for got < size || beyond {
		if slow && got > 0 {
			if err := y.pause(slowPause); err != nil {
				return got, err
			}
		}
		// One byte more than is due shows one that is too many.
		want := min(most, size-got)
		if beyond && want < most {
			want++
		}
		if err := y.setRead(); err != nil {
			return got, err
		}
		n, err := y.c.Read(buf[:want])
		due := int(min(uint64(n), size-got))
		if i := m.differs(buf[:due], got); i >= 0 {
			return got, fault(WrongBytes, "got a wrong byte at %d of %d", got+uint64(i), size)
		}
		if n > due {
			return got, fault(ExtraBytes, "got a byte too many after %d", size)
		}
		got += uint64(n)
		if err != nil {
			return got, err
		}
	}
	return got, nil
}

var buffers = sync.Pool{New: func() any { return new([maxChunk]byte) }}

// pause waits, but not for a connection that has ended.
func (y *party) pause(d time.Duration) error {
	if d <= 0 {
		return nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-y.c.Done():
		// The next call says what happened.
	}
	return nil
}

// abort is the end of who gives up.
func (y *party) abort() error {
	if err := y.c.Abort(); err != nil && !errors.Is(err, errors.ErrUnsupported) {
		return y.failure(err, "its own abort")
	}
	return nil
}

// finish disconnects: both ends must come, and nothing but them.
func (y *party) finish() error {
	ctx, cancel := context.WithDeadline(context.Background(), y.until())
	defer cancel()
	end, err := y.c.Disconnect(ctx)
	switch {
	case end.How == anysock.Graceful && end.Drained > 0:
		return fault(ExtraBytes, "got %d bytes too many before the end", end.Drained)
	case end.How == anysock.Graceful:
		y.out.Finished = true
		if y.out.Ended == "" {
			y.out.Ended = sawEnd
		}
		return nil
	case end.How == anysock.Delivered:
		return fault(Hang, "waited in vain for the %s's end, having ended itself", y.other())
	case err == nil:
		return fault(Broken, "disconnected, and it ended as %s", end.How)
	case errors.Is(err, context.DeadlineExceeded):
		return fault(Hang, "waited in vain for the %s's end, having ended itself", y.other())
	}
	return y.failure(err, "the "+y.other()+"'s end")
}
