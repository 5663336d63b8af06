//go:build linux

// A bare io_uring: set-up, submission, completion, and a ring of provided buffers (linux/io_uring.h). What is
// used needs Linux 6.1.

package main

import (
	"fmt"
	"sync/atomic"
	"syscall"
	"unsafe"
)

// Numbers of the calls, the same on every platform but alpha and mips.
const (
	sysIoUringSetup    = 425
	sysIoUringEnter    = 426
	sysIoUringRegister = 427
)

// Names of linux/io_uring.h, without the prefix.
const (
	setupCQSize       = 1 << 3
	setupSingleIssuer = 1 << 12
	setupDeferTaskrun = 1 << 13
	enterGetEvents    = 1 << 0
	registerFiles2    = 13
	registerPbufRing  = 22
	rsrcSparse        = 1 << 0
	offSQEs           = 0x10000000
	fileIndexAlloc    = ^uint32(0)

	opAccept = 13
	opClose  = 19
	opSend   = 26
	opRecv   = 27

	sqeFixedFile    = 1 << 0
	sqeBufferSelect = 1 << 5
	acceptMultishot = 1 << 0
	recvMultishot   = 1 << 1
	cqeBuffer       = 1 << 0
	cqeMore         = 1 << 1
	cqeBufferShift  = 16
)

type params struct {
	sqEntries, cqEntries, flags, sqThreadCPU, sqThreadIdle, features, wqFD uint32
	_                                                                      [3]uint32
	sq                                                                     struct {
		head, tail, mask, entries, flags, dropped, array, _ uint32
		_                                                   uint64
	}
	cq struct {
		head, tail, mask, entries, overflow, cqes, flags, _ uint32
		_                                                   uint64
	}
}

type submission struct {
	op, flags uint8
	priority  uint16
	fd        int32
	_, addr   uint64
	length    uint32
	opFlags   uint32
	data      uint64
	_, _      uint16 // the group of buffers is 0
	fileIndex uint32
	_, _      uint64
}

type completion struct {
	data   uint64
	result int32
	flags  uint32
}

type ring struct {
	fd             int
	sqHead, sqTail *uint32
	cqHead, cqTail *uint32
	sqMask, cqMask uint32
	sqes           []submission
	cqes           []completion
	tail, handed   uint32 // submissions written, and told to the kernel
	buffers        []providedBuffer
	memory         []byte
	bufferTail     uint16
}

type providedBuffer struct {
	addr   uint64
	length uint32
	id     uint16
	tail   uint16 // of the ring, in the first entry
}

const (
	ringEntries = 4096
	completions = 8 * ringEntries
	bufferCount = 512
	// colour is added to the distance between buffers, so that their first lines do not share a cache set.
	colour     = 5 * 64
	bufferStep = received + colour
)

func at[T any](mapping []byte, offset uint32) *T { return (*T)(unsafe.Pointer(&mapping[offset])) }

func newRing(files int) (*ring, error) {
	p := params{flags: setupSingleIssuer | setupDeferTaskrun | setupCQSize, cqEntries: completions}
	fd, _, errno := syscall.Syscall(sysIoUringSetup, ringEntries, uintptr(unsafe.Pointer(&p)), 0)
	if errno != 0 {
		return nil, fmt.Errorf("io_uring_setup: %w", errno)
	}
	r := &ring{fd: int(fd)}
	const access, shared = syscall.PROT_READ | syscall.PROT_WRITE, syscall.MAP_SHARED | syscall.MAP_POPULATE
	size := max(p.sq.array+4*p.sqEntries, p.cq.cqes+uint32(unsafe.Sizeof(completion{}))*p.cqEntries)
	rings, err := syscall.Mmap(r.fd, 0, int(size), access, shared) // both in one since Linux 5.4
	if err != nil {
		return nil, fmt.Errorf("mmap of the rings: %w", err)
	}
	sqes, err := syscall.Mmap(r.fd, offSQEs, int(unsafe.Sizeof(submission{}))*int(p.sqEntries), access, shared)
	if err != nil {
		return nil, fmt.Errorf("mmap of the submissions: %w", err)
	}
	r.sqHead, r.sqTail, r.sqMask = at[uint32](rings, p.sq.head), at[uint32](rings, p.sq.tail), p.sqEntries-1
	r.cqHead, r.cqTail, r.cqMask = at[uint32](rings, p.cq.head), at[uint32](rings, p.cq.tail), p.cqEntries-1
	r.sqes = unsafe.Slice(at[submission](sqes, 0), p.sqEntries)
	r.cqes = unsafe.Slice(at[completion](rings, p.cq.cqes), p.cqEntries)
	for i, index := 0, unsafe.Slice(at[uint32](rings, p.sq.array), p.sqEntries); i < len(index); i++ {
		index[i] = uint32(i)
	}
	sparse := struct {
		count, flags uint32
		_, _, _      uint64
	}{count: uint32(files), flags: rsrcSparse}
	if err := r.register(registerFiles2, unsafe.Pointer(&sparse), unsafe.Sizeof(sparse)); err != nil {
		return nil, fmt.Errorf("register a file table: %w", err)
	}
	return r, r.provideBuffers()
}

func (r *ring) register(op uintptr, arg unsafe.Pointer, n uintptr) error {
	if _, _, errno := syscall.Syscall6(sysIoUringRegister, uintptr(r.fd), op, uintptr(arg), n, 0, 0); errno != 0 {
		return errno
	}
	return nil
}

// provideBuffers registers all of them as group 0.
func (r *ring) provideBuffers() error {
	const access, private = syscall.PROT_READ | syscall.PROT_WRITE, syscall.MAP_PRIVATE | syscall.MAP_ANON
	entries, err := syscall.Mmap(-1, 0, bufferCount*int(unsafe.Sizeof(providedBuffer{})), access, private)
	if err != nil {
		return err
	}
	if r.memory, err = syscall.Mmap(-1, 0, bufferCount*bufferStep, access, private); err != nil {
		return err
	}
	r.buffers = unsafe.Slice(at[providedBuffer](entries, 0), bufferCount)
	reg := struct {
		addr    uint64
		entries uint32
		group   uint16
		flags   uint16
		_       [3]uint64
	}{addr: uint64(uintptr(unsafe.Pointer(&entries[0]))), entries: bufferCount}
	if err := r.register(registerPbufRing, unsafe.Pointer(&reg), 1); err != nil {
		return fmt.Errorf("register a ring of buffers: %w", err)
	}
	for id := range uint16(bufferCount) {
		r.giveBack(id)
	}
	return nil
}

func (r *ring) buffer(id uint16) []byte {
	start := int(id) * bufferStep
	return r.memory[start : start+received]
}

// giveBack makes a buffer the kernel's again. With deferred work the kernel takes buffers within our own calls
// only, so a plain store of the tail is early enough.
func (r *ring) giveBack(id uint16) {
	b := &r.buffers[r.bufferTail%bufferCount]
	b.addr, b.length, b.id = uint64(uintptr(unsafe.Pointer(&r.memory[int(id)*bufferStep]))), received, id
	r.bufferTail++
	r.buffers[0].tail = r.bufferTail
}

// next is a cleared submission; it hands over those before it where there is no room.
func (r *ring) next() *submission {
	for r.tail-atomic.LoadUint32(r.sqHead) == uint32(len(r.sqes)) {
		r.enter(0)
	}
	s := &r.sqes[r.tail&r.sqMask]
	r.tail++
	*s = submission{}
	return s
}

// enter hands over what was submitted and waits for completions.
func (r *ring) enter(least uintptr) syscall.Errno {
	atomic.StoreUint32(r.sqTail, r.tail)
	n, _, errno := syscall.Syscall6(sysIoUringEnter, uintptr(r.fd), uintptr(r.tail-r.handed), least, enterGetEvents, 0, 0)
	if errno == 0 {
		r.handed += uint32(n)
	}
	return errno
}
