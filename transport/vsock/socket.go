// This file makes the sockets: the one that connects, the one that listens,
// and what each failure means.

package vsock

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/internal/sys"
	"github.com/mdlayher/vsock"
)

// dial makes one attempt within timeout; 0 is DefaultAttemptTimeout.
func dial(ctx context.Context, d *anysock.Dialer, addr sys.Addr, timeout time.Duration) (*sys.NetConn, error) {
	if d.Local != "" || d.Interface != "" {
		return nil, problem(anysock.OpBind, addr, fmt.Errorf("choosing the local end: %w", errors.ErrUnsupported))
	}
	if timeout <= 0 {
		timeout = anysock.DefaultAttemptTimeout
	}
	if addr.CID == vsock.Local {
		if err := loopback(); err != nil {
			return nil, problem(anysock.OpConnect, addr, err)
		}
	}
	began := time.Now()
	actx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	fd, err := connect(actx, addr, timeout)
	if err == nil {
		return sys.NewNetConn(fd), nil
	}
	switch {
	case ctx.Err() != nil:
		err = ctx.Err()
	case actx.Err() != nil:
		err = syscall.ETIMEDOUT
	}
	e := problem(anysock.OpConnect, addr, err)
	a := anysock.Attempt{Round: 1, Addr: addr.Net().String(), Duration: time.Since(began), Err: err}
	e.Attempts = []anysock.Attempt{a}
	return nil, e
}

// connectMargin is what the kernel's own bound is longer than ours, so that
// ours decides.
const connectMargin = time.Second

// connect makes a socket and connects it; ctx cuts the wait.
func connect(ctx context.Context, addr sys.Addr, timeout time.Duration) (*sys.FD, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s, err := sys.Open(sys.Vsock)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	defer func() { _ = s.Close() }() // nothing once the FD owns the descriptor
	if err := s.SetVsockConnectTimeout(timeout + connectMargin); err != nil {
		return nil, os.NewSyscallError("setsockopt", err)
	}
	fd, err := s.Connect(addr)
	if err != nil {
		return nil, os.NewSyscallError("connect", err)
	}
	if err := finish(ctx, fd); err != nil {
		return nil, os.NewSyscallError("connect", err)
	}
	return fd, nil
}

// finish waits for the outcome of a connect; ctx cuts the wait. On an error fd
// is closed.
func finish(ctx context.Context, fd *sys.FD) error {
	cut := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		_ = fd.SetWriteDeadline(time.Unix(1, 0))
		close(cut)
	})
	err := fd.FinishConnect()
	if !stop() {
		<-cut
		err = ctx.Err() // a connection that came at this moment is too late
	}
	if err != nil {
		_ = fd.Close()
	}
	return err
}

// loopback finds out whether this kernel connects a machine with itself: only
// then can the identifier Local be bound. Without it a connect to Local would
// go to the hypervisor, which does not answer.
func loopback() error {
	s, err := sys.Open(sys.Vsock)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer func() { _ = s.Close() }()
	if err := s.Bind(sys.VsockAddr(vsock.Local, sys.VsockAny)); err != nil {
		return errNoLoopback
	}
	return nil
}

var errNoLoopback = errors.New("this kernel does not connect a machine with itself")

// listen binds and listens; a backlog of 0 is DefaultBacklog.
func listen(addr sys.Addr, backlog int) (sys.NetListener, error) {
	if backlog <= 0 {
		backlog = anysock.DefaultBacklog
	}
	s, err := sys.Open(sys.Vsock)
	if err != nil {
		return sys.NetListener{}, problem(anysock.OpSocket, addr, os.NewSyscallError("socket", err))
	}
	defer func() { _ = s.Close() }()
	if err := s.Bind(addr); err != nil {
		return sys.NetListener{}, problem(anysock.OpBind, addr, os.NewSyscallError("bind", err))
	}
	fd, err := s.Listen(backlog)
	if err != nil {
		return sys.NetListener{}, problem(anysock.OpListen, addr, os.NewSyscallError("listen", err))
	}
	return sys.NetListener{FD: fd}, nil
}

// problem says what failed, what it means on vsock, and what to try.
func problem(op string, addr sys.Addr, err error) *anysock.Error {
	e := &anysock.Error{Op: op, Addr: "vsock:" + addr.Net().String(), Kind: anysock.KindOther, Err: err}
	var errno syscall.Errno
	switch {
	case errors.Is(err, context.Canceled):
		e.Kind = anysock.KindCanceled
		return e
	case errors.Is(err, context.DeadlineExceeded):
		e.Kind = anysock.KindTimeout
		return e
	case errors.Is(err, errNoLoopback):
		e.Kind = anysock.KindUnreachable
		e.Hint = "load the module vsock_loopback ('modprobe vsock_loopback'), or use unix: or tcp: within one machine"
		return e
	case errors.Is(err, errors.ErrUnsupported) && !errors.As(err, &errno):
		e.Kind = anysock.KindUnsupported
		return e
	case !errors.As(err, &errno):
		return e
	}
	switch errno {
	case syscall.EAFNOSUPPORT, syscall.EPROTONOSUPPORT, syscall.ESOCKTNOSUPPORT:
		e.Kind = anysock.KindUnsupported
		e.Hint = "this kernel has no vsock: load the module vsock, in a guest also vmw_vsock_virtio_transport, on a host vhost_vsock"
	case syscall.ECONNRESET, syscall.ECONNREFUSED:
		e.Kind = anysock.KindRefused // what was never connected was not reset
		e.Hint = "nothing listens there: is the server started, and are identifier and port right?"
	case syscall.ETIMEDOUT:
		e.Kind = anysock.KindTimeout
		e.Hint = "nobody answers: is there a machine with this context identifier, and does its hypervisor offer vsock?"
	case syscall.ENODEV, syscall.EHOSTUNREACH, syscall.ENETUNREACH:
		e.Kind = anysock.KindUnreachable
		e.Hint = "no way leads to this context identifier: a guest reaches its host (2), a host its guests with the module vhost_vsock"
	case syscall.EADDRNOTAVAIL:
		e.Kind = anysock.KindUnreachable
		e.Hint = "it is not a context identifier of this machine" + own() + ": leave it out for all"
	case syscall.EADDRINUSE:
		e.Kind = anysock.KindInUse
		e.Hint = "another socket holds the port: see it with 'ss -l --vsock', or choose port 0 to get a free one"
	case syscall.EACCES, syscall.EPERM:
		e.Kind = anysock.KindPermission
		e.Hint = "ports below 1024 need a privilege (CAP_NET_BIND_SERVICE): choose another"
	case syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM:
		e.Kind = anysock.KindLimit
		e.Hint = "raise the limit of open files ('ulimit -n') or close some connections"
	}
	return e
}

// own names this machine's context identifier, if it can be known.
func own() string {
	cid, err := vsock.ContextID()
	if err != nil || cid == sys.VsockAny {
		return ""
	}
	return fmt.Sprintf(", which is %d", cid)
}
