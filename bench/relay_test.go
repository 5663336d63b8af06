package bench

// This file compares the cost of relaying: relay.Join, and two io.Copy
// between a pair of *net.TCPConn. Both splice.

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/relay"
)

// targetVariable is the address a relay connects to.
const targetVariable = "ANYSOCK_BENCH_TARGET"

const (
	// chunk is how much the ends write and read at once.
	chunk = 128 << 10
	// patternPeriod is prime, so that what is lost, repeated or out of order
	// by any number of pages does not look right.
	patternPeriod = 1048573
)

var gigabytes = flag.Float64("gigabytes", 1, "how much BenchmarkRelay moves for each side in a pair, in 1e9 bytes")

// relayCopy is the bare pair: each direction copied by io.Copy, which splices
// between two *net.TCPConn, and its end passed on.
func relayCopy(announce func(net.Addr)) error {
	ctx := context.Background()
	ln, err := listenConfig().Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	announce(ln.Addr())
	for {
		in, err := ln.Accept()
		if err != nil {
			return err
		}
		out, err := new(net.Dialer).DialContext(ctx, "tcp", os.Getenv(targetVariable))
		if err != nil {
			return err
		}
		go copyPair(in.(*net.TCPConn), out.(*net.TCPConn)) // ends with its connections
	}
}

func copyPair(in, out *net.TCPConn) {
	var back sync.WaitGroup
	back.Go(func() {
		_, _ = io.Copy(in, out)
		_ = in.CloseWrite()
	})
	_, _ = io.Copy(out, in)
	_ = out.CloseWrite()
	back.Wait()
	_ = in.Close()
	_ = out.Close()
}

// relayJoin does the same through the library, with every option at its
// default.
func relayJoin(announce func(net.Addr)) error {
	countCalls()
	ctx := context.Background()
	ln, err := anysock.Listen(ctx, "tcp://127.0.0.1:0")
	if err != nil {
		return err
	}
	announce(ln.Addr())
	for {
		in, err := ln.AcceptContext(ctx)
		if err != nil {
			return err
		}
		out, err := anysock.Dial(ctx, "tcp://"+os.Getenv(targetVariable))
		if err != nil {
			return err
		}
		go relay.Join(ctx, in, out, relay.Options{}) // ends with its connections
	}
}

// pattern is two periods, so that any chunk of the stream is one slice of it.
var pattern = sync.OnceValue(func() []byte {
	p := make([]byte, patternPeriod, 2*patternPeriod)
	random := rand.NewChaCha8([32]byte{1})
	_, _ = random.Read(p)
	return append(p, p...)
})

// expected is n bytes of the stream from offset on; n is at most chunk.
func expected(offset int64, n int) []byte {
	at := int(offset % patternPeriod)
	return pattern()[at : at+n]
}

// send writes n bytes of the stream from offset on.
func send(c *net.TCPConn, offset, n int64) error {
	for end := offset + n; offset < end; {
		m, err := c.Write(expected(offset, int(min(chunk, end-offset))))
		offset += int64(m)
		if err != nil {
			return err
		}
	}
	return nil
}

// receive reads n bytes and verifies every one.
func receive(c *net.TCPConn, offset, n int64) error {
	buf := make([]byte, min(chunk, n))
	for end := offset + n; offset < end; {
		m, err := c.Read(buf[:min(chunk, end-offset)])
		if !bytes.Equal(buf[:m], expected(offset, m)) {
			return fmt.Errorf("wrong bytes within %d of offset %d", m, offset)
		}
		offset += int64(m)
		if err != nil {
			return fmt.Errorf("%d bytes before the end: %w", end-offset, err)
		}
	}
	return nil
}

// receiveEnd reads the peer's end, and nothing before it.
func receiveEnd(c *net.TCPConn) error {
	var one [1]byte
	n, err := c.Read(one[:])
	if errors.Is(err, io.EOF) {
		return nil
	}
	return fmt.Errorf("want the end, got %d bytes and error %w", n, err)
}

// A relayed is one relay at work, and a connection through it whose two ends
// are ours.
type relayed struct {
	w      *worker
	target *net.TCPListener

	client, server *net.TCPConn
	passed         int64 // from client to server by pass
}

func startRelay(tb testing.TB, role string, env ...string) *relayed {
	tb.Helper()
	ln, err := listenConfig().Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	w := startWorker(tb, role, append(env, targetVariable+"="+ln.Addr().String())...)
	r := &relayed{w: w, target: ln.(*net.TCPListener)}
	tb.Cleanup(r.stop)
	return r
}

// stop ends it all; a second call does nothing.
func (r *relayed) stop() {
	r.disconnect()
	r.w.stop()
	_ = r.target.Close()
}

// disconnect ends the connection, if there is one.
func (r *relayed) disconnect() {
	if r.client != nil {
		_ = r.client.Close()
	}
	if r.server != nil {
		_ = r.server.Close()
	}
	r.client, r.server, r.passed = nil, nil, 0
}

// connectTimeout bounds the wait for a relay to connect to the target.
const connectTimeout = 10 * time.Second

// connect makes the connection; disconnect ends it.
func (r *relayed) connect() error {
	nc, err := new(net.Dialer).DialContext(context.Background(), "tcp", r.w.addr)
	if err != nil {
		return err
	}
	r.client = nc.(*net.TCPConn)
	if err := r.target.SetDeadline(time.Now().Add(connectTimeout)); err != nil {
		return err
	}
	r.server, err = r.target.AcceptTCP()
	return err
}

// pass sends n bytes to the server and returns when it has received them.
func (r *relayed) pass(n int64) error {
	var sendErr error
	var wg sync.WaitGroup
	wg.Go(func() { sendErr = send(r.client, r.passed, n) })
	err := receive(r.server, r.passed, n)
	if err != nil {
		_ = r.client.Close() // nobody takes the rest
	}
	wg.Wait()
	r.passed += n
	return errors.Join(sendErr, err)
}

// relayWarmup is moved on a new connection before anything is measured: it has
// found its window by then, and the processes the processors they run on.
const relayWarmup = 32 << 20

// relaySide is the relay of that role.
func relaySide(name, role string) side {
	return side{name, func(tb testing.TB) slot { return startRelay(tb, role) }}
}

// slice measures one connection: how the kernel places three busy processes is
// a matter of chance that can last as long as a connection.
func (r *relayed) slice(tb testing.TB) sample {
	tb.Helper()
	if err := r.connect(); err != nil {
		tb.Fatal(err)
	}
	defer r.disconnect()
	if err := r.pass(relayWarmup); err != nil {
		tb.Fatal(err)
	}
	size := int64(*gigabytes * 1e9 / slicesPerSlot)
	before := r.w.usage(tb)
	if err := r.pass(size); err != nil {
		tb.Fatal(err)
	}
	return r.w.usage(tb).since(before, float64(size)/1e9)
}

// BenchmarkRelay is the processor time of the relay per gigabyte that passes
// it in one direction of one connection over loopback.
func BenchmarkRelay(b *testing.B) {
	bare := relaySide("io.Copy", "relay-io.Copy")
	for b.Loop() {
		join := &comparison{base: bare, subject: relaySide("relay.Join", "relay-join")}
		noise := &comparison{base: bare, subject: bare}
		comparePairs(b, join, noise)
		report{
			title:  "Relay: bulk, one connection, loopback TCP to loopback TCP",
			unit:   "s per GB",
			scale:  1,
			target: 1.03,
			methods: fmt.Sprintf("CPU is the relay process's, a new one for each slot of %g GB, measured in %d slices in turn;"+
				" all bytes verified; both splice (TestRelaysSplice).", *gigabytes, slicesPerSlot),
		}.publish(b, join, noise)
	}
}

func TestRelaysPassBothWays(t *testing.T) {
	for _, role := range []string{"relay-io.Copy", "relay-join"} {
		t.Run(role, func(t *testing.T) {
			r := startRelay(t, role)
			// One direction ends long before the other, each way round.
			for _, size := range [][2]int64{{1, 5<<20 + 1}, {5<<20 + 1, 1}, {0, 0}, {3 << 20, 3 << 20}} {
				if err := r.exchange(size[0], size[1]); err != nil {
					t.Errorf("%d bytes there and %d back: %v", size[0], size[1], err)
				}
			}
		})
	}
}

// exchange passes there bytes to the server and back bytes to the client, both
// at once on a new connection, each direction ended by half-close.
func (r *relayed) exchange(there, back int64) error {
	if err := r.connect(); err != nil {
		return err
	}
	defer r.disconnect()
	var errs [4]error
	var wg sync.WaitGroup
	wg.Go(func() { errs[0] = errors.Join(send(r.client, 0, there), r.client.CloseWrite()) })
	wg.Go(func() { errs[1] = errors.Join(receive(r.server, 0, there), receiveEnd(r.server)) })
	wg.Go(func() { errs[2] = errors.Join(send(r.server, 0, back), r.server.CloseWrite()) })
	wg.Go(func() { errs[3] = errors.Join(receive(r.client, 0, back), receiveEnd(r.client)) })
	wg.Wait()
	return errors.Join(errs[:]...)
}
