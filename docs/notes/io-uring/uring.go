//go:build linux

// The io_uring server: multishot accept into the ring's own file table, multishot receive into provided
// buffers, each buffer sent from where it is. One call submits everything and reaps everything.

package main

import (
	"errors"
	"sync/atomic"
	"syscall"
	"unsafe"
)

// Kinds of submissions, in the upper byte of their data; below are the buffer and the slot of the file table.
const (
	accepting = iota
	receiving
	sending
	closing
)

const none = 0xffff

func tag(kind uint64, buffer uint16, slot uint32) uint64 {
	return kind<<56 | uint64(buffer)<<32 | uint64(slot)
}

// A peer is a slot of the file table; its buffers that are to be sent are a list.
type peer struct {
	head, last uint16
	sending    bool
	ended      bool
}

type uringServer struct {
	*ring
	peers    []peer
	lengths  [bufferCount]uint32
	after    [bufferCount]uint16
	free     int
	starving []uint32
}

// files is the size of the file table.
const files = 8192

// serveURing echoes until the process ends.
func serveURing(listener int) error {
	r, err := newRing(files)
	if err != nil {
		return errors.Join(errNoURing, err)
	}
	s := &uringServer{ring: r, peers: make([]peer, files), free: bufferCount}
	s.accept(listener)
	for {
		if errno := r.enter(1); errno != 0 && errno != syscall.EINTR {
			return errno
		}
		head, tail := *r.cqHead, atomic.LoadUint32(r.cqTail)
		for ; head != tail; head++ {
			c := r.cqes[head&r.cqMask]
			slot := uint32(c.data)
			switch c.data >> 56 {
			case accepting:
				if c.flags&cqeMore == 0 {
					s.accept(listener)
				}
				if c.result >= 0 {
					s.peers[c.result] = peer{head: none, last: none}
					s.receive(uint32(c.result))
				}
			case receiving:
				s.received(slot, c)
			case sending:
				s.sent(slot, uint16(c.data>>32), c)
			}
		}
		atomic.StoreUint32(r.cqHead, head)
		for len(s.starving) > 0 && s.free > 0 {
			last := len(s.starving) - 1
			s.receive(s.starving[last])
			s.starving = s.starving[:last]
		}
	}
}

func (s *uringServer) accept(listener int) {
	q := s.next()
	q.op, q.fd, q.priority, q.fileIndex, q.data = opAccept, int32(listener), acceptMultishot, fileIndexAlloc, tag(accepting, none, 0)
}

func (s *uringServer) receive(slot uint32) {
	q := s.next()
	q.op, q.flags, q.fd, q.priority, q.data = opRecv, sqeFixedFile|sqeBufferSelect, int32(slot), recvMultishot, tag(receiving, none, slot)
}

func (s *uringServer) send(slot uint32) {
	p := &s.peers[slot]
	p.sending = true
	q := s.next()
	q.op, q.flags, q.fd, q.data = opSend, sqeFixedFile, int32(slot), tag(sending, p.head, slot)
	q.addr, q.length = uint64(uintptr(unsafe.Pointer(&s.buffer(p.head)[0]))), s.lengths[p.head]
	q.opFlags = syscall.MSG_NOSIGNAL | syscall.MSG_WAITALL // what does not fit waits in the kernel, in order
}

func (s *uringServer) received(slot uint32, c completion) {
	p := &s.peers[slot]
	if c.flags&cqeBuffer != 0 {
		id := uint16(c.flags >> cqeBufferShift)
		s.free--
		if c.result <= 0 {
			s.release(id)
		} else {
			s.lengths[id], s.after[id] = uint32(c.result), none
			if p.head == none {
				p.head = id
			} else {
				s.after[p.last] = id
			}
			p.last = id
			if !p.sending {
				s.send(slot)
			}
		}
	}
	switch {
	case c.flags&cqeMore != 0:
	case c.result == -int32(syscall.ENOBUFS):
		s.starving = append(s.starving, slot)
	case c.result > 0:
		s.receive(slot) // the kernel ends a multishot now and then
	default:
		p.ended = true
		s.closeWhenDone(slot)
	}
}

func (s *uringServer) release(id uint16) {
	s.giveBack(id)
	s.free++
}

func (s *uringServer) sent(slot uint32, id uint16, c completion) {
	p := &s.peers[slot]
	p.sending = false
	p.head = s.after[id]
	failed := c.result != int32(s.lengths[id])
	s.release(id)
	for failed && p.head != none {
		id, p.head = p.head, s.after[p.head]
		s.release(id)
	}
	if p.head != none {
		s.send(slot)
	}
	s.closeWhenDone(slot)
}

// closeWhenDone closes a connection that has ended and owes nothing.
func (s *uringServer) closeWhenDone(slot uint32) {
	p := &s.peers[slot]
	if !p.ended || p.sending || p.head != none {
		return
	}
	q := s.next()
	q.op, q.fileIndex, q.data = opClose, slot+1, tag(closing, none, slot)
}
