//go:build !linux || anysock_portable

package relay

import (
	"context"

	"github.com/anysock/anysock"
)

// An engine is the relay on event loops, which this platform has not.
type engine struct{}

func (r *Relay) serveOnLoops(context.Context, *anysock.Listener) (bool, error) { return false, nil }

func (*engine) drain() error                              { return nil }
func (*engine) cut()                                      {}
func (*engine) stop()                                     {}
func (*engine) untold() int                               { return 0 }
func (*engine) movedBytes() (toOutbound, toInbound int64) { return 0, 0 }
