package anysock

import "time"

// The named defaults: every wait and every buffer has one. In the structs
// that carry them zero means the default and, where the field says so,
// negative means none.
const (
	DefaultBacklog         = 4096                   // Listen: connections that wait to be accepted; the kernel caps it at somaxconn
	DefaultDrainBytes      = 1 << 20                // Disconnect, Close: what is read and discarded while waiting for the peer's end
	DefaultDrainTimeout    = 5 * time.Second        // Disconnect: time for the peer's end, and for progress of acknowledgements
	DefaultCloseTimeout    = 30 * time.Second       // Close: the background disconnect in all
	DefaultCloseLimit      = 10_000                 // Close: background disconnects at once, per Group
	DefaultAttemptTimeout  = 10 * time.Second       // Dial: one attempt to connect
	DefaultAttemptDelay    = 250 * time.Millisecond // Dial: start of the next address (RFC 8305 section 5)
	DefaultResolutionDelay = 50 * time.Millisecond  // Dial: wait for IPv6 addresses after IPv4's came (RFC 8305 section 3)
	DefaultRetryInterval   = time.Second            // Dial: from one round's start to the next's
	DefaultHandshake       = 10 * time.Second       // everything a layer exchanges before data
	DefaultKeepIdle        = 30 * time.Second       // keep-alive: first probe after this silence
	DefaultKeepInterval    = 10 * time.Second       // keep-alive: between probes
	DefaultKeepCount       = 3                      // keep-alive: unanswered probes until lost
	DefaultLostAfter       = 60 * time.Second       // lost: nothing heard while something is owed
	DefaultReadBuffer      = 64 << 10               // ActiveRead, copies that cannot splice
	DefaultAcceptBackoff   = 5 * time.Millisecond   // Accept: first pause when out of descriptors or memory
	MaxAcceptBackoff       = time.Second            // Accept: longest such pause
	DefaultShedAfter       = 5 * time.Second        // Accept: out of descriptors this long, waiting clients are reset
)

// Options tunes a connection, made or accepted. The zero value is what most
// programs want.
type Options struct {
	// KeepAlive: silence on an idle TCP connection is probed.
	KeepAlive KeepAlive
	// LostAfter is how long a TCP peer may be silent while something of ours
	// is unacknowledged; then the connection is lost. A peer that keeps its
	// window closed but answers is not silent. 0 is DefaultLostAfter,
	// negative leaves it to the kernel (about 15 minutes, tcp_retries2).
	LostAfter time.Duration
	// DrainBytes bounds what Disconnect and Close discard while they wait
	// for the peer's end. 0 is DefaultDrainBytes, negative discards nothing.
	DrainBytes int64
	// DrainTimeout bounds how long Disconnect waits for the peer's end, and
	// for each progress of acknowledgements. 0 is DefaultDrainTimeout.
	DrainTimeout time.Duration
	// CloseTimeout bounds the disconnect that Close leaves in the
	// background, in all. 0 is DefaultCloseTimeout.
	CloseTimeout time.Duration
	// ReceiveBuffer and SendBuffer set the kernel's buffers in bytes
	// (SO_RCVBUF, SO_SNDBUF; Linux doubles them). 0 leaves the kernel's
	// automatic sizing on.
	ReceiveBuffer, SendBuffer int
	// Delay turns Nagle's algorithm on (TCP_NODELAY off).
	Delay bool
}

// KeepAlive is TCP keep-alive (tcp(7)). Times are rounded up to seconds.
type KeepAlive struct {
	Disable  bool
	Idle     time.Duration // 0 is DefaultKeepIdle
	Interval time.Duration // 0 is DefaultKeepInterval
	Count    int           // 0 is DefaultKeepCount
}

// withDefaults fills in what is zero.
func (o Options) withDefaults() Options {
	o.LostAfter = orDefault(o.LostAfter, DefaultLostAfter)
	o.DrainBytes = orDefault(o.DrainBytes, DefaultDrainBytes)
	o.DrainTimeout = orDefault(o.DrainTimeout, DefaultDrainTimeout)
	o.CloseTimeout = orDefault(o.CloseTimeout, DefaultCloseTimeout)
	o.KeepAlive.Idle = orDefault(o.KeepAlive.Idle, DefaultKeepIdle)
	o.KeepAlive.Interval = orDefault(o.KeepAlive.Interval, DefaultKeepInterval)
	o.KeepAlive.Count = orDefault(o.KeepAlive.Count, DefaultKeepCount)
	return o
}

// defaultOptions are those of the connections that have no wishes, which are
// most: they share it.
var defaultOptions = Options{}.withDefaults()

// shared is withDefaults for those who only look at it.
func (o Options) shared() *Options {
	if o == (Options{}) {
		return &defaultOptions
	}
	o = o.withDefaults()
	return &o
}

// orDefault is v, or def if v is zero.
func orDefault[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}
