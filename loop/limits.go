package loop

import (
	"time"

	"github.com/anysock/anysock/internal/reactor"
)

// The named defaults.
const (
	// DefaultWriteBuffer is how many bytes of one connection may wait for the
	// kernel before nothing more is received from its peer.
	DefaultWriteBuffer = 64 << 10
	// ReadBuffer is how much is received at once: the largest p of a Data.
	ReadBuffer = reactor.BufferSize
	// MaxPosts is how many functions may wait for one loop (Conn.Post).
	MaxPosts = reactor.MaxPosts
	// DefaultDrain is how long Shutdown lets connections finish.
	DefaultDrain = 30 * time.Second
)

const (
	// corkSize is what is collected of one callback's writes; more is sent at
	// once. A large Write goes out as it is.
	corkSize = 64 << 10
	// largeWrite is not worth copying.
	largeWrite = 8 << 10
	// keptQueues bounds the buffers that a loop keeps for connections that
	// have to wait; each is at most keptQueue long.
	keptQueues = 64
	keptQueue  = 64 << 10
	// shortage is how long a connection rests when the kernel is out of memory
	// for it.
	shortage = 5 * time.Millisecond
)
