//go:build linux && !anysock_portable

package sys

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"
)

// Unacked is the number of our bytes, and one more for our end if it was
// sent, that the peer's kernel has not acknowledged (SIOCOUTQ, tcp(7),
// docs/notes/outq). Unix sockets have no acknowledgement, and vsock has one
// only on newer kernels and for data alone: ErrUnsupported.
func (fd *FD) Unacked() (int, error) {
	if !fd.family.Inet() {
		return 0, errors.ErrUnsupported
	}
	var n int
	err := fd.control(func(d int) error {
		var err error
		n, err = unacked(d)
		return err
	})
	return n, err
}

func unacked(d int) (n int, err error) {
	err = retryEINTR(func() error {
		err := check(CallUnacked, d)
		if err == nil {
			n, err = unix.IoctlGetInt(d, unix.SIOCOUTQ)
		}
		return err
	})
	return n, err
}

// WaitAcked waits until everything we sent is acknowledged. Call it after
// CloseWrite: the acknowledgement of data raises no event, that of our end
// does (docs/notes/ack-events). It returns the connection's error if that
// dies first, and os.ErrDeadlineExceeded at the write deadline.
func (fd *FD) WaitAcked() error {
	if !fd.family.Inet() {
		return errors.ErrUnsupported
	}
	var werr error
	err := fd.rc.Write(func(d uintptr) bool {
		n, err := unacked(int(d))
		switch {
		case err != nil:
			werr = err
			return true
		case n == 0:
			return true
		}
		// A connection that died with bytes owed never acknowledges them.
		if info, err := unix.GetsockoptTCPInfo(int(d), unix.IPPROTO_TCP, unix.TCP_INFO); err == nil && info.State == tcpClose {
			// The last acknowledgement closes an orderly connection too, and
			// may have come between the two looks.
			if n, err := unacked(int(d)); err == nil && n == 0 {
				return true
			}
			if werr = takeError(int(d)); werr == nil {
				werr = unix.ECONNRESET
			}
			return true
		}
		return false
	})
	if err != nil {
		return fd.fileError(err)
	}
	return werr
}

const tcpClose = 7 // TCP_CLOSE, include/net/tcp_states.h

// Dead reports whether a TCP connection is over: reset, or ended both ways.
func (fd *FD) Dead() bool {
	if !fd.family.Inet() {
		return false
	}
	dead := false
	_ = fd.control(func(d int) error {
		info, err := unix.GetsockoptTCPInfo(d, unix.IPPROTO_TCP, unix.TCP_INFO)
		dead = err == nil && info.State == tcpClose
		return err
	})
	return dead
}

// Liveness is what the kernel knows about the peer's silence (TCP_INFO).
type Liveness struct {
	Owed           int           // bytes not acknowledged, our end included
	LastHeard      time.Duration // age of the last acknowledgement from the peer
	Segments       uint32        // segments received so far: unchanged means that nothing was heard
	Probes         uint32        // window probes since the last answer
	Retransmits    uint32        // retransmissions by time-out since the last answer
	AllRetransmits uint32        // all retransmissions so far
}

// Liveness asks for it; ErrUnsupported on anything but TCP. The counters are
// 0 when nothing is owed.
func (fd *FD) Liveness() (Liveness, error) {
	if !fd.family.Inet() {
		return Liveness{}, errors.ErrUnsupported
	}
	var l Liveness
	err := fd.control(func(d int) error {
		var err error
		l, err = liveness(d)
		return err
	})
	return l, err
}

func liveness(d int) (Liveness, error) {
	n, err := unacked(d)
	if err != nil || n == 0 {
		return Liveness{}, err
	}
	if err := check(CallInfo, d); err != nil {
		return Liveness{}, err
	}
	info, err := unix.GetsockoptTCPInfo(d, unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil {
		return Liveness{}, err
	}
	return Liveness{
		Owed:           n,
		LastHeard:      time.Duration(info.Last_ack_recv) * time.Millisecond,
		Segments:       info.Segs_in,
		Probes:         uint32(info.Probes),
		Retransmits:    uint32(info.Retransmits),
		AllRetransmits: info.Total_retrans,
	}, nil
}
