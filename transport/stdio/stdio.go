// This file holds the transport stdio: standard input and standard output as
// one stream, which a process has once.

package stdio

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/internal/sys"
)

func init() {
	std := &standard{files: func() (in, out, errs *os.File) { return os.Stdin, os.Stdout, os.Stderr }}
	anysock.Register(anysock.Transport{
		Scheme: "stdio",
		Caps:   func(anysock.Caps, anysock.Target) anysock.Caps { return pipeCaps },
		Dial: func(ctx context.Context, _ *anysock.Dialer, _ anysock.Target) (net.Conn, error) {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			return std.take(anysock.OpConnect)
		},
		Listen: func(context.Context, *anysock.ListenConfig, anysock.Target) (anysock.DeadlineListener, error) {
			return std.listen()
		},
	})
}

// standard is the process's standard input and output until somebody takes
// them.
type standard struct {
	files func() (in, out, errs *os.File)

	mu    sync.Mutex
	taken bool
}

// processAddr is the local end of every stream here.
func processAddr(network string) addr { return addr{network, "pid " + strconv.Itoa(os.Getpid())} }

// take makes the stream. Input and output that are one socket, as inetd and
// systemd give it to a service, become that socket with all that it can do;
// standard error is then taken off it, because messages would get between the
// bytes.
func (s *standard) take(op string) (net.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.taken {
		return nil, &anysock.Error{
			Op: op, Addr: "stdio:", Kind: anysock.KindInUse, Err: errTaken,
			Hint: "a process has one standard input and one standard output: use fd: or exec: for further streams",
		}
	}
	in, out, errs := s.files()
	if !inherited.claim(in, out) {
		return nil, &anysock.Error{Op: op, Addr: "stdio:", Kind: anysock.KindInUse, Err: errTaken, Hint: "it was taken by number: fd:0 or fd:1"}
	}
	remote := addr{"stdio", "stdin/stdout"}
	if !sameSocket(in, out) {
		s.taken = true
		return newDuplex(newInput(in), newOutput(out), processAddr("stdio"), remote), nil
	}
	if errs != nil && sameSocket(in, errs) {
		if err := mute(errs); err != nil {
			return nil, err
		}
	}
	fd, ok := adoptSocket(in)
	if !ok {
		return nil, &anysock.Error{Op: op, Addr: "stdio:", Kind: anysock.KindUnsupported, Err: errNotStream}
	}
	s.taken = true
	out.Close()
	return sys.NewNetConn(fd), nil
}

var (
	errTaken     = fmt.Errorf("standard input and output are taken already")
	errNotStream = fmt.Errorf("standard input is a socket, but not a connected stream socket")
)

// mute makes f the null device.
func mute(f *os.File) error {
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	return muteTo(f, null)
}

// listen takes the streams at once, so that the error comes early.
func (s *standard) listen() (anysock.DeadlineListener, error) {
	c, err := s.take(anysock.OpListen)
	if err != nil {
		return nil, err
	}
	return &onceListener{conn: c}, nil
}

// A onceListener has one connection to give. MaxConns keeps those who accept
// a second one waiting until the first is closed; then there is no more.
type onceListener struct {
	mu   sync.Mutex
	conn net.Conn // nil once it was given or closed
}

// MaxConns is 1.
func (l *onceListener) MaxConns() int { return 1 }

// Accept gives the connection, and then net.ErrClosed.
func (l *onceListener) Accept() (net.Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn == nil {
		return nil, net.ErrClosed
	}
	c := l.conn
	l.conn = nil
	return c, nil
}

// Addr names the descriptors.
func (l *onceListener) Addr() net.Addr { return addr{"stdio", "stdin/stdout"} }

// SetDeadline has nothing to bound: Accept never waits.
func (l *onceListener) SetDeadline(time.Time) error { return nil }

// Close closes what nobody has accepted.
func (l *onceListener) Close() error {
	if c, err := l.Accept(); err == nil {
		return c.Close()
	}
	return nil
}
