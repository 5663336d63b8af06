//go:build !linux || anysock_portable

package sys

import (
	"errors"
	"time"
)

// Unacked needs SIOCOUTQ with Linux's meaning: ErrUnsupported here.
func (fd *FD) Unacked() (int, error) { return 0, errors.ErrUnsupported }

// WaitAcked needs Unacked: ErrUnsupported here.
func (fd *FD) WaitAcked() error { return errors.ErrUnsupported }

// Dead needs TCP_INFO: false here.
func (fd *FD) Dead() bool { return false }

// Liveness is what the kernel knows about the peer's silence.
type Liveness struct {
	Owed                                          int
	LastHeard                                     time.Duration
	Segments, Probes, Retransmits, AllRetransmits uint32
}

// Liveness needs TCP_INFO: ErrUnsupported here.
func (fd *FD) Liveness() (Liveness, error) { return Liveness{}, errors.ErrUnsupported }
