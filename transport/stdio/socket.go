// This file holds a stream and a listener that are inherited kernel sockets.

package stdio

import (
	"errors"
	"net"
	"time"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/internal/sys"
)

// A socket is an inherited connection. The root drives its FD directly.
type socket struct {
	*sys.FD
	local, remote net.Addr
}

func newSocket(fd *sys.FD) *socket {
	return &socket{FD: fd, local: fd.LocalAddr().Net(), remote: fd.PeerAddr().Net()}
}

// Kernel is the kernel socket.
func (s *socket) Kernel() *sys.FD { return s.FD }

// LocalAddr is a *net.TCPAddr or *net.UnixAddr.
func (s *socket) LocalAddr() net.Addr { return s.local }

// RemoteAddr is a *net.TCPAddr or *net.UnixAddr.
func (s *socket) RemoteAddr() net.Addr { return s.remote }

// SetDeadline sets both.
func (s *socket) SetDeadline(t time.Time) error {
	return errors.Join(s.SetReadDeadline(t), s.SetWriteDeadline(t))
}

// A socketListener is an inherited listening socket.
type socketListener struct{ *sys.FD }

var _ anysock.DeadlineListener = socketListener{}

// Kernel is the kernel socket.
func (l socketListener) Kernel() *sys.FD { return l.FD }

// Accept waits for a connection.
func (l socketListener) Accept() (net.Conn, error) {
	fd, err := l.FD.Accept()
	if err != nil {
		return nil, err
	}
	return newSocket(fd), nil
}

// Addr is the bound address.
func (l socketListener) Addr() net.Addr { return l.LocalAddr().Net() }

// SetDeadline bounds Accept.
func (l socketListener) SetDeadline(t time.Time) error { return l.SetReadDeadline(t) }
