// This file holds the connections with a defect: each is a healthy one with a
// method or two replaced. Where a defect would be found by several cases, it
// is narrowed down to the situation of one; defects_test.go says which.

package socktest

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"time"

	"github.com/anysock/anysock"
)

// stuck is a call that does not return within the bound of a case that is to
// fail, but before the suite gives up waiting for it.
func stuck() { <-time.After(expectedBound + time.Second) }

func isReset(err error) bool { return isKind(err, anysock.KindReset) }

// Contract 1.

type endOnce struct {
	*anysock.Conn
	seen atomic.Bool
}

func (c *endOnce) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if errors.Is(err, io.EOF) && c.seen.Swap(true) {
		err = io.ErrNoProgress
	}
	return n, err
}

type cutIsEnd struct{ *anysock.Conn }

func (c cutIsEnd) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if isKind(err, anysock.KindTruncated) {
		err = io.EOF
	}
	return n, err
}

type cutIsGraceful struct{ *anysock.Conn }

func (c cutIsGraceful) Disconnect(ctx context.Context) (anysock.End, error) {
	e, err := c.Conn.Disconnect(ctx)
	if isKind(err, anysock.KindTruncated) {
		e.How, err = anysock.Graceful, nil
	}
	return e, err
}

// Contracts 1 and 6.

type resetIsEnd struct{ *anysock.Conn }

func (c resetIsEnd) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if isReset(err) && c.Received() > 0 {
		err = io.EOF
	}
	return n, err
}

type resetIsClose struct{ *anysock.Conn }

func (c resetIsClose) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	if isReset(err) {
		err = net.ErrClosed
	}
	return n, err
}

type waitIgnoresReset struct{ *anysock.Conn }

func (c waitIgnoresReset) Wait(ctx context.Context, want anysock.Readiness, low int) (anysock.Readiness, error) {
	r, err := c.Conn.Wait(ctx, want, low)
	if r&anysock.Failed != 0 {
		r = 0
	}
	return r, err
}

type resetIsGraceful struct{ *anysock.Conn }

func (c resetIsGraceful) Disconnect(ctx context.Context) (anysock.End, error) {
	e, err := c.Conn.Disconnect(ctx)
	if isReset(err) {
		e.How, err = anysock.Graceful, nil
	}
	return e, err
}

type closeIgnoresReset struct {
	*anysock.Conn
	closed atomic.Bool
}

func (c *closeIgnoresReset) Close() error {
	c.closed.Store(c.End().How == anysock.NotEnded)
	return c.Conn.Close()
}

func (c *closeIgnoresReset) End() anysock.End {
	e := c.Conn.End()
	if c.closed.Load() && e.How == anysock.AbortedByPeer {
		e.How = anysock.Graceful
	}
	return e
}

type abortOnce struct {
	*anysock.Conn
	aborted atomic.Bool
}

func (c *abortOnce) Abort() error {
	if c.aborted.Swap(true) {
		return net.ErrClosed
	}
	return c.Conn.Abort()
}

type copyStaysBehind struct{ *anysock.Conn }

func (c copyStaysBehind) WriteTo(w io.Writer) (int64, error) {
	n, err := c.Conn.WriteTo(w)
	if _, ok := w.(conn); ok && errors.Is(err, net.ErrClosed) {
		stuck()
	}
	return n, err
}

type abortIsClose struct{ *anysock.Conn }

func (c abortIsClose) Abort() error { return c.Close() }

// Contracts 2 and 5.

type closeDrops struct {
	*anysock.Conn
	wroteALot atomic.Bool // by one call
}

func (c *closeDrops) Write(p []byte) (int, error) {
	c.wroteALot.Store(len(p) == shortSizes.bulk)
	return c.Conn.Write(p)
}

func (c *closeDrops) Close() error {
	if c.wroteALot.Load() {
		return c.Abort()
	}
	return c.Conn.Close()
}

type closeLikeTheKernel struct{ *anysock.Conn }

func (c closeLikeTheKernel) Close() error {
	over, cancel := context.WithCancel(context.Background())
	cancel()
	if r, err := c.Wait(over, anysock.Readable|anysock.PeerEnd, 1); err == nil && r == anysock.Readable {
		return c.Abort()
	}
	return c.Conn.Close()
}

type closeWaits struct {
	*anysock.Conn
	flooding atomic.Bool
}

func (c *closeWaits) Write(p []byte) (int, error) {
	c.flooding.Store(len(p) == floodChunk)
	return c.Conn.Write(p)
}

func (c *closeWaits) Close() error {
	err := c.Conn.Close()
	if c.flooding.Load() {
		<-c.Done()
	}
	return err
}

type peekForgetsClose struct{ *anysock.Conn }

func (c peekForgetsClose) Peek(ctx context.Context, p []byte) (int, error) {
	early := c.State()
	n, err := c.Conn.Peek(ctx, p)
	if early == anysock.StateConnected && errors.Is(err, net.ErrClosed) {
		err = nil
	}
	return n, err
}

type closeOverDisconnect struct {
	*anysock.Conn
	atWork atomic.Int32
}

func (c *closeOverDisconnect) Disconnect(ctx context.Context) (anysock.End, error) {
	c.atWork.Add(1)
	defer c.atWork.Add(-1)
	return c.Conn.Disconnect(ctx)
}

func (c *closeOverDisconnect) Close() error {
	if c.atWork.Load() > 0 {
		return c.Abort()
	}
	return c.Conn.Close()
}

type disconnectStaysBehind struct{ *anysock.Conn }

func (c disconnectStaysBehind) Disconnect(ctx context.Context) (anysock.End, error) {
	early := c.End()
	e, err := c.Conn.Disconnect(ctx)
	if early.How == anysock.NotEnded && e.How == anysock.AbortedByUs {
		stuck()
	}
	return e, err
}

// Contract 3.

type closeWriteOnce struct {
	*anysock.Conn
	ended atomic.Bool
}

func (c *closeWriteOnce) CloseWrite() error {
	if c.ended.Swap(true) && c.Sent() == 0 {
		return net.ErrClosed
	}
	return c.Conn.CloseWrite()
}

type halfCloseClock struct{ *anysock.Conn }

func (c halfCloseClock) CloseWrite() error {
	_ = c.SetReadDeadline(time.Now().Add(700 * time.Millisecond))
	return c.Conn.CloseWrite()
}

type halfCloseForgotten struct {
	*anysock.Conn
	late, forgotten atomic.Bool
}

func (c *halfCloseForgotten) SetWriteDeadline(t time.Time) error {
	c.late.Store(t.Equal(longPast))
	return c.Conn.SetWriteDeadline(t)
}

func (c *halfCloseForgotten) SetDeadline(t time.Time) error {
	c.late.Store(false)
	return c.Conn.SetDeadline(t)
}

func (c *halfCloseForgotten) CloseWrite() error {
	if c.late.Load() {
		c.forgotten.Store(true)
		return os.ErrDeadlineExceeded
	}
	if c.forgotten.Load() {
		return nil
	}
	return c.Conn.CloseWrite()
}

// copyLosesTail writes each piece when the next has come.
type copyLosesTail struct{ *anysock.Conn }

func (c copyLosesTail) WriteTo(w io.Writer) (n int64, err error) {
	var held, buf [4096]byte
	for have := 0; ; {
		m, err := c.Read(buf[:])
		if errors.Is(err, io.EOF) {
			return n, nil
		}
		if err != nil {
			return n, err
		}
		written, err := w.Write(held[:have])
		n += int64(written)
		if err != nil {
			return n, err
		}
		have = copy(held[:], buf[:m])
	}
}

type halfCloseIsClose struct{ *anysock.Conn }

func (c halfCloseIsClose) CloseWrite() error {
	return errors.Join(c.Conn.CloseWrite(), c.CloseRead())
}

// Contract 4.

type blamesPeer struct{ *anysock.Conn }

func (c blamesPeer) Disconnect(ctx context.Context) (anysock.End, error) {
	e, err := c.Conn.Disconnect(ctx)
	if e.By == anysock.Us && e.Drained > 0 {
		e.By = anysock.Peer
	}
	return e, err
}

type disconnectDrops struct{ *anysock.Conn }

func (c disconnectDrops) Disconnect(ctx context.Context) (anysock.End, error) {
	if c.State() == anysock.StateReadEnded && c.Sent() > 100 {
		_ = c.Abort()
	}
	return c.Conn.Disconnect(ctx)
}

type drainsUncounted struct{ *anysock.Conn }

func (c drainsUncounted) End() anysock.End {
	e := c.Conn.End()
	if e.Sent > 1000 && e.Received > 1000 && e.Sent+e.Received < 10_000 {
		e.Drained = 0
	}
	return e
}

// claimsALittle calls a small loss a delivery.
type claimsALittle struct{ *anysock.Conn }

func (c claimsALittle) Disconnect(ctx context.Context) (anysock.End, error) {
	e, err := c.Conn.Disconnect(ctx)
	if e.How == anysock.Lost && e.Sent < floodChunk {
		e.How, e.Unacked, err = anysock.Delivered, 0, nil
	}
	return e, err
}

type claimsDelivery struct {
	*anysock.Conn
	cut atomic.Bool
}

func (c *claimsDelivery) SetWriteDeadline(t time.Time) error {
	c.cut.Store(t.Equal(longPast))
	return c.Conn.SetWriteDeadline(t)
}

func (c *claimsDelivery) Disconnect(ctx context.Context) (anysock.End, error) {
	if c.cut.Load() {
		_ = c.Abort()
		return anysock.End{How: anysock.Delivered, Sent: c.Sent()}, nil
	}
	return c.Conn.Disconnect(ctx)
}

// Contract 7.

type writesIntoTheVoid struct {
	*anysock.Conn
	ended atomic.Bool
}

func (c *writesIntoTheVoid) CloseWrite() error {
	c.ended.Store(true)
	return c.Conn.CloseWrite()
}

func (c *writesIntoTheVoid) Write(p []byte) (int, error) {
	if c.ended.Load() {
		return len(p), nil
	}
	return c.Conn.Write(p)
}

type closeReadSilent struct{ *anysock.Conn }

func (c closeReadSilent) CloseRead() error {
	_ = c.Conn.CloseRead()
	return nil
}

// Contract 8.

type readDropsOnCancel struct{ *anysock.Conn }

func (c readDropsOnCancel) ReadContext(ctx context.Context, p []byte) (int, error) {
	n, err := c.Conn.ReadContext(ctx, p)
	if n > 0 {
		return 0, context.Canceled // as if it had come at the same moment
	}
	return n, err
}

type readAtLeastForgets struct{ *anysock.Conn }

func (c readAtLeastForgets) ReadAtLeast(ctx context.Context, p []byte, low int) (int, error) {
	n, err := c.Conn.ReadAtLeast(ctx, p, low)
	if errors.Is(err, context.Canceled) {
		n = 0
	}
	return n, err
}

type writeForgets struct{ *anysock.Conn }

func (c writeForgets) WriteContext(ctx context.Context, p []byte) (int, error) {
	n, err := c.Conn.WriteContext(ctx, p)
	if errors.Is(err, context.Canceled) && len(p) < sequenceMost {
		n = 0
	}
	return n, err
}

type waitTakes struct {
	*anysock.Conn
	take atomic.Bool
}

func (c *waitTakes) Wait(ctx context.Context, want anysock.Readiness, low int) (anysock.Readiness, error) {
	r, err := c.Conn.Wait(ctx, want, low)
	c.take.Store(errors.Is(err, context.Canceled))
	return r, err
}

func (c *waitTakes) Read(p []byte) (int, error) {
	if c.take.Swap(false) {
		if _, err := c.Conn.Read(make([]byte, 1)); err != nil {
			return 0, err
		}
	}
	return c.Conn.Read(p)
}

type disconnectGivesUp struct{ *anysock.Conn }

func (c disconnectGivesUp) Disconnect(ctx context.Context) (anysock.End, error) {
	e, err := c.Conn.Disconnect(ctx)
	if errors.Is(err, context.Canceled) && c.Sent() > 0 {
		_ = c.Abort()
	}
	return e, err
}

type cancelClears struct{ *anysock.Conn }

func (c cancelClears) ReadContext(ctx context.Context, p []byte) (int, error) {
	n, err := c.Conn.ReadContext(ctx, p)
	if errors.Is(err, context.Canceled) {
		_ = c.SetReadDeadline(noDeadline)
	}
	return n, err
}

type deadlineSticks struct {
	*anysock.Conn
	deadline time.Time // of reading; one goroutine at a time sets it
}

func (c *deadlineSticks) SetReadDeadline(t time.Time) error {
	if !t.IsZero() && !c.deadline.IsZero() && t.After(c.deadline) {
		return nil
	}
	c.deadline = t
	return c.Conn.SetReadDeadline(t)
}

type shortWriteSilent struct{ *anysock.Conn }

func (c shortWriteSilent) WriteContext(ctx context.Context, p []byte) (int, error) {
	n, err := c.Conn.WriteContext(ctx, p)
	if n > 0 && len(p) == sequenceMost && errors.Is(err, context.Canceled) {
		err = nil
	}
	return n, err
}

type peekConsumes struct{ *anysock.Conn }

func (c peekConsumes) Peek(ctx context.Context, p []byte) (int, error) { return c.ReadContext(ctx, p) }

type earlyEndIsEnd struct{ *anysock.Conn }

func (c earlyEndIsEnd) ReadAtLeast(ctx context.Context, p []byte, low int) (int, error) {
	n, err := c.Conn.ReadAtLeast(ctx, p, low)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = io.EOF
	}
	return n, err
}

// Contract 9.

type readsInTurn struct{ *anysock.Conn }

func (c readsInTurn) ActiveRead(ctx context.Context, fn func(p []byte) error) error {
	buf := make([]byte, anysock.DefaultReadBuffer)
	for {
		n, err := c.ReadContext(ctx, buf)
		if n > 0 {
			if err := fn(buf[:n]); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

type activeReadTakes struct{ *anysock.Conn }

func (c activeReadTakes) ActiveRead(ctx context.Context, fn func(p []byte) error) error {
	err := c.Conn.ActiveRead(ctx, fn)
	if errors.Is(err, context.Canceled) {
		_, _ = c.Read(make([]byte, 1))
	}
	return err
}

// Contract 10.

type endChanges struct {
	*anysock.Conn
	late atomic.Bool
}

func (c *endChanges) Abort() error {
	c.late.Store(c.Conn.End().How != anysock.NotEnded)
	return c.Conn.Abort()
}

func (c *endChanges) End() anysock.End {
	e := c.Conn.End()
	if c.late.Load() {
		e.How = anysock.AbortedByUs
	}
	return e
}

// Contract 12.

type declares struct {
	*anysock.Conn
	caps anysock.Caps
}

func (c declares) Caps() anysock.Caps { return c.caps }

type closeWriteSilent struct{ *anysock.Conn }

func (c closeWriteSilent) CloseWrite() error { return nil }

type abortSilent struct{ *anysock.Conn }

func (c abortSilent) Abort() error {
	_ = c.Conn.Abort()
	return nil
}

type claimsAck struct{ *anysock.Conn }

func (c claimsAck) Disconnect(ctx context.Context) (anysock.End, error) {
	e, err := c.Conn.Disconnect(ctx)
	if err == nil {
		e.AckedBy = anysock.AckedKernel
	}
	return e, err
}

func (c claimsAck) End() anysock.End {
	e := c.Conn.End()
	if e.How.Complete() {
		e.AckedBy = anysock.AckedKernel
	}
	return e
}
