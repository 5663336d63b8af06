package anysock

import (
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"
)

// The steps an Event reports, in the words of the classical calls.
const (
	OpSocket     = "socket"
	OpOption     = "setsockopt"
	OpBind       = "bind"
	OpListen     = "listen"
	OpAccept     = "accept"
	OpResolve    = "resolve"
	OpConnect    = "connect"
	OpHandshake  = "handshake"
	OpWait       = "wait"
	OpPeek       = "peek"
	OpRead       = "read"
	OpWrite      = "write"
	OpShutdown   = "shutdown"
	OpDisconnect = "disconnect"
	OpClose      = "close"
	OpAbort      = "abort"
	OpEnd        = "end" // the connection's ending; no event of that socket follows
)

// An Event is one step of one socket, reported when the step has returned.
type Event struct {
	Time     time.Time     // when the step began
	Duration time.Duration // how long it took
	Op       string        // OpSocket, OpBind, ...
	Socket   uint64        // the socket's number, unique in the process; a Conn keeps its Socket's
	Network  string        // "tcp", "unix", "mem", ...
	Local    string        // addresses as far as they are known
	Peer     string
	Bytes    int64  // moved by a read or write
	Detail   string // the option set, the backlog, the addresses found
	State    State  // after the step
	Err      error
	End      *End // for OpEnd
}

// String is the event as one line.
func (e Event) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "#%d %s %s", e.Socket, e.Network, e.Op)
	if e.Detail != "" {
		b.WriteString(" " + e.Detail)
	}
	if e.Local != "" || e.Peer != "" {
		fmt.Fprintf(&b, " %s -> %s", orDefault(e.Local, "?"), orDefault(e.Peer, "?"))
	}
	if e.Op == OpRead || e.Op == OpWrite {
		fmt.Fprintf(&b, " %d bytes", e.Bytes)
	}
	if e.End != nil {
		b.WriteString(": " + e.End.String())
	}
	if e.Err != nil {
		b.WriteString(": " + e.Err.Error())
	}
	if e.Duration > 0 {
		fmt.Fprintf(&b, " (%s)", e.Duration.Round(time.Microsecond))
	}
	return b.String()
}

// LogValue makes an Event a group of attributes for log/slog.
func (e Event) LogValue() slog.Value {
	as := []slog.Attr{slog.Uint64("socket", e.Socket), slog.String("network", e.Network)}
	add := func(key, v string) {
		if v != "" {
			as = append(as, slog.String(key, v))
		}
	}
	add("local", e.Local)
	add("peer", e.Peer)
	add("detail", e.Detail)
	if e.Op == OpRead || e.Op == OpWrite {
		as = append(as, slog.Int64("bytes", e.Bytes))
	}
	as = append(as, slog.String("state", e.State.String()), slog.Duration("took", e.Duration))
	if e.End != nil {
		as = append(as, slog.String("end", e.End.String()))
	}
	if e.Err != nil {
		as = append(as, slog.String("err", e.Err.Error()))
	}
	return slog.GroupValue(as...)
}

// A Trace is told of every step. It is called on the goroutine that made the
// step: for one connection one call at a time, for several at once. It must
// not block for long, nor call methods of the socket it is told of.
type Trace func(Event)

// A State is where a socket is in its life.
//
//	new -> bound -> listening
//	  \      \
//	   +------+-> connecting <-> waiting -> connected
//	                 (waiting: between two rounds of a retry)
//	connected -> read ended | write ended -> disconnecting -> closed
//
// Every state may go to closed.
type State int32

// The states.
const (
	StateNew State = iota
	StateBound
	StateListening
	StateConnecting
	StateWaiting
	StateConnected
	StateReadEnded
	StateWriteEnded
	StateDisconnecting
	StateClosed
	stateCount
)

var stateNames = [stateCount]string{
	"new", "bound", "listening", "connecting", "waiting", "connected",
	"read ended", "write ended", "disconnecting", "closed",
}

// String is the state's name.
func (s State) String() string {
	if s < 0 || s >= stateCount {
		return fmt.Sprintf("State(%d)", int32(s))
	}
	return stateNames[s]
}

// lastSocket numbers the sockets of this process.
var lastSocket atomic.Uint64

func nextSocket() uint64 { return lastSocket.Add(1) }
