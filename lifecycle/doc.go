// Package lifecycle provides lc, the lifecycle protocol: a small framing that
// gives any carrier what it lacks of a connection's life. Import it for its
// effect: it registers the scheme word lc.
//
//	lc+tcp://host:port      lc+unix:/run/o.sock      lc+tls://host:443
//	lc+wss://host/path      lc+exec:/usr/bin/tool    lc+ssh://...
//
// The protocol is specified in docs/LIFECYCLE-PROTOCOL.md. Both sides must
// speak it; to a peer that does not, nothing but the opening is ever sent, and
// the handshake fails with an error of KindAuth.
//
// Who should not use it: whoever talks to programs that do not know anysock.
// Over tcp it adds the peer's confirmation and codes of aborts; over carriers
// such as unix, tls, ws, ssh and pipes also the difference between an end, an
// abort and a cut.
//
// On the wire an ending looks like this:
//
//	CloseWrite   END with the count of bytes; answered by END_ACK when the
//	             peer's program has taken them all
//	Disconnect   the same both ways, then the carrier's own end
//	Abort        ABORT with a code, then the carrier's reset or end
//	a cut        the carrier's end without END: KindTruncated
//
// Capabilities: halfclose, abort, cutdetect and closeack are lc's own;
// deadline, peerid and bindsource are the carrier's. End.AckedBy is AckedPeer:
// what counts is what the peer's program has taken, by reading it or by
// closing, not what its kernel has. So Disconnect waits for a peer that does
// not read, within its bounds, and Unacked counts bytes that lie unread there.
//
// lc has no window: a peer that does not read holds up its writer through the
// carrier. An idle peer is asked for a sign of life (options pingidle,
// pinginterval, pingcount); one that has not taken what it was sent is never
// declared lost for not answering.
//
// A program that aborts may say why, by Conn.AbortAs with an *AbortError as
// the cause; the peer finds it with errors.As in its reset.
package lifecycle
