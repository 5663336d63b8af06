package anysock

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"syscall"
	"time"

	"github.com/anysock/anysock/internal/sys"
)

const (
	// fullQueueDelay and maxFullQueueDelay pace the tries to connect to a Unix
	// listener whose queue is full, for which the kernel has no event
	// (docs/notes/unix-endings).
	fullQueueDelay    = 2 * time.Millisecond
	maxFullQueueDelay = 100 * time.Millisecond
)

// connectOne makes one attempt within timeout. On success the FD has taken
// over s; on failure s is spent or as it was, and the caller closes it.
func connectOne(ctx context.Context, s *sys.Socket, a sys.Addr, timeout time.Duration) (*sys.FD, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	actx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	fd, err := startConnect(actx, s, a)
	if err == nil {
		err = finishConnect(actx, fd)
	}
	switch {
	case err == nil:
		return fd, nil
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case actx.Err() != nil:
		return nil, &attemptTimeoutError{timeout}
	}
	return nil, err
}

// startConnect issues connect(2). A Unix listener whose queue is full is
// tried again.
func startConnect(ctx context.Context, s *sys.Socket, a sys.Addr) (*sys.FD, error) {
	for delay := fullQueueDelay; ; delay = min(2*delay, maxFullQueueDelay) {
		fd, err := s.Connect(a)
		if sys.ClassOf(err) != sys.Again || a.Family != sys.Unix {
			return fd, err
		}
		if err := sleep(ctx, delay); err != nil {
			return nil, err
		}
	}
}

// finishConnect waits for the outcome; ctx cuts the wait.
func finishConnect(ctx context.Context, fd *sys.FD) error {
	cut := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		_ = fd.SetWriteDeadline(longAgo)
		close(cut)
	})
	err := fd.FinishConnect()
	if !stop() {
		<-cut
		if err == nil {
			_ = fd.SetWriteDeadline(time.Time{})
		}
	}
	if err == nil && fd.Family().Inet() && fd.LocalAddr() == fd.PeerAddr() {
		// TCP's simultaneous open can connect an ephemeral port to itself
		// (RFC 9293 section 3.5): nobody listens there.
		err = syscall.ECONNREFUSED
	}
	if err != nil {
		_ = fd.Abort()
		return err
	}
	return nil
}

// attemptTimeoutError says that one address did not answer in time.
type attemptTimeoutError struct{ after time.Duration }

func (e *attemptTimeoutError) Error() string { return "no answer within " + e.after.String() }
func (e *attemptTimeoutError) Is(target error) bool {
	return target == os.ErrDeadlineExceeded || target == context.DeadlineExceeded
}

// connectError says that no attempt succeeded. Its kind is that of the
// context, if it ended the dial, else of the last attempt that failed by
// itself.
func connectError(network, addr string, attempts []Attempt, ctxErr error) *Error {
	e := &Error{Op: OpConnect, Addr: network + ":" + addr, Attempts: attempts}
	for _, a := range attempts {
		if a.Err != nil && !errors.Is(a.Err, context.Canceled) {
			e.Err = a.Err
		}
	}
	if ctxErr != nil {
		e.Err = ctxErr
	}
	if e.Err == nil {
		e.Err = errors.New("there is no address to try")
	}
	e.Kind = kindOf(e.Err)
	// What was never connected was neither reset nor lost.
	switch class := sys.ClassOf(e.Err); {
	case e.Kind == KindReset, class == sys.Missing && network == "unix":
		e.Kind = KindRefused
	case e.Kind == KindLost:
		e.Kind = KindTimeout
	case class == sys.NotLocal && errorOp(e.Err) != OpBind:
		e.Kind = KindLimit
		e.Hint = "no local port is free for " + addr + ": see net.ipv4.ip_local_port_range, or connect from more addresses"
		return e
	}
	if e.Kind == KindTimeout && ctxErr == nil {
		e.Hint = addr + " does not answer: a firewall may drop the packets, or the host is down"
	} else {
		e.Hint = hintFor(OpConnect, addr, e.Kind, e.Err)
	}
	return e
}

// errorOp is the step that err failed at, if it says so.
func errorOp(err error) string {
	var e *Error
	if errors.As(err, &e) {
		return e.Op
	}
	return ""
}

// sleep waits for d or until ctx is done.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// orLoopback makes the wildcard address of a connect mean this machine.
func orLoopback(a sys.Addr) sys.Addr {
	if !a.Family.Inet() || !a.IP.Addr().IsUnspecified() {
		return a
	}
	ip := netip.IPv6Loopback()
	if a.Family == sys.Inet4 {
		ip = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	return sys.IPAddr(netip.AddrPortFrom(ip, a.IP.Port()))
}
