// Package bridge lets the packages of this module do with the root's types what
// its users may not: the event loops take a Listener's socket over, and speak of
// failures as a Conn does. The root sets the variables when it is initialised.
package bridge

import "github.com/anysock/anysock/internal/sys"

// Listening is what an event loop needs of an *anysock.Listener.
type Listening struct {
	Socket    *sys.FD // the loop takes it over
	Taken     func()  // tells the Listener that it did
	Options   any     // anysock.Options of accepted connections
	Group     any     // *anysock.Group of theirs
	Limit     int     // of open connections; 0 is none
	Exhausted func()  // counts a failure for want of descriptors or memory
	Shed      func()  // counts a client that was reset for that reason

	Closed <-chan struct{} // closed when the Listener is
}

var (
	// Listener takes an *anysock.Listener apart. It is false for one that is
	// not a kernel socket, or that is traced: a loop does not tell each step.
	Listener func(l any) (Listening, bool)
	// Conn takes the kernel socket of an *anysock.Conn that nobody has used yet,
	// and that is neither traced nor accepted with a limit: the Conn is used up.
	// False: nothing has happened.
	Conn func(c any) (socket *sys.FD, ok bool)
	// OpError wraps err as the root's calls do: the step, the address, the kind
	// and a hint.
	OpError func(op, addr string, err error) error
	// Failure is OpError for what has ended a connection, with the anysock.How
	// that it means.
	Failure func(op, addr string, err error) (how int, e error)
	// ChargenText is a whole number of cycles of chargen's lines.
	ChargenText func() []byte
)
