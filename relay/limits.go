package relay

import "time"

// The named bounds. In the structs that carry them zero means the default.
const (
	DefaultAttempts  = 3                      // Relay: tries to reach the target while the client waits
	DefaultMaxConns  = 10_000                 // Relay: connections at once; further ones wait in the backlog
	DefaultDrain     = 30 * time.Second       // Shutdown: until what still runs is aborted
	DefaultLastWords = 500 * time.Millisecond // a dead leg's last bytes: until the other leg must have taken some
)

// orDefault is v, or def if v is zero.
func orDefault[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}
