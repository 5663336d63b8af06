package sys

// An Option is a socket option with an integer value. Not every platform has
// every option.
type Option int

// The options, by level and name.
const (
	ReuseAddr     Option = iota // SO_REUSEADDR, socket(7)
	ReusePort                   // SO_REUSEPORT, socket(7)
	ReceiveBuffer               // SO_RCVBUF, bytes; Linux doubles it
	SendBuffer                  // SO_SNDBUF, bytes; Linux doubles it
	LowWater                    // SO_RCVLOWAT, bytes
	KeepAlive                   // SO_KEEPALIVE
	V6Only                      // IPV6_V6ONLY, ipv6(7)
	BindNoPort                  // IP_BIND_ADDRESS_NO_PORT, ip(7), Linux
	NoDelay                     // TCP_NODELAY, tcp(7)
	KeepIdle                    // TCP_KEEPIDLE, seconds
	KeepInterval                // TCP_KEEPINTVL, seconds
	KeepCount                   // TCP_KEEPCNT
	MaxRetransmit               // TCP_RTO_MAX_MS, milliseconds, Linux 6.15
)

// connections are the options of a connection, as they are set on one: KeepAlive
// last, since package net turns it on with the times.
var connections = []Option{ReceiveBuffer, SendBuffer, LowWater, NoDelay, KeepIdle, KeepInterval, KeepCount, MaxRetransmit, KeepAlive}

// applyOptions sets on a connection what its Socket, or its listener's, was told.
// A hint that fails stays a hint.
func applyOptions(fd *FD, opts map[Option]int) {
	if len(opts) == 0 {
		return
	}
	for _, o := range connections {
		if v, ok := opts[o]; ok {
			_ = fd.SetInt(o, v)
		}
	}
}
