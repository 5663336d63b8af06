// This file holds the cases about half-close: contract 3.

package socktest

import (
	"errors"
	"io"
	"net"
)

// halfCloseBothWays: after our end the peer's direction still works, and the
// other way round.
func halfCloseBothWays(k *kit) {
	k.both(func(x, y conn) {
		k.check("CloseWrite", x.CloseWrite())
		k.wantEnd("reading", readToEnd(y, 0), 0)
		sent := start(k, "Write", func() moved {
			m := write(y, 0, 64<<10)
			return moved{m.n, errors.Join(m.err, y.CloseWrite())}
		})
		k.wantEnd("reading after CloseWrite", readToEnd(x, 0), 64<<10)
		k.check("writing after the peer's end", sent.wait().err)
		k.check("a second CloseWrite", x.CloseWrite())
		_, err := x.Disconnect(k.ctx)
		k.check("Disconnect after both ends", err)
	})
}

// replyLongAfterHalfClose: the reply may take its time. A well-known SOCKS
// server ends at the first end of file it sees, and the reply is lost.
func replyLongAfterHalfClose(k *kit) {
	client, server := k.pair()
	served := start(k, "the server", func() error {
		if m := readToEnd(server, 0); m.err != nil {
			return m.err
		}
		k.idle(k.pause)
		return errors.Join(write(server, 0, 100_000).err, server.CloseWrite())
	})
	k.check("the request", errors.Join(write(client, 0, 100).err, client.CloseWrite()))
	k.wantEnd("the reply", readToEnd(client, 0), 100_000)
	k.check("the server", served.wait())
}

// copyKeepsHalfClose: io.Copy between connections moves everything, ends at
// the peer's end, and CloseWrite passes that on: through the types that
// programs use. Embedding a net.Conn hides CloseWrite and defeats splice(2).
func copyKeepsHalfClose(k *kit) {
	client, inbound := k.pair()
	outbound, server := k.pair()
	for _, c := range []net.Conn{inbound, outbound} {
		if _, ok := c.(interface{ CloseWrite() error }); !ok {
			k.Fatalf("%T hides CloseWrite", c)
		}
	}
	relay := func(dst, src net.Conn) *task[moved] {
		return start(k, "io.Copy", func() moved {
			n, err := io.Copy(dst, src)
			return moved{n, errors.Join(err, dst.(interface{ CloseWrite() error }).CloseWrite())}
		})
	}
	there, back, echo := relay(outbound, inbound), relay(inbound, outbound), relay(server, server)
	sent := start(k, "Write", func() moved {
		m := write(client, 0, k.bulk)
		return moved{m.n, errors.Join(m.err, client.CloseWrite())}
	})
	k.wantEnd("what came back", readToEnd(client, 0), int64(k.bulk))
	k.check("sending", sent.wait().err)
	for what, t := range map[string]*task[moved]{"to the server": there, "back": back, "in the server": echo} {
		if m := t.wait(); m.err != nil || m.n != int64(k.bulk) {
			k.Errorf("io.Copy %s: %d bytes, %v; want %d", what, m.n, m.err, k.bulk)
		}
	}
}

// halfClosePastADeadline: a CloseWrite that a passed deadline keeps from
// getting through can be made good: nothing is lost, and the end comes last.
func halfClosePastADeadline(k *kit) {
	k.both(func(x, y conn) {
		writing := k.flood(x)
		k.quiet(x.Sent)
		k.check("SetWriteDeadline", x.SetWriteDeadline(longPast))
		m := writing.wait()
		if err := x.CloseWrite(); err != nil {
			k.wantExpired("CloseWrite past the deadline", err)
		}
		k.check("SetWriteDeadline", x.SetWriteDeadline(noDeadline))
		ending := start(k, "CloseWrite", x.CloseWrite)
		k.wantEnd("reading", readToEnd(y, 0), m.n)
		k.check("CloseWrite without a deadline", ending.wait())
		k.check("writing after the peer's end", write(y, 0, 100).err)
		k.check("reading after CloseWrite", readExactly(x, 0, 100))
	}, smallBuffers)
}
