// This file holds the connection that a BIND yields: that to the proxy, under
// the addresses of the caller and of the place that was called.

package proxy

import (
	"context"
	"net"

	"github.com/anysock/anysock"
)

// A calledConn is the connection to the proxy once that carries the caller's
// stream.
type calledConn struct {
	*anysock.Conn
	local, remote net.Addr
}

// LocalAddr is where the proxy listened.
func (c *calledConn) LocalAddr() net.Addr { return c.local }

// RemoteAddr is the caller's.
func (c *calledConn) RemoteAddr() net.Addr { return c.remote }

// Below is the connection to the proxy, to look at.
func (c *calledConn) Below() *anysock.Conn { return c.Conn }

// Caps is what the stream can do.
func (c *calledConn) Caps() anysock.Caps { return capsThrough(c.Conn.Caps(), anysock.Target{}) }

// Unacked is what the proxy has not acknowledged.
func (c *calledConn) Unacked() (int, error) {
	n, err := c.Conn.Unacked()
	return int(n), err
}

// WaitAcked waits until that is nothing, bounded by the write deadline.
func (c *calledConn) WaitAcked() error { return c.Conn.WaitAcked(context.Background()) }

// A hostAddr is an address with a name instead of a number.
type hostAddr string

func (hostAddr) Network() string  { return "tcp" }
func (a hostAddr) String() string { return string(a) }

// netAddr is e as an address of package net where it is one.
func netAddr(e endpoint) net.Addr {
	if e.name != "" {
		return hostAddr(e.String())
	}
	ip := e.ip
	if !ip.IsValid() {
		return hostAddr(e.String())
	}
	return &net.TCPAddr{IP: ip.Unmap().AsSlice(), Port: int(e.port)}
}
