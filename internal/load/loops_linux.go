//go:build linux && !anysock_portable

package load

import (
	"fmt"
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/internal/bridge"
	"github.com/anysock/anysock/internal/reactor"
	"github.com/anysock/anysock/internal/sys"
)

// This file holds the engine on event loops: for connections that are kernel
// sockets and nothing else, one loop for each core. The lines are the same as
// on goroutines, and so is what is counted; loops_socket_linux.go has what they
// do. Everything of a line belongs to its loop while a socket of it is there,
// and to the goroutine that makes it again while there is none.

// haveLoops says that this engine exists here.
const haveLoops = true

// loops are the event loops of a run.
type loops struct {
	r    *run
	each []*loop
	work *sync.WaitGroup // the lines
	runs sync.WaitGroup  // the loops' goroutines
}

// A loop is one of them.
type loop struct {
	r       *run
	of      *loops
	n       int
	loop    *reactor.Loop
	sockets []*socket // by the line's number divided by the number of loops; nil: being made again
	watch   reactor.Node
	alarm   *loopAlarm // nil in a closed loop
	pace    int64      // the next request that is due
	closing bool       // over was called

	// Of connections that have ended.
	pastSent, pastReceived int64
	pastUnknown            bool // one of them was not acknowledged by anybody
}

// takeSockets takes the lines' connections over, if they are kernel sockets.
func (r *run) takeSockets() error {
	sockets := make([]*socket, len(r.lines))
	for i, l := range r.lines {
		s, err := takeSocket(l)
		if s == nil && err == nil && i == 0 {
			return nil // of any other make
		}
		if s == nil && err == nil {
			err = fmt.Errorf("connection %d is not like the first", i+1)
		}
		if err != nil {
			for _, s := range sockets[:i] {
				s.handle.Close()
			}
			return err
		}
		sockets[i] = s
	}
	if err := r.makeLoops(sockets); err != nil {
		for _, s := range sockets {
			s.handle.Close()
		}
		return err
	}
	return nil
}

// makeLoops makes the loops and shares the lines among them.
func (r *run) makeLoops(sockets []*socket) error {
	ls := &loops{r: r}
	for i := range min(runtime.GOMAXPROCS(0), len(r.lines)) {
		b := &loop{r: r, of: ls, n: i}
		var err error
		if b.loop, err = reactor.New(); err == nil && r.work.Rate > 0 {
			b.alarm, err = newLoopAlarm(b)
		}
		ls.each = append(ls.each, b)
		if err != nil {
			ls.discard()
			return err
		}
	}
	for i, s := range sockets {
		b := ls.each[i%len(ls.each)]
		b.sockets = append(b.sockets, s)
		s.b = b
	}
	r.loops = ls
	return nil
}

// takeSocket takes a line's connection over; nil if it is no kernel socket.
func takeSocket(l *line) (*socket, error) {
	c := l.conn.Load()
	s := &socket{l: l, peer: peerName(c), tcp: c.Caps().Has(anysock.CapCloseAck)}
	fd, ok := bridge.Conn(c)
	if !ok {
		return nil, nil
	}
	l.conn.Store(nil)
	h, err := reactor.Detach(fd)
	if err != nil {
		_ = fd.Close() // out of descriptors: the other end sees an end
		return nil, bridge.OpError(anysock.OpConnect, s.peer, err)
	}
	s.handle = h
	s.node.Source = s
	return s, nil
}

func (ls *loops) discard() {
	for _, b := range ls.each {
		if b.loop != nil {
			b.loop.Discard()
		}
	}
}

// start begins the work; each line tells work when it is at its end.
func (ls *loops) start(work *sync.WaitGroup) {
	ls.work = work
	work.Add(len(ls.r.lines))
	for _, b := range ls.each {
		b.loop.Tell(b.begin)
		ls.runs.Go(b.loop.Run)
	}
}

// stop ends the loops when every line is at its end.
func (ls *loops) stop() {
	for _, b := range ls.each {
		b.loop.Tell(b.loop.Stop)
	}
	ls.runs.Wait()
}

// everywhere runs f on each loop, and does not wait.
func (ls *loops) everywhere(f func(*loop)) {
	for _, b := range ls.each {
		b.loop.Tell(func() { f(b) })
	}
}

// over tells the lines that nothing more is to be begun.
func (ls *loops) over() {
	ls.everywhere(func(b *loop) {
		b.closing = true
		b.eachSocket((*socket).push)
	})
}

// cut ends the lines that still wait for answers.
func (ls *loops) cut(verdict) {
	ls.everywhere(func(b *loop) { b.eachSocket((*socket).tooLate) })
}

// abort resets all connections, those too that are being disconnected.
func (ls *loops) abort() {
	ls.everywhere(func(b *loop) {
		b.eachSocket((*socket).tooLate)
		b.eachSocket(func(s *socket) { b.loop.Abandon(&s.node, true, errAbandoned) })
	})
}

var errAbandoned = fmt.Errorf("the run was aborted: %w", syscall.ECONNABORTED)

// moved is how many bytes all lines have moved, and whether sent is what was
// acknowledged. Each loop answers for its own.
func (ls *loops) moved() (sent, received int64, acked bool) {
	type answer struct {
		sent, received int64
		acked          bool
	}
	if ls.work == nil {
		return 0, 0, true // they do not run yet
	}
	answers := make(chan answer, len(ls.each))
	ls.everywhere(func(b *loop) {
		a := answer{sent: b.pastSent, received: b.pastReceived, acked: !b.pastUnknown}
		b.eachSocket(func(s *socket) {
			a.received += s.got
			a.sent += s.out
			if !s.tcp {
				a.acked = false
			} else if n, err := b.loop.Unacked(&s.node); err == nil {
				a.sent -= int64(n)
			}
		})
		answers <- a
	})
	acked = true
	for range ls.each {
		a := <-answers
		sent, received, acked = sent+a.sent, received+a.received, acked && a.acked
	}
	return sent, received, acked
}

// eachSocket calls f for every socket that is there.
func (b *loop) eachSocket(f func(*socket)) {
	for _, s := range b.sockets {
		if s != nil && s.here() {
			f(s)
		}
	}
}

// begin is the first that runs on the loop.
func (b *loop) begin() {
	b.watch.Source = (*loopWatch)(b)
	b.armWatch()
	b.pace = b.firstFrom(0)
	if b.alarm != nil {
		if err := b.loop.Add(&b.alarm.node, b.alarm.handle, sys.EventIn); err != nil {
			b.r.fail(bridge.OpError(anysock.OpWait, "", err))
		}
		b.alarm.set()
	}
	for _, s := range b.sockets {
		if s.call != nil {
			s.push()
		} else {
			s.begin()
		}
	}
}

// loopWatch looks for lines that wait for longer than the timeout.
type loopWatch loop

func (b *loop) armWatch() {
	b.loop.SetTimer(&b.watch, max(time.Duration(b.r.work.Timeout)/watchesPerTimeout, time.Millisecond))
}

// Ready is never called: there is no descriptor.
func (*loopWatch) Ready(sys.Events) {}

// Expired looks at every line.
func (w *loopWatch) Expired() {
	b := (*loop)(w)
	now := b.loop.Elapsed()
	b.eachSocket(func(s *socket) {
		moved := s.got
		if b.r.work.Mode.Bulk() {
			moved += s.out
		}
		switch {
		case s.ending || !s.node.Open():
		case !s.l.busy() || moved != s.seen || s.since == 0:
			s.seen, s.since = moved, now
		case now-s.since >= time.Duration(b.r.work.Timeout):
			s.fail(s.silence(), true, false)
		}
	})
	b.armWatch()
}

// firstFrom is the first request from k on that belongs to a line of this
// loop.
func (b *loop) firstFrom(k int64) int64 {
	lines, each := int64(len(b.r.lines)), int64(len(b.of.each))
	for k%lines%each != int64(b.n) {
		k++
	}
	return k
}

// A loopAlarm is a timerfd_create(2) descriptor on a loop, which is more exact
// than the loop's timers.
type loopAlarm struct {
	b      *loop
	node   reactor.Node
	handle reactor.Handle
}

func newLoopAlarm(b *loop) (*loopAlarm, error) {
	fd, _, errno := syscall.Syscall(syscall.SYS_TIMERFD_CREATE, clockMonotonic, syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0)
	if errno != 0 {
		return nil, os.NewSyscallError("timerfd_create", errno)
	}
	a := &loopAlarm{b: b, handle: reactor.Handle(fd)}
	a.node.Source = a
	return a, nil
}

// set waits for the next request that is due, if there is one.
func (a *loopAlarm) set() {
	r := a.b.r
	t := r.schedule.at(a.b.pace)
	if t >= r.until.Load() {
		return
	}
	spec := [2]syscall.Timespec{{}, syscall.NsecToTimespec(max(t-r.now(), 1))}
	_, _, errno := syscall.RawSyscall6(syscall.SYS_TIMERFD_SETTIME, uintptr(a.node.FD()), 0, uintptr(unsafe.Pointer(&spec)), 0, 0, 0)
	if errno != 0 {
		r.fail(os.NewSyscallError("timerfd_settime", errno))
	}
}

// Ready is called when something is due.
func (a *loopAlarm) Ready(sys.Events) {
	var fired [8]byte
	_, _, _ = syscall.RawSyscall(syscall.SYS_READ, uintptr(a.node.FD()), uintptr(unsafe.Pointer(&fired)), uintptr(len(fired)))
	b, r := a.b, a.b.r
	due := r.schedule.before(r.now() + 1)
	if due-b.pace >= int64(len(r.lines)) {
		b.eachSocket((*socket).push)
		b.pace = b.firstFrom(due)
	}
	for b.pace < due {
		s := b.sockets[b.pace%int64(len(r.lines))/int64(len(b.of.each))]
		if s != nil && s.here() {
			s.push()
		}
		b.pace = b.firstFrom(b.pace + 1)
	}
	a.set()
}

// Expired is never called: the timer is the descriptor's.
func (*loopAlarm) Expired() {}
