//go:build linux

// The load: connections on an epoll set, a closed loop of messages, every byte of the echo verified.

package main

import (
	"bytes"
	"errors"
	"fmt"
	"syscall"
	"time"
)

type work struct {
	name                     string
	connections, depth, size int
}

// A client is all connections to one server. It runs on one goroutine.
type client struct {
	work
	set      *epollSet
	conns    map[int32]*conn
	inFlight int
	passed   int // messages of this slot
	buffer   []byte
}

type conn struct {
	fd              int
	begin           int // of its stream in the pattern
	sent, want, got int
	polling         bool
}

const period = 65521 // prime: what is lost, repeated or swapped differs

// pattern holds a period and what one call sends.
var pattern = func() []byte {
	p := make([]byte, period+received)
	x := uint64(88172645463325252)
	for i := range p {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		if p[i] = byte(x >> 24); i >= period {
			p[i] = p[i-period]
		}
	}
	return p
}()

func (c *conn) stream(offset, n int) []byte {
	start := (c.begin + offset) % period
	return pattern[start : start+min(n, received)]
}

// connect opens the connections of a work.
func connect(w work, addr syscall.Sockaddr) (*client, error) {
	set, err := newEpollSet()
	if err != nil {
		return nil, err
	}
	cl := &client{work: w, set: set, conns: map[int32]*conn{}, buffer: make([]byte, received)}
	for i := range w.connections {
		fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
		if err == nil {
			err = syscall.Connect(fd, addr)
		}
		if err == nil {
			err = errors.Join(syscall.SetNonblock(fd, true), syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1))
		}
		if err == nil {
			err = set.watch(syscall.EPOLL_CTL_ADD, fd, syscall.EPOLLIN)
		}
		if err != nil {
			cl.close()
			return nil, fmt.Errorf("connection %d: %w", i, err)
		}
		cl.conns[int32(fd)] = &conn{fd: fd, begin: i * 7919 % period}
	}
	return cl, nil
}

func (cl *client) close() {
	for fd := range cl.conns {
		syscall.Close(int(fd))
	}
	syscall.Close(cl.set.fd)
}

// run passes messages for that long, and then until nothing is in flight.
func (cl *client) run(d time.Duration) error {
	cl.passed = 0
	end := time.Now().Add(d)
	for _, c := range cl.conns {
		if err := cl.ask(c, cl.depth); err != nil {
			return err
		}
	}
	const patience = 5 * time.Second
	for cl.inFlight > 0 {
		n := cl.set.wait(100)
		now := time.Now()
		running := now.Before(end)
		if !running && now.After(end.Add(patience)) {
			return fmt.Errorf("%d messages in flight did not come back", cl.inFlight)
		}
		for _, e := range cl.set.events[:n] {
			c := cl.conns[e.Fd]
			if e.Events&syscall.EPOLLOUT != 0 {
				if err := cl.flush(c); err != nil {
					return err
				}
			}
			if e.Events&^syscall.EPOLLOUT != 0 {
				if err := cl.receive(c, running); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (cl *client) ask(c *conn, messages int) error {
	cl.inFlight += messages
	c.want += messages * cl.size
	return cl.flush(c)
}

func (cl *client) flush(c *conn) error {
	for c.sent < c.want {
		n, errno := send(c.fd, c.stream(c.sent, c.want-c.sent))
		if errno == syscall.EAGAIN {
			return cl.pollOut(c, true)
		}
		if errno != 0 {
			return errno
		}
		c.sent += n
	}
	return cl.pollOut(c, false)
}

func (cl *client) pollOut(c *conn, on bool) error {
	if c.polling == on {
		return nil
	}
	c.polling = on
	events := uint32(syscall.EPOLLIN)
	if on {
		events |= syscall.EPOLLOUT
	}
	return cl.set.watch(syscall.EPOLL_CTL_MOD, c.fd, events)
}

func (cl *client) receive(c *conn, again bool) error {
	n, errno := recv(c.fd, cl.buffer)
	if errno == syscall.EAGAIN {
		return nil
	}
	if errno != 0 {
		return errno
	}
	if n == 0 || c.got+n > c.sent || !bytes.Equal(cl.buffer[:n], c.stream(c.got, n)) {
		return fmt.Errorf("wrong echo at byte %d: %d bytes for %d sent", c.got, n, c.sent)
	}
	before := c.got / cl.size
	c.got += n
	done := c.got/cl.size - before
	cl.inFlight -= done
	cl.passed += done
	if again && done > 0 {
		return cl.ask(c, done)
	}
	return nil
}
