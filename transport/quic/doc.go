// Package quic is the transport quic: a stream of a QUIC connection (RFC 9000)
// for each Conn. Import it for its effect:
//
//	import _ "github.com/anysock/anysock/transport/quic"
//
//	quic://db:4433                                          dial, the certificate verified by the system's
//	quic://[2001:db8::7]:4433?ca=file:/etc/ca.pem&sni=db    dial, verified by a private authority
//	quic://:4433?cert=file:/etc/db.pem&key=file:/etc/db.key listen
//	lc+quic://db:4433                                       the lifecycle protocol inside
//	quic://h:4433?alpn=echo                                 a foreign QUIC server: raw streams
//
// It is for paths that lose packets, where one lost packet holds up less than
// on TCP, and for networks that keep UDP open. It is not for speed on a local
// network: everything happens in the process, and tls: moves about three times
// as much for the same work. It does not share one QUIC connection among
// dialed Conns, does not use 0-RTT, and is not HTTP/3.
//
// # Both ends
//
// A dialed Conn has a QUIC connection of its own, with one bidirectional
// stream, on a UDP socket of its own. A listener accepts every stream of every
// connection as a Conn, so that another client may open several (option
// streams). The two sides agree by ALPN on "anysock/1", or under the layer lc on
// "anysock-lc/1", and fail with KindAuth if they cannot. The mapping is specified in
// docs/QUIC.md: an opening byte, FIN as the only end, and a control stream each
// way by which each side tells the other that it has taken everything, so that
// closing the QUIC connection destroys nothing.
//
// With other protocols (option alpn) there is none of this: no opening byte,
// so that the side that dialed has to speak first; and nobody confirms, so
// CapCloseAck is missing, and after both ends Disconnect waits a second, or
// until the peer has closed, for the last packets to get out. A peer that
// closes the QUIC connection right after its last byte may destroy what we had
// not read: that is KindTruncated.
//
// # Endings on the wire
//
//	CloseWrite        FIN
//	Abort             RESET_STREAM, STOP_SENDING and CONNECTION_CLOSE with code 1: the peer says KindReset
//	both ends         CONNECTION_CLOSE with code 0, once both sides have taken everything
//	peer is silent    KindLost after the idle timeout (option lost, the lesser of both sides';
//	                  the library takes a peer's that is below 5s for 5s)
//	peer has given up, and we missed it
//	                  KindReset all the same: the connection's close is repeated twice, within
//	                  three probe timeouts (RFC 9002), and when we send; later a stateless reset
//	                  answers packets that are large enough for one
//	peer restarted    KindLost: the new process knows nothing of the old one's connections
//	anything else     KindTruncated
//
// Disconnect waits for the peer's word that it has taken all, the end too
// (CapCloseAck, AckedKernel): it is then in the memory of the peer's process,
// as with TCP in its kernel, whether or not its program reads. Unacked counts
// what the peer has not said to have taken, which lags by up to 512 KiB.
//
// Dial returns when the server has taken the stream in, so a full backlog and a
// refused certificate of ours are errors of Dial. With a foreign protocol they
// come with the first Read or Write.
//
// # Limits
//
// All are named in limits.go. The peer may send DefaultStreamWindow bytes on a
// stream before they are read (option rcvbuf, or Options.ReceiveBuffer), and
// once it has ended, as much again is taken into memory, of a connection with
// many streams less of each. Options.SendBuffer,
// Delay, and the keep-alive's interval and count mean nothing here. Keep-alive
// off and both sides silent for the option lost ends the connection.
//
// The library asks the kernel for UDP buffers of 7 MiB and takes what it gets;
// net.core.rmem_max and wmem_max of that size make it faster on fast paths.
// Its warning about them, which would go to standard error, is turned off by
// the environment variable that it has for this.
//
// # Capabilities
//
// halfclose, abort, cutdetect, deadline, bindsource; closeack with our mapping.
package quic
