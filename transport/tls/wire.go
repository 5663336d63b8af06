// This file holds the stream as the library sees it from above: its carrier.

package tls

import (
	"net"
	"time"
)

// A wire is a stream whose methods are those of its Carrier. It is the same
// object, so that an idle connection does not pay for another.
type wire stream

var _ net.Conn = (*wire)(nil)

// Read is called when the library has used up what it had.
func (w *wire) Read(p []byte) (int, error) {
	(*stream)(w).unset(holds)
	return w.carrier.Read(p)
}

func (w *wire) Write(p []byte) (int, error)        { return w.carrier.Write(p) }
func (w *wire) Close() error                       { return w.carrier.Close() }
func (w *wire) LocalAddr() net.Addr                { return w.carrier.LocalAddr() }
func (w *wire) RemoteAddr() net.Addr               { return w.carrier.RemoteAddr() }
func (w *wire) SetDeadline(t time.Time) error      { return w.carrier.SetDeadline(t) }
func (w *wire) SetReadDeadline(t time.Time) error  { return w.carrier.SetReadDeadline(t) }
func (w *wire) SetWriteDeadline(t time.Time) error { return w.carrier.SetWriteDeadline(t) }
