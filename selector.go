package anysock

import (
	"context"
	"errors"
	"net"
	"sync"

	"github.com/anysock/anysock/internal/sys"
)

// A Selector waits for many sockets at once (select(2), by epoll(7)):
// connections with data, an end, an error or room to write, listeners with a
// connection to accept. Looking consumes nothing and takes no turn. Add,
// Modify and Remove are safe for concurrent use, also during a Wait; Waits
// take turns.
type Selector struct {
	poller *sys.Poller
	waits  direction

	mu      sync.Mutex
	sources map[uint64]*selected
	readers int // sources that are watched for Readable
	closed  bool
	events  []sys.PollEvent // for whoever has the turn
}

type selected struct {
	src  Source
	fd   *sys.FD
	want Readiness
}

// A Source is what a Selector can watch: a *Conn or a *Listener.
type Source interface {
	ID() uint64
	kernel() *sys.FD
	buffered() bool
}

// A Selection is a source and the conditions it meets.
type Selection struct {
	Source Source
	Ready  Readiness
}

// Conn is the source if it is a connection, else nil.
func (s Selection) Conn() *Conn { c, _ := s.Source.(*Conn); return c }

// Listener is the source if it is a listener, else nil.
func (s Selection) Listener() *Listener { l, _ := s.Source.(*Listener); return l }

// NewSelector makes an empty Selector, which holds one descriptor until
// Close. It says ErrUnsupported on a platform without epoll.
func NewSelector() (*Selector, error) {
	p, err := sys.NewPoller()
	if err != nil {
		return nil, opError("select", "", err)
	}
	s := &Selector{poller: p, sources: make(map[uint64]*selected)}
	s.waits.of = p
	return s, nil
}

// Add starts watching src for want. A source without a descriptor is
// ErrUnsupported, one that is watched already KindState, a closed one
// KindClosed. Remove a source when it is closed: it is reported no more, but
// keeps its place.
func (s *Selector) Add(src Source, want Readiness) error {
	fd := src.kernel()
	if c, ok := src.(*Conn); ok && fd == nil && want&^(HungUp|Failed) == 0 && !c.tellsFailure() {
		fd = c.bottom() // a layer fails when its carrier does
	}
	if fd == nil {
		return unsupported("select", "", "a Selector needs a descriptor: use Conn.Wait")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return closedError("select", "")
	}
	if _, ok := s.sources[src.ID()]; ok {
		return stateError("select", "", "the source is watched already: use Modify")
	}
	if err := s.poller.Add(fd, src.ID(), sys.Ready(want), false); err != nil {
		return opError("select", "", err)
	}
	s.sources[src.ID()] = &selected{src: src, fd: fd, want: want}
	s.countReader(want, 1)
	return nil
}

// tellsFailure reports whether the stream says so itself when it failed.
func (c *Conn) tellsFailure() bool {
	_, ok := optionally[interface{ Failed() <-chan struct{} }](c.s)
	return ok
}

// Modify changes what src is watched for; KindState if it is not watched.
func (s *Selector) Modify(src Source, want Readiness) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.sources[src.ID()]
	if e == nil {
		return stateError("select", "", "the source is not watched: use Add")
	}
	if err := s.poller.Modify(e.fd, src.ID(), sys.Ready(want), false); err != nil {
		return opError("select", "", err)
	}
	s.countReader(e.want, -1)
	s.countReader(want, 1)
	e.want = want
	return nil
}

func (s *Selector) countReader(want Readiness, n int) {
	if want&Readable != 0 {
		s.readers += n
	}
}

// Remove stops watching src; nothing happens if it was not watched.
func (s *Selector) Remove(src Source) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.sources[src.ID()]
	if e == nil {
		return nil
	}
	delete(s.sources, src.ID())
	s.countReader(e.want, -1)
	if err := s.poller.Remove(e.fd); err != nil && !errors.Is(err, net.ErrClosed) {
		return opError("select", "", err)
	}
	return nil
}

// Wait waits until at least one source meets a condition and returns all that
// do, at most 64 of those the kernel reports; the others come with the next
// call. The time-out is ctx's, and then the error matches ctx's; after Close
// it matches net.ErrClosed.
func (s *Selector) Wait(ctx context.Context) ([]Selection, error) {
	if err := s.waits.lock(ctx); err != nil {
		return nil, opError("select", "", err)
	}
	defer s.waits.unlock()
	for {
		// What was read ahead is in no kernel queue.
		if out := s.inMemory(); out != nil {
			return out, nil
		}
		w, err := s.waits.begin(ctx)
		if err != nil {
			return nil, opError("select", "", err)
		}
		s.events, err = s.poller.Wait(s.events[:0])
		s.waits.end(w)
		if err != nil {
			if cerr := ctx.Err(); cerr != nil {
				err = cerr
			}
			return nil, opError("select", "", err)
		}
		if out := s.selections(); out != nil {
			return out, nil
		}
	}
}

func (s *Selector) inMemory() []Selection {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.readers == 0 {
		return nil
	}
	var out []Selection
	for _, e := range s.sources {
		if e.want&Readable != 0 && e.src.buffered() {
			out = append(out, Selection{e.src, Readable})
		}
	}
	return out
}

func (s *Selector) selections() []Selection {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []Selection
	for _, ev := range s.events {
		e := s.sources[ev.Key]
		if e == nil {
			continue
		}
		if r := Readiness(ev.Ready) & (e.want | HungUp | Failed); r != 0 {
			out = append(out, Selection{e.src, r})
		}
	}
	return out
}

// Close ends a Wait at work and releases the descriptor; the sources are left
// alone.
func (s *Selector) Close() error {
	s.mu.Lock()
	s.closed = true
	s.sources, s.readers = nil, 0
	s.mu.Unlock()
	return s.poller.Close()
}

// buffered reports whether bytes wait in memory.
func (c *Conn) buffered() bool { return len(c.unread()) > 0 }
