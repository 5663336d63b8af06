package anysock_test

import (
	"context"
	"errors"
	"net"
	"os"
	"sync"
	"time"

	"github.com/anysock/anysock"
)

// prepareMany looks at the fake ssh's options.
func prepareMany(t anysock.Target, listening bool) (any, error) {
	if listening && !t.Has("hostkey") {
		return nil, errors.New("the fake ssh needs a host key")
	}
	return len(t.Strings("hostkey")), nil
}

// serveMany is the fake ssh: a client's first byte says how many streams its
// connection carries. They are pipes within this process.
func serveMany(ctx context.Context, below *anysock.Conn, t anysock.Target) (net.Listener, error) {
	if t.Prepared != 2 {
		return nil, errors.New("the options were not looked at")
	}
	var count [1]byte
	if _, err := below.ReadAtLeast(ctx, count[:], 1); err != nil {
		return nil, err
	}
	m := &manyStreams{below: below, streams: make(chan net.Conn, count[0]), done: make(chan struct{})}
	for i := range count[0] {
		here, there := net.Pipe()
		m.streams <- here
		m.far = append(m.far, there)
		go func() { _, _ = there.Write([]byte{'0' + i}) }()
	}
	return m, nil
}

// manyStreams accepts the streams of one connection.
type manyStreams struct {
	below   *anysock.Conn
	streams chan net.Conn
	far     []net.Conn
	done    chan struct{}
	once    sync.Once
}

func (m *manyStreams) Accept() (net.Conn, error) {
	select {
	case c := <-m.streams:
		return c, nil
	case <-m.done:
		return nil, net.ErrClosed
	}
}

func (m *manyStreams) Close() error {
	m.once.Do(func() {
		close(m.done)
		_ = m.below.Abort()
		for _, c := range m.far {
			c.Close()
		}
	})
	return nil
}

func (m *manyStreams) Addr() net.Addr { return m.below.LocalAddr() }

// lineListenThrough asks the fake socks5 for a listener: "bind PEER\n" is
// answered by the address, and by another line when somebody has called.
func lineListenThrough(ctx context.Context, dial func(context.Context) (*anysock.Conn, error), _, next anysock.Target) (anysock.DeadlineListener, error) {
	c, err := dial(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := c.WriteContext(ctx, []byte("bind "+next.String("peer", "anybody")+"\n")); err != nil {
		return nil, err
	}
	line, err := readLine(ctx, c)
	if err != nil {
		_ = c.Abort()
		return nil, err
	}
	addr, err := net.ResolveTCPAddr("tcp", line)
	if err != nil {
		_ = c.Abort()
		return nil, err
	}
	return &lineListener{c: c, addr: addr}, nil
}

type lineListener struct {
	c    *anysock.Conn
	addr net.Addr
	used bool
}

func (l *lineListener) Accept() (net.Conn, error) {
	if l.used {
		return nil, net.ErrClosed
	}
	if _, err := readLine(context.Background(), l.c); err != nil {
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return nil, os.ErrDeadlineExceeded
		}
		return nil, err
	}
	l.used = true
	return l.c, nil
}

func (l *lineListener) SetDeadline(t time.Time) error { return l.c.SetReadDeadline(t) }
func (l *lineListener) Addr() net.Addr                { return l.addr }

func (l *lineListener) Close() error {
	if l.used {
		return nil
	}
	return l.c.Abort()
}
