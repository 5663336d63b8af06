package sys

import (
	"errors"
	"net"
	"time"
)

// This file gives transports outside the root the two forms of a kernel socket
// that package net has, for those that make or inherit one. They add nothing to
// the FD: the root drives that directly.

// A NetConn is a connected FD as a net.Conn.
type NetConn struct {
	*FD
	local, remote net.Addr
}

var _ net.Conn = (*NetConn)(nil)

// NewNetConn takes over fd, which knows its addresses.
func NewNetConn(fd *FD) *NetConn {
	return &NetConn{FD: fd, local: fd.LocalAddr().Net(), remote: fd.PeerAddr().Net()}
}

// Kernel is the kernel socket.
func (c *NetConn) Kernel() *FD { return c.FD }

// LocalAddr is our address, as Addr.Net has it.
func (c *NetConn) LocalAddr() net.Addr { return c.local }

// RemoteAddr is the peer's address, as Addr.Net has it.
func (c *NetConn) RemoteAddr() net.Addr { return c.remote }

// SetDeadline sets both.
func (c *NetConn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// A NetListener is a listening FD as a net.Listener.
type NetListener struct{ *FD }

var _ net.Listener = NetListener{}

// Kernel is the kernel socket.
func (l NetListener) Kernel() *FD { return l.FD }

// Accept waits for a connection.
func (l NetListener) Accept() (net.Conn, error) {
	fd, err := l.FD.Accept()
	if err != nil {
		return nil, err
	}
	return NewNetConn(fd), nil
}

// Addr is the bound address, as Addr.Net has it.
func (l NetListener) Addr() net.Addr { return l.LocalAddr().Net() }

// SetDeadline bounds Accept.
func (l NetListener) SetDeadline(t time.Time) error { return l.SetReadDeadline(t) }
