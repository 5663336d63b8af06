// This file holds the transport fd: descriptors that the process has
// inherited, connected or listening.

package stdio

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"sync"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/internal/sys"
)

func init() {
	anysock.Register(anysock.Transport{
		Scheme: "fd",
		Options: []anysock.OptionSpec{
			{Name: "out", Type: anysock.OptionInt, Dial: true, Help: "another descriptor to write to"},
			{Name: "maxconns", Type: anysock.OptionInt, Listen: true, Help: "open connections at once (default no limit)"},
		},
		Caps: func(anysock.Caps, anysock.Target) anysock.Caps { return pipeCaps }, // a socket says more when it is there
		Dial: func(ctx context.Context, _ *anysock.Dialer, t anysock.Target) (net.Conn, error) {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			n, err := strconv.Atoi(t.Hop.Opaque)
			if err != nil {
				return nil, err
			}
			return inherited.dial(n, t.Int("out", n))
		},
		Listen: func(_ context.Context, _ *anysock.ListenConfig, t anysock.Target) (anysock.DeadlineListener, error) {
			n, err := strconv.Atoi(t.Hop.Opaque)
			if err != nil {
				return nil, err
			}
			return inherited.listen(n)
		},
	})
}

// A kind says what a descriptor is.
type kind int

const (
	notOpen kind = iota
	notInherited
	connectedSocket
	listeningSocket
	unconnectedSocket
	otherSocket // datagram and the like
	pipe
	terminal // or another character device
	regularFile
	directory
	somethingElse
)

var kindNames = [...]string{
	"not open", "this process's own, not inherited", "a connected socket", "a listening socket",
	"a socket that is not connected", "a socket, but no stream socket", "a pipe", "a terminal or another device",
	"a regular file", "a directory", "no stream",
}

func (k kind) String() string { return kindNames[k] }

// A descriptor is what was found out about one.
type descriptor struct {
	kind        kind
	read, write bool // what it was opened for
}

// descriptors are those of the process. One is taken once: afterwards its
// number can mean something of our own.
type descriptors struct {
	mu     sync.Mutex
	taken  map[int]bool
	marked map[int]bool // inherited, and close-on-exec by our doing
}

var inherited descriptors

// dial makes a stream of descriptor n, and of out where that is another one.
func (d *descriptors) dial(n, out int) (net.Conn, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	const op = anysock.OpConnect
	in, err := d.look(op, n)
	if err != nil {
		return nil, err
	}
	switch in.kind {
	case connectedSocket:
		if out == n {
			return d.adopt(n)
		}
	case listeningSocket:
		return nil, fdError(op, n, in.kind, "listen on fd:"+strconv.Itoa(n)+" instead")
	case pipe, terminal, regularFile:
	default:
		return nil, fdError(op, n, in.kind, "")
	}
	to := in
	if out != n {
		if to, err = d.look(op, out); err != nil {
			return nil, err
		}
		switch to.kind {
		case connectedSocket, pipe, terminal, regularFile:
		default:
			return nil, fdError(op, out, to.kind, "")
		}
	} else if in.kind == regularFile {
		return nil, fdError(op, n, in.kind, "give the descriptor to write to: fd:"+strconv.Itoa(n)+"?out=NUMBER")
	}
	if !in.read {
		return nil, fdProblem(op, n, "is open for writing only", "give the descriptor to read from first: fd:NUMBER?out="+strconv.Itoa(n))
	}
	if !to.write {
		return nil, fdProblem(op, out, "is open for reading only", "give the descriptor to write to: fd:"+strconv.Itoa(n)+"?out=NUMBER")
	}
	return d.pair(n, out)
}

// look finds out what n is; mu is held.
func (d *descriptors) look(op string, n int) (descriptor, error) {
	if d.taken[n] {
		return descriptor{}, fdProblem(op, n, "was taken already", "a descriptor makes one stream")
	}
	desc, err := describe(n)
	if err != nil {
		return desc, fdWrap(op, n, err)
	}
	if desc.kind == notInherited && d.marked[n] {
		desc.kind, err = kindOfOpen(n)
		if err != nil {
			return desc, fdWrap(op, n, err)
		}
	}
	switch desc.kind {
	case notOpen:
		return desc, fdError(op, n, desc.kind, "the process that starts this one must leave it open")
	case notInherited:
		return desc, fdError(op, n, desc.kind, "use a descriptor that the process was started with")
	}
	return desc, nil
}

// adopt takes over a connected socket; mu is held.
func (d *descriptors) adopt(n int) (net.Conn, error) {
	fd, err := sys.Adopt(n)
	if err != nil {
		return nil, fdWrap(anysock.OpConnect, n, err)
	}
	d.take(n)
	return sys.NewNetConn(fd), nil
}

// pair takes over an input and an output; mu is held.
func (d *descriptors) pair(n, out int) (net.Conn, error) {
	name, outName := strconv.Itoa(n), strconv.Itoa(out)
	to := out
	if out == n {
		// Each direction is closed by itself.
		var err error
		if to, err = duplicate(n); err != nil {
			return nil, fdWrap(anysock.OpConnect, n, err)
		}
	} else {
		name += "," + outName
	}
	markCloseOnExec(n)
	markCloseOnExec(out)
	d.take(n)
	d.take(out)
	in := newInput(os.NewFile(uintptr(n), "fd "+name))
	return newDuplex(in, newOutput(os.NewFile(uintptr(to), "fd "+outName)), processAddr("fd"), addr{"fd", name}), nil
}

func (d *descriptors) take(n int) {
	if d.taken == nil {
		d.taken = make(map[int]bool)
	}
	d.taken[n] = true
}

// claim takes files that are the standard descriptors; false if one of them was
// taken by its number.
func (d *descriptors) claim(files ...*os.File) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	var standard []int
	for _, f := range files {
		if n, ok := number(f); ok && n <= lastStandard {
			if d.taken[n] {
				return false
			}
			standard = append(standard, n)
		}
	}
	for _, n := range standard {
		d.take(n)
	}
	return true
}

// lastStandard is standard error's number.
const lastStandard = 2

// listen takes over a listening socket.
func (d *descriptors) listen(n int) (anysock.DeadlineListener, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	const op = anysock.OpListen
	desc, err := d.look(op, n)
	if err != nil {
		return nil, err
	}
	switch desc.kind {
	case listeningSocket:
	case connectedSocket:
		return nil, fdError(op, n, desc.kind, "it is one connection already: connect to fd:"+strconv.Itoa(n)+" instead")
	case unconnectedSocket:
		return nil, fdError(op, n, desc.kind, "the process that starts this one must call listen(2) on it, as systemd does")
	default:
		return nil, fdError(op, n, desc.kind, "")
	}
	fd, err := sys.Adopt(n)
	if err != nil {
		return nil, fdWrap(op, n, err)
	}
	d.take(n)
	return sys.NetListener{FD: fd}, nil
}

// fdError says what n is, which is not what was asked for.
func fdError(op string, n int, k kind, hint string) error {
	return fdProblem(op, n, "is "+k.String(), hint)
}

func fdProblem(op string, n int, problem, hint string) error {
	return &anysock.Error{
		Op: op, Addr: "fd:" + strconv.Itoa(n), Kind: anysock.KindState,
		Err: fmt.Errorf("descriptor %d %s", n, problem), Hint: hint,
	}
}

// fdWrap is for what the kernel or the platform says.
func fdWrap(op string, n int, err error) error {
	k := anysock.KindOther
	if errors.Is(err, errors.ErrUnsupported) {
		k = anysock.KindUnsupported
	}
	return &anysock.Error{Op: op, Addr: "fd:" + strconv.Itoa(n), Kind: k, Err: fmt.Errorf("descriptor %d: %w", n, err)}
}
