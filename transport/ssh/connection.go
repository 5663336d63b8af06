// This file holds one SSH connection, whichever side of it we are: what is the
// same for all of its streams.

package ssh

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/anysock/anysock"
	xssh "golang.org/x/crypto/ssh"
)

// A connection is an SSH connection after its handshake.
type connection struct {
	*carrier
	ssh    xssh.Conn
	server bool // which side we are

	wg   sync.WaitGroup // goroutines of the connection and its streams
	over chan struct{}  // closed when the library is done with it
	err  error          // why; after over
}

// newConnection watches over an SSH connection.
func newConnection(c *carrier, conn xssh.Conn, reqs <-chan *xssh.Request, server bool, keepAlive time.Duration) *connection {
	n := &connection{carrier: c, ssh: conn, server: server, over: make(chan struct{})}
	n.wg.Go(n.awaitEnd)
	// Requests for the whole connection, such as tcpip-forward (RFC 4254
	// section 7.1), are refused.
	n.wg.Go(func() { xssh.DiscardRequests(reqs) })
	if keepAlive > 0 {
		n.wg.Go(func() { n.keepAlive(keepAlive) })
	}
	return n
}

// awaitEnd waits until the library is done. It closes the connection below when
// it gives up, and then waits for a goroutine of its own that may be stuck with
// what a broken peer has sent meanwhile: nobody else is to wait for that.
func (n *connection) awaitEnd() {
	defer close(n.over)
	end := make(chan error, 1)
	go func() { end <- n.ssh.Wait() }()
	select {
	case n.err = <-end:
		return
	case <-n.gaveUp:
	}
	t := time.NewTimer(releaseBound)
	defer t.Stop()
	select {
	case n.err = <-end:
	case <-t.C:
		n.err = errStuck
	}
}

var errStuck = errors.New("the other side has broken the protocol")

// keepAlive asks the other side whether it is there when nothing was heard for
// a while, and gives it up when that is not answered. An answer of any kind
// will do: OpenSSH refuses what it does not know.
func (n *connection) keepAlive(every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	answered := make(chan struct{}, 1)
	asked, misses := false, 0
	for {
		select {
		case <-n.over:
			return
		case <-answered:
			asked = false
			continue
		case <-tick.C:
		}
		if n.silence() < every {
			misses = 0
			continue
		}
		if asked {
			misses++
		}
		if misses >= KeepAliveMisses {
			n.fail(&anysock.Error{
				Op: anysock.OpRead, Addr: n.name(), Kind: anysock.KindLost,
				Err: fmt.Errorf("the other side of the SSH connection has not answered for %s", n.silence().Round(time.Millisecond)),
			})
			return
		}
		if !asked {
			asked = true
			n.wg.Go(func() {
				_, _, _ = n.ssh.SendRequest("keepalive@openssh.com", true, nil)
				answered <- struct{}{} // never blocks: one at a time
			})
		}
	}
}

// name is the other side in messages.
func (n *connection) name() string { return "ssh:" + n.below.RemoteAddr().String() }

// judge finds out what the io.EOF of a stream means: nil is that the stream has
// ended, an error that only the connection below has. ended says that our
// direction has.
//
// The library gives io.EOF because it got the stream's end, and then it waits
// for more; or because the connection is over. That of the connection below is
// kept back for a while (carrier.settle), so that a stream's end that came in
// front of it is judged first.
func (n *connection) judge(ended func() bool) error {
	for {
		waiting, changed, lost := n.alive()
		switch {
		case lost != nil:
			return n.cut(lost)
		case waiting:
			return nil
		}
		select {
		case <-changed:
		case <-n.over:
			if _, _, lost := n.alive(); lost != nil {
				return n.cut(lost)
			}
			if n.server && ended() && saidGoodbye(n.err) {
				return nil
			}
			return n.cut(n.err)
		}
	}
}

// saidGoodbye reports a client that hung up in order: SSH_MSG_DISCONNECT with
// SSH_DISCONNECT_BY_APPLICATION (RFC 4253 section 11.1). The library has no
// type for it.
func saidGoodbye(err error) bool {
	return err != nil && strings.HasPrefix(err.Error(), "ssh: disconnect, reason 11:")
}

var errCut = errors.New("the SSH connection was closed, and the stream had not ended")

// cut is the error of a stream that was ended by err of the connection below.
func (n *connection) cut(err error) error {
	e := &anysock.Error{Op: anysock.OpRead, Addr: n.name(), Kind: anysock.KindTruncated, Err: errCut}
	var below *anysock.Error
	switch {
	case isEOF(err):
	case errors.As(err, &below):
		e.Kind, e.Err, e.Hint = below.Kind, below.Err, below.Hint
		if e.Kind == anysock.KindTruncated {
			e.Err = fmt.Errorf("%w: %w", errCut, below)
		}
	default:
		e.Err = fmt.Errorf("%w: %w", errCut, err)
	}
	return e
}
