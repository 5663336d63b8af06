package bridge

import (
	"context"
	"time"

	"github.com/anysock/anysock/internal/sys"
)

// Dialing is what an event loop needs to make the connections that an
// *anysock.Dialer would: the wishes of Dialer and address as one.
type Dialing struct {
	Network string     // tcp, tcp4, tcp6 or unix, for messages
	Unix    bool       //
	Addrs   []sys.Addr // to try, in that order; nil: ask Lookup
	// Lookup finds the addresses of the host's name and tells found of each
	// batch as it comes, and of the error if there is none at all. ctx ends it.
	Lookup func(ctx context.Context, found func([]sys.Addr, error))
	// Local is the address to bind for a connection of that family; nil where
	// the kernel chooses. Without a Port the choice is left to connect.
	Local      func(to sys.Addr) *sys.Addr
	Sequential bool // one address after the other
	Interface  string
	Options    any // anysock.Options
	Settings   []Setting

	Attempts       int // rounds in all; negative: for ever
	Interval       time.Duration
	AttemptTimeout time.Duration
	AttemptDelay   time.Duration

	// TimedOut is the error of an attempt that had no answer in time.
	TimedOut error
	// Failed is the error of a round whose attempts have all failed, or that
	// had none because of resolve. attempts is the []anysock.Attempt so far.
	// again says that another round may succeed.
	Failed func(attempts any, resolve error, rounds int) (err error, again bool)
}

// A Setting is a socket option.
type Setting struct {
	Option sys.Option
	Value  int
	Tries  bool // a failure does not matter
}

var (
	// Dialer says how an *anysock.Dialer would reach an anysock.Address. It is
	// false where that is not one hop of tcp or unix without layers, or where
	// the Dialer asks for what a loop does not do: Trace, Allow, or
	// the functions that are told of each socket and attempt, which may block.
	Dialer func(d, address any) (*Dialing, bool)
	// OptionError is the error of setting an option.
	OptionError func(s Setting, err error) error
)
