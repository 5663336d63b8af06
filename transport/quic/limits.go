// This file names every bound of this package.

package quic

import "time"

// Bounds that an option or a field of the Dialer or the ListenConfig changes.
const (
	// DefaultStreams is how many streams of one QUIC connection a listener has
	// open at once, each a Conn: option streams.
	DefaultStreams = 100
	// DefaultStreamWindow is what the peer may send on one stream before it is
	// read, in bytes: option rcvbuf. It is the library's.
	DefaultStreamWindow = 6 << 20
)

const (
	// connectionWindow is what the peer may send on all streams of a
	// connection before it is read, in bytes.
	connectionWindow = 15 << 20
	// initialWindow is what both windows begin with; the library widens them
	// as the path needs it.
	initialWindow = 512 << 10

	// reportEvery is how much is taken before the peer is told, in bytes;
	// reportSoon is the same once the peer waits for it.
	reportEvery = 512 << 10
	reportSoon  = 64 << 10
	// maxOutbox bounds the messages on the control stream that wait to be
	// sent, in bytes; beyond it the peer does not read them and is cut off.
	maxOutbox = 64 << 10
	// maxReports is where reports are left out: the next one says more.
	maxReports = 4 << 10
	// maxEarly bounds the messages about streams that were not accepted yet.
	maxEarly = 256

	// collectAfter is how long after the peer's end was announced the rest is
	// taken into memory, if nobody has read it by then.
	collectAfter = 50 * time.Millisecond
	// collectPatience is how often that is put off for a reader at work.
	collectPatience = 10
	// collectChunk is how much is taken at once, in bytes.
	collectChunk = 32 << 10

	// doneWait bounds the wait for the peer to know that nothing is missing,
	// after everything was acknowledged.
	doneWait = time.Second
	// lingerTimeout bounds how long a closed stream waits for the
	// acknowledgement that a Disconnect did not get.
	lingerTimeout = 30 * time.Second
	// maxLingering bounds the streams that do so, in the whole process.
	maxLingering = 10_000
	// foreignLinger is how long a connection with a foreign protocol is kept
	// after the end, so that the last packets get out.
	foreignLinger = time.Second
	// sessionIdle is how long a listener keeps a connection without a stream.
	sessionIdle = 5 * time.Second
	// foreignUniStreams is how many unidirectional streams a foreign peer may
	// open; HTTP/3 wants three. Nobody reads them.
	foreignUniStreams = 8
	// closingPeriod is how long the socket of a closed connection is kept, to
	// answer late packets (RFC 9000 section 10.2).
	closingPeriod = 250 * time.Millisecond
	// closeRepeats is how often the close of a connection whose peer cannot
	// know of it is sent again, after one probe timeout, and twice as long
	// after that: in all three of them, which that section asks for.
	closeRepeats = 2
	// maxRepeatPause bounds the first of these pauses.
	maxRepeatPause = 2 * time.Second
	// timerGranularity and maxAckDelay are parts of the probe timeout (RFC 9002
	// section 6.1.2, RFC 9000 section 18.2: its default).
	timerGranularity = time.Millisecond
	maxAckDelay      = 25 * time.Millisecond

	// noIdleTimeout stands for none: the library has no such setting.
	noIdleTimeout = 24 * time.Hour
	// keepAlivePart is which part of the idle timeout the longest interval that keeps a connection alive whose
	// idle timeout is as given: a part of it.
	keepAlivePart = 3

	// maxHandshakes bounds the connections of a listener that have no stream
	// yet, about 64 KiB each; further ones are refused.
	maxHandshakes = 2048
	// maxHandshakesPerPeer is the same for one address, an IPv6 one counted by
	// its /64 network.
	maxHandshakesPerPeer = 1536
	// retryHandshakes is from how many on a client has to prove its address by
	// a round trip first (RFC 9000 section 8.1.2). That is for an attack, not
	// for a burst: the library answers so from a queue of 8 and drops what does
	// not fit, and on a busy machine who was dropped a few times comes too
	// seldom to get in before those who have just begun. A thousand clients of
	// one address that all dial at once stay below.
	retryHandshakes = 1024
	// acceptors is how many goroutines of a listener take connections from the
	// library, whose own queue of 32 is too short for a burst: it refuses what
	// does not fit.
	acceptors = 64
)
