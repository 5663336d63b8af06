package anysock_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anysock/anysock"
)

// This file registers transports that exist for these tests only, under scheme
// words that the root does not serve itself: a layer that hides the bytes, a
// layer without half-close, and a hop with a protocol of one line.

func init() {
	// tls: xors every byte with a key that the client names.
	anysock.Register(anysock.Transport{
		Scheme: "tls",
		Options: []anysock.OptionSpec{
			{Name: "key", Type: anysock.OptionInt, Dial: true, Help: "what every byte is xored with"},
			{Name: "min", Type: anysock.OptionInt, Dial: true, Listen: true, Help: "least key that is taken"},
		},
		Caps:   func(below anysock.Caps, _ anysock.Target) anysock.Caps { return below &^ anysock.CapCloseAck },
		Client: xorClient, Server: xorServer,
	})
	// ws: has no half-close; greets with its path.
	anysock.Register(anysock.Transport{
		Scheme:  "ws",
		Options: []anysock.OptionSpec{{Name: "min", Type: anysock.OptionInt, Dial: true, Listen: true}},
		Caps: func(below anysock.Caps, _ anysock.Target) anysock.Caps {
			return below &^ (anysock.CapHalfClose | anysock.CapCloseAck | anysock.CapAbort)
		},
		Client: greetClient, Server: greetServer,
	})
	// socks5: "host port\n" is answered by "ok\n" or a reason.
	anysock.Register(anysock.Transport{
		Scheme:        "socks5",
		ListenThrough: lineListenThrough,
		BehindOptions: []anysock.OptionSpec{{Name: "peer", Type: anysock.OptionString, Listen: true}},
		Caps:          func(below anysock.Caps, _ anysock.Target) anysock.Caps { return below &^ anysock.CapCloseAck },
		Through:       lineThrough,
	})
	// lc: adds what others lack, in name only.
	anysock.Register(anysock.Transport{
		Scheme: "lc",
		Caps: func(below anysock.Caps, _ anysock.Target) anysock.Caps {
			return below | anysock.CapHalfClose | anysock.CapAbort
		},
		Client: greetClient, Server: greetServer,
	})
	// ssh: only a server, whose connections carry several streams.
	anysock.Register(anysock.Transport{
		Scheme:  "ssh",
		Options: []anysock.OptionSpec{{Name: "hostkey", Type: anysock.OptionString, Listen: true, Repeat: true}},
		Prepare: prepareMany, ServeMany: serveMany,
	})
}

// What the fake layers were given, for tests to look at.
var (
	xorHandshakes atomic.Int64 // servers' handshakes that have begun
	xorContexts   struct {
		sync.Mutex
		left []time.Duration // until the deadline of each handshake
	}
)

func noteDeadline(ctx context.Context) {
	left := time.Duration(-1)
	if d, ok := ctx.Deadline(); ok {
		left = time.Until(d)
	}
	xorContexts.Lock()
	defer xorContexts.Unlock()
	xorContexts.left = append(xorContexts.left, left)
}

var errXor = errors.New("the other side does not speak the fake tls")

func xorClient(ctx context.Context, below *anysock.Conn, t anysock.Target) (net.Conn, error) {
	noteDeadline(ctx)
	key := byte(t.Int("key", 0x5a))
	if _, err := below.WriteContext(ctx, []byte{'X', key}); err != nil {
		return nil, err
	}
	var reply [1]byte
	if _, err := below.ReadAtLeast(ctx, reply[:], 1); err != nil {
		return nil, err
	}
	if reply[0] != 'Y' {
		return nil, errXor
	}
	return newXorConn(below, key), nil
}

func xorServer(ctx context.Context, below *anysock.Conn, t anysock.Target) (net.Conn, error) {
	noteDeadline(ctx)
	xorHandshakes.Add(1)
	var hello [2]byte
	if _, err := below.ReadAtLeast(ctx, hello[:], 2); err != nil {
		return nil, err
	}
	if hello[0] != 'X' || int(hello[1]) < t.Int("min", 0) {
		return nil, errXor
	}
	if _, err := below.WriteContext(ctx, []byte{'Y'}); err != nil {
		return nil, err
	}
	return newXorConn(below, hello[1]), nil
}

// An xorConn is the fake tls: CloseWrite and Abort are those of the
// connection below, which it cannot ask for acknowledgements.
type xorConn struct {
	net.Conn
	below *anysock.Conn
	key   byte
}

func newXorConn(below *anysock.Conn, key byte) *xorConn {
	return &xorConn{Conn: below, below: below, key: key}
}

func (c *xorConn) CloseWrite() error    { return c.below.CloseWrite() }
func (c *xorConn) Abort() error         { return c.below.Abort() }
func (c *xorConn) Below() *anysock.Conn { return c.below }

func (c *xorConn) Read(p []byte) (int, error) {
	n, err := c.below.Read(p)
	c.xor(p[:n], p[:n])
	return n, err
}

func (c *xorConn) Write(p []byte) (int, error) {
	q := make([]byte, len(p))
	c.xor(q, p)
	return c.below.Write(q)
}

func (c *xorConn) xor(dst, src []byte) {
	for i, b := range src {
		dst[i] = b ^ c.key
	}
}

func greetClient(ctx context.Context, below *anysock.Conn, t anysock.Target) (net.Conn, error) {
	line := t.Hop.Path + "\n"
	if _, err := below.WriteContext(ctx, []byte(line)); err != nil {
		return nil, err
	}
	echo := make([]byte, len(line))
	if _, err := below.ReadAtLeast(ctx, echo, len(line)); err != nil {
		return nil, err
	}
	if string(echo) != line {
		return nil, fmt.Errorf("greeted with %q", echo)
	}
	return plainConn{below}, nil
}

func greetServer(ctx context.Context, below *anysock.Conn, _ anysock.Target) (net.Conn, error) {
	line, err := readLine(ctx, below)
	if err != nil {
		return nil, err
	}
	if _, err := below.WriteContext(ctx, []byte(line+"\n")); err != nil {
		return nil, err
	}
	return plainConn{below}, nil
}

// A plainConn has the methods of net.Conn and no other.
type plainConn struct{ net.Conn }

// readLine takes a line and not a byte more.
func readLine(ctx context.Context, c *anysock.Conn) (string, error) {
	var line []byte
	for b := make([]byte, 1); len(line) < 300; {
		if _, err := c.ReadAtLeast(ctx, b, 1); err != nil {
			return "", err
		}
		if b[0] == '\n' {
			return string(line), nil
		}
		line = append(line, b[0])
	}
	return "", errors.New("the line is too long")
}

func lineThrough(ctx context.Context, below *anysock.Conn, t anysock.Target, next anysock.Hop) (net.Conn, error) {
	noteDeadline(ctx)
	if _, err := below.WriteContext(ctx, fmt.Appendf(nil, "%s%s %s\n", t.Hop.User, next.Host, next.Port)); err != nil {
		return nil, err
	}
	reply, err := readLine(ctx, below)
	if err != nil {
		return nil, err
	}
	if reply != "ok" {
		return nil, &anysock.Error{Op: anysock.OpHandshake, Addr: below.RemoteAddr().String(), Kind: anysock.KindHop, Err: errors.New(reply)}
	}
	return below, nil
}

// A lineHop is the server of the fake socks5. It ends each direction when the
// other leg's has ended.
type lineHop struct {
	ln *anysock.Listener

	mu    sync.Mutex
	asked []string
}

func newLineHop(t testing.TB) *lineHop {
	t.Helper()
	h := &lineHop{ln: mustListen(t, &anysock.ListenConfig{}, "tcp://127.0.0.1:0")}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Add(1)
	go func() {
		defer wg.Done()
		for c, err := range h.ln.Conns(ctx) {
			if err != nil {
				t.Errorf("hop: %v", err)
				return
			}
			wg.Add(1)
			go func() {
				defer wg.Done()
				h.serve(ctx, c)
			}()
		}
	}()
	t.Cleanup(func() {
		cancel()
		wg.Wait()
	})
	return h
}

func (h *lineHop) addr() string { return "socks5://" + h.ln.Addr().String() }

func (h *lineHop) requests() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]string(nil), h.asked...)
}

func (h *lineHop) serve(ctx context.Context, in *anysock.Conn) {
	defer func() { _ = in.Abort() }()
	line, err := readLine(ctx, in)
	if err != nil {
		return
	}
	h.mu.Lock()
	h.asked = append(h.asked, line)
	h.mu.Unlock()
	out, err := anysock.Dial(ctx, "tcp://"+strings.Replace(line, " ", ":", 1))
	if err != nil {
		_, _ = in.WriteContext(ctx, []byte("refused by the target\n"))
		_, _ = in.Disconnect(ctx)
		return
	}
	defer func() { _ = out.Abort() }()
	stop := context.AfterFunc(ctx, func() {
		_ = in.Abort()
		_ = out.Abort()
	})
	defer stop()
	if _, err := in.WriteContext(ctx, []byte("ok\n")); err != nil {
		return
	}
	var wg sync.WaitGroup
	for _, leg := range [][2]*anysock.Conn{{in, out}, {out, in}} {
		wg.Add(1)
		go func() {
			defer wg.Done()
			if _, err := leg[1].ReadFrom(leg[0]); err != nil {
				_ = leg[0].Abort()
				_ = leg[1].Abort()
				return
			}
			_ = leg[1].CloseWrite()
		}()
	}
	wg.Wait()
	_, _ = out.Disconnect(ctx)
	_, _ = in.Disconnect(ctx)
}

// echoUntilEnd serves connections of a listener: it sends back what comes,
// ends when the peer does, and reports how.
func echoUntilEnd(t testing.TB, ln *anysock.Listener) <-chan anysock.End {
	ends := make(chan anysock.End, 100)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Add(1)
	go func() {
		defer wg.Done()
		for c, err := range ln.Conns(ctx) {
			if err != nil {
				t.Errorf("accept: %v", err)
				return
			}
			wg.Add(1)
			go func() {
				defer wg.Done()
				stop := context.AfterFunc(ctx, func() { _ = c.Abort() })
				defer stop()
				_, err := io.Copy(struct{ io.Writer }{c}, bufio.NewReader(c))
				if err != nil {
					_ = c.Abort()
				} else {
					_, _ = c.Disconnect(ctx)
				}
				ends <- c.End()
			}()
		}
	}()
	t.Cleanup(func() {
		cancel()
		wg.Wait()
	})
	return ends
}
