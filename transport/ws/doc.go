// Package ws carries streams over WebSockets (RFC 6455). Import it to register
// the layer ws:
//
//	ws://host:80/path              over tcp
//	wss://host:443/path            over tls, which package transport/tls registers
//	ws+unix:/run/o.sock?path=/t    over a Unix socket
//	lc+wss://host:443/path         with the lifecycle protocol, see below
//
// It is for reaching servers through what lets only HTTP pass, and for browsers
// as clients. Between two programs with a plain path tcp or tls costs less. It is
// not for protocols of messages: a stream has no message boundaries, and text
// messages are refused.
//
// # On the wire
//
// Bytes travel in binary messages of at most 64 KiB; received messages may have
// any size and any fragmentation. There is no compression, which would cost
// memory for each connection and let a guesser find secrets by the size of
// messages.
//
//	ending                       on the wire
//	Close, Disconnect            close frame 1000, and the peer's own is awaited
//	the peer's 1000, 1001, or    end of file: both directions are over
//	a close frame without code
//	any other code               an abort by the peer (KindReset), with code and reason
//	Abort                        close frame 1011 if it can be sent at once, then an abort below
//	an end below without a       a cut (KindTruncated)
//	close frame
//	a text message               refused with 1003
//	broken framing, a client's   refused with 1002
//	frame without a mask
//
// A WebSocket has no half-close: whoever gets a close frame must answer with its
// own (RFC 6455 section 5.5.1), and that ends both directions. So CloseWrite
// says errors.ErrUnsupported; lc+ws has half-close.
//
// # Capabilities
//
// ws removes halfclose; it adds abort, cutdetect and deadline, whatever is
// below; closeack is as below: the next hop's kernel has our bytes.
//
// # Options
//
// host, header, header-secret, auth-token, query, path, origin, subprotocol,
// ping, pong: see anysock caps, or the Help of each. Whoever listens serves one
// path exactly; the query of a request is not looked at.
//
// A browser connects on behalf of any page that it shows, so a server refuses
// pages of another origin than its own, with status 403, unless the option origin
// names theirs.
//
// # Pings
//
// Each side sends a ping when for the time of ping nothing was sent or nothing
// came: proxies and address translators forget silent connections. That no pong
// comes means nothing by itself, because a peer whose program pauses may not read
// it; a path that is dead shows below, where the ping is not acknowledged
// (Options.LostAfter). Through proxies only pongs can tell: the option pong gives
// the time after which a silent peer is lost.
//
// The other side's pings and close frames are answered by whoever reads. Where
// nobody has for 50 ms, a goroutine does, and reads at most 128 KiB ahead; beyond
// that the other side waits.
//
// # The lifecycle protocol
//
// Under lc the subprotocol is anysock.lc.1 and nothing else: the handshake fails
// on both sides if the other does not have it.
package ws

import "time"

// The bounds of this package.
const (
	// DefaultPing is the time without traffic after which a ping is sent.
	DefaultPing = 30 * time.Second

	// maxHead bounds the header of a handshake's request and that of its answer,
	// in bytes.
	maxHead = 8 << 10
	// headBuffer reads the header of a handshake.
	headBuffer = 4 << 10
	// frameHead is the library's for the header of a frame; payloads go past it.
	frameHead = 16
	// frameBuffer is the library's for a server's frames; large ones go past it.
	frameBuffer = 512
	// maxPongs bounds the answers that a peer causes and does not read, in bytes.
	maxPongs = 4 << 10
	// refusalTime bounds the end of a connection that was refused.
	refusalTime = 2 * time.Second
	// lastGrace bounds how long an abort tries to send its close frame.
	lastGrace = 10 * time.Millisecond
)
