// Package socktest is the conformance suite of anysock's transports: one set
// of cases for the lifecycle guarantees, the same for every transport, so
// that a new one is proven in ten lines.
//
//	func TestConformance(t *testing.T) {
//		socktest.TestTransport(t, socktest.Transport{
//			Name: "tcp",
//			Caps: anysock.CapHalfClose | anysock.CapAbort | anysock.CapDeadline,
//			Listen: func(ctx context.Context, lc *anysock.ListenConfig) (*anysock.Listener, error) {
//				return lc.Listen(ctx, "tcp://127.0.0.1:0")
//			},
//			Dial: func(ctx context.Context, d *anysock.Dialer, ln *anysock.Listener) (*anysock.Conn, error) {
//				return d.Dial(ctx, "tcp://"+ln.Addr().String())
//			},
//		})
//	}
//
// It is for those who write transports. Programs that use connections do not
// need it, and since it imports package testing it belongs in tests only.
//
// Each case is a subtest whose name begins with the numbers of the guarantees
// it is about, as in contract01_06/reset_seen_by_read. Contract 11 is about
// relays and tested with package relay. The suite is tested itself: for each
// case there is a transport with one defect that only this case finds.
package socktest

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/anysock/anysock"
	"golang.org/x/net/nettest"
)

// A Transport is what the suite tests: how to make connections, and what is
// promised of them. Listen and Dial, or Pair, must be set. A hook that is nil
// skips the cases that need it, with that reason.
type Transport struct {
	// Name is the subtest's name.
	Name string
	// Caps is what every connection must declare. A declared capability has
	// to work; of an undeclared one the suite asks that the call refuses with
	// an error that matches errors.ErrUnsupported, and leaves out the cases
	// that need it.
	Caps anysock.Caps
	// AckedBy is who acknowledges, where CapCloseAck is declared. The zero
	// value is AckedKernel: bytes count as acknowledged while nobody reads
	// them. With AckedPeer the cases have the peer's program read before they
	// ask for an acknowledgement, and look that none comes earlier.
	AckedBy anysock.Ack

	// AckedByHop says that who acknowledges is a hop between the two ends that
	// gives up what it holds when a connection is not ended in order: then not
	// all that was acknowledged need arrive.
	AckedByHop bool

	// Listen listens at an address of its own at each call, several at once,
	// using lc as it is given. ctx bounds the setting up.
	Listen func(ctx context.Context, lc *anysock.ListenConfig) (*anysock.Listener, error)
	// Dial connects to what Listen returned, using d as it is given. It is
	// also called when ln is closed already.
	Dial func(ctx context.Context, d *anysock.Dialer, ln *anysock.Listener) (*anysock.Conn, error)

	// Pair makes two connected ends, where nothing listens; it is used only
	// if Listen is nil. The cases about listeners, groups and traces are then
	// skipped.
	Pair func(ctx context.Context, opts anysock.Options) (a, b *anysock.Conn, err error)

	// CutPair makes two connected ends whose carrier breaks when cut is
	// called: neither end says goodbye, and both have to notice within the
	// bound of a case. It is for connections that run over something that can
	// be cut without them.
	CutPair func(ctx context.Context, opts anysock.Options) (a, b *anysock.Conn, cut func() error, err error)

	// MaxBuffered bounds the bytes that a writer gets rid of while nobody
	// reads, with the transport's default buffers. 0 is DefaultMaxBuffered.
	MaxBuffered int64
}

// DefaultMaxBuffered is the bound of Transport.MaxBuffered: the kernel's
// largest automatic buffers on both sides, 4 MiB to send and 32 MiB to
// receive (tcp(7), tcp_wmem and tcp_rmem), and room for hops between them.
const DefaultMaxBuffered = 64 << 20

// TestTransport runs the suite: the lifecycle cases, and package nettest's
// TestConn. The cases run in parallel, each within a bound; the subtest is
// over when all of them are. Every connection, listener and goroutine that a
// case made is gone when it ends, else the case fails.
func TestTransport(t *testing.T, tr Transport) {
	t.Run(tr.Name, func(t *testing.T) {
		s := newSuite(tr)
		if err := s.validate(); err != nil {
			t.Fatal(err)
		}
		var left []string
		for _, c := range cases {
			if !s.applies(c) {
				left = append(left, c.name)
				continue
			}
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				s.run(t, c)
			})
		}
		if len(left) > 0 {
			t.Logf("declared is %s, so these do not apply: %s", tr.Caps, strings.Join(left, ", "))
		}
		if tr.Caps.Has(anysock.CapDeadline) {
			t.Run("contract12/nettest", func(t *testing.T) {
				t.Parallel()
				s.nettest(t)
			})
		}
	})
}

// nettest runs package nettest's TestConn; most of it is about deadlines. Its
// pairs end with an abort, because some of its tests leave a Close unfinished.
func (s *suite) nettest(t *testing.T) {
	nettest.TestConn(t, func() (net.Conn, net.Conn, func(), error) {
		ctx, cancel := context.WithTimeout(context.Background(), s.bound)
		defer cancel()
		k := &kit{tester: t, suite: s, ctx: ctx}
		a, b, err := k.connect(anysock.Options{})
		if err != nil {
			k.release()
			return nil, nil, nil, err
		}
		return a, b, k.release, nil
	})
}

// testSizes are how much a run does.
type testSizes struct {
	bound  time.Duration // for one case, on a busy machine; most take milliseconds
	bulk   int           // bytes that are a lot
	rounds int           // of what may go wrong only sometimes
	pause  time.Duration // what a peer may take to answer after a half-close
}

var fullSizes = testSizes{bound: 30 * time.Second, bulk: 1 << 20, rounds: 40, pause: time.Second}

const (
	releaseBound = 10 * time.Second      // for what a case made to go away
	quietTime    = 40 * time.Millisecond // what does not move for so long is stopped
)

// newSuite fills in the defaults.
func newSuite(tr Transport) *suite {
	if tr.MaxBuffered == 0 {
		tr.MaxBuffered = DefaultMaxBuffered
	}
	if tr.AckedBy == anysock.AckedNone && tr.Caps.Has(anysock.CapCloseAck) {
		tr.AckedBy = anysock.AckedKernel
	}
	return &suite{
		Transport: tr, testSizes: fullSizes,
		wrap:         func(c *anysock.Conn) conn { return c },
		wrapListener: func(l *anysock.Listener) listener { return l },
		newSelector:  func() (selector, error) { return anysock.NewSelector() },
	}
}
