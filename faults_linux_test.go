//go:build !anysock_portable

package anysock_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/internal/sys"
)

// This file holds what the tests with failing system calls share, and those of
// the calls before a connection is there. The calls on a connection are in
// faults_read_linux_test.go, faults_write_linux_test.go and
// faults_end_linux_test.go.

// A faultPlan makes one system call fail.
type faultPlan struct {
	call  sys.Call
	fd    int   // of this descriptor only; 0 is any
	skip  int   // so many calls run first
	times int   // then so many fail; 0 is all
	err   error // so

	mu   sync.Mutex
	hits int
}

// inject installs the plan until restore, which reports whether it came true.
func (p *faultPlan) inject(t testing.TB) (restore func()) {
	t.Helper()
	undo := sys.Inject(p.decide)
	return func() {
		t.Helper()
		undo()
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.hits == 0 {
			t.Errorf("the call %s was not made", p.call)
		}
	}
}

func (p *faultPlan) decide(call sys.Call, fd int) error {
	if call != p.call || p.fd != 0 && fd != p.fd {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.skip > 0 {
		p.skip--
		return nil
	}
	if p.times > 0 && p.hits >= p.times {
		return nil
	}
	p.hits++
	return p.err
}

// descriptorOf is the connection's descriptor, for the plan.
func descriptorOf(t testing.TB, c *anysock.Conn) int {
	t.Helper()
	rc, err := c.SyscallConn()
	must(t, "SyscallConn", err)
	var n int
	must(t, "Control", rc.Control(func(fd uintptr) { n = int(fd) }))
	return n
}

// A victim is a connection whose calls will fail, and its peer, whose calls
// will not.
type victim struct {
	*anysock.Conn
	peer   *anysock.Conn
	fd     int
	events *recorder
	group  *anysock.Group
}

func newVictim(t testing.TB, addr string, options anysock.Options) *victim {
	t.Helper()
	v := &victim{events: new(recorder), group: new(anysock.Group)}
	d := &anysock.Dialer{Trace: v.events.trace, Group: v.group, Options: options}
	ln := mustListen(t, &anysock.ListenConfig{}, addr)
	v.Conn = mustDial(t, d, urlOf(ln))
	v.peer = mustAccept(t, ln)
	must(t, "close the listener", ln.Close())
	v.fd = descriptorOf(t, v.Conn)
	return v
}

// peerWrites makes n bytes wait at the victim.
func (v *victim) peerWrites(t testing.TB, n int) {
	t.Helper()
	before := int(v.Received())
	if m, err := v.peer.Write(make([]byte, n)); m != n || err != nil {
		t.Fatalf("the peer's Write = %d, %v", m, err)
	}
	if r, err := v.Wait(soon(t), anysock.Readable, n); err != nil || r&anysock.Readable == 0 {
		t.Fatalf("waiting for the peer's bytes: %v, %v (%d before)", r, err, before)
	}
}

// A failure is an errno and what it means on a connection.
type failure struct {
	errno syscall.Errno
	kind  anysock.Kind
	how   anysock.How // NotEnded: the connection goes on
}

var failures = []failure{
	{syscall.ECONNRESET, anysock.KindReset, anysock.AbortedByPeer},
	{syscall.EPIPE, anysock.KindReset, anysock.AbortedByPeer},
	{syscall.ETIMEDOUT, anysock.KindLost, anysock.Lost},
	{syscall.EHOSTUNREACH, anysock.KindUnreachable, anysock.Lost},
	{syscall.ENETDOWN, anysock.KindUnreachable, anysock.Lost},
	{syscall.ECONNABORTED, anysock.KindTruncated, anysock.Truncated},
	{syscall.EIO, anysock.KindTruncated, anysock.Truncated},
	{syscall.ENOBUFS, anysock.KindLimit, anysock.NotEnded},
	{syscall.ENOMEM, anysock.KindLimit, anysock.NotEnded},
	{syscall.EMFILE, anysock.KindLimit, anysock.NotEnded},
}

// overFailures runs a test for every errno, on tcp and unix.
func overFailures(t *testing.T, f func(t *testing.T, addr string, fl failure)) {
	for _, fl := range failures {
		t.Run(fmt.Sprintf("errno%d", int(fl.errno)), func(t *testing.T) {
			overKernelNetworks(t, func(t *testing.T, addr string) { f(t, addr, fl) })
		})
	}
}

// wantFailure checks an error of a call, and the ending that goes with it.
func (v *victim) wantFailure(t testing.TB, what string, err error, fl failure) {
	t.Helper()
	wantErrorKind(t, what, err, fl.kind)
	if !errors.Is(err, fl.errno) {
		t.Errorf("%s: %v does not lead to %v", what, err, fl.errno)
	}
	if fl.how == anysock.NotEnded {
		select {
		case <-v.Done():
			t.Errorf("%s: passing trouble ended the connection: %v", what, v.End())
		default:
		}
		return
	}
	await(t, what+": the ending", v.Done())
	v.wantEnd(t, what, fl)
	if v.State() != anysock.StateClosed {
		for _, call := range []func() error{
			func() error { _, err := v.Read(make([]byte, 1)); return err },
			func() error { _, err := v.Write([]byte("x")); return err },
			func() error { _, err := v.Peek(soon(t), make([]byte, 1)); return err },
		} {
			if err := call(); err == nil {
				t.Errorf("%s: a call after the failure succeeds", what)
			} else if e := errorOfKind(t, what+": a later call", err, fl.kind); !errors.Is(e, fl.errno) {
				t.Errorf("%s: a later call: %v does not lead to %v", what, err, fl.errno)
			}
		}
	}
	// Whoever asks later hears the same, or that we have closed since; never an
	// end of file.
	if _, err := v.Disconnect(soon(t)); !errors.Is(err, fl.errno) {
		t.Errorf("%s: Disconnect afterwards: %v does not lead to %v", what, err, fl.errno)
	}
	v.wantOneEnd(t, what+": afterwards")
	for _, call := range []func() error{
		func() error { _, err := v.Read(make([]byte, 1)); return err },
		func() error { _, err := v.Write([]byte("x")); return err },
		func() error { _, err := v.Peek(soon(t), make([]byte, 1)); return err },
	} {
		wantErrorKind(t, what+": after Disconnect", call(), anysock.KindClosed)
	}
}

// wantEnd checks the recorded ending and its trace.
func (v *victim) wantEnd(t testing.TB, what string, fl failure) {
	t.Helper()
	end := v.End()
	if end.How != fl.how || !errors.Is(end.Err, fl.errno) {
		t.Errorf("%s: the end is %v with %v; want %v", what, end, end.Err, fl.how)
	}
	if end.Sent != v.Sent() || end.Received != v.Received() {
		t.Errorf("%s: the end counts %d and %d, the connection %d and %d", what, end.Sent, end.Received, v.Sent(), v.Received())
	}
	wantBy := anysock.Nobody
	if fl.how == anysock.AbortedByPeer {
		wantBy = anysock.Peer
	}
	if end.By != wantBy && end.By != anysock.Us { // ours if we had sent our end before
		t.Errorf("%s: ended by %v, want %v", what, end.By, wantBy)
	}
	v.wantOneEnd(t, what)
}

// wantOneEnd: the trace has one ending, and nothing follows it.
func (v *victim) wantOneEnd(t testing.TB, what string) {
	t.Helper()
	ops := v.events.ops(v.ID())
	n := 0
	for _, op := range ops {
		if op == anysock.OpEnd {
			n++
		}
	}
	if n != 1 || ops[len(ops)-1] != anysock.OpEnd {
		t.Errorf("%s: the steps are %v, want one ending and nothing after it", what, ops)
	}
}

// over releases both ends and checks that no descriptor is left of them.
func (v *victim) over(t testing.TB) {
	t.Helper()
	_ = v.Abort()
	_ = v.peer.Abort()
	if _, err := v.Read(make([]byte, 1)); err == nil {
		t.Error("a read succeeds after Abort")
	}
	if st := v.State(); st != anysock.StateClosed {
		t.Errorf("the state is %v after Abort", st)
	}
	if _, err := v.group.Wait(soon(t)); err != nil && v.group.Pending() > 0 {
		t.Errorf("left in the background: %v", err)
	}
}

// noDescriptorLost runs a test and counts descriptors around it.
func noDescriptorLost(t *testing.T, f func()) {
	t.Helper()
	sys.CloseIdlePipes()
	before := descriptors()
	f()
	sys.CloseIdlePipes()
	eventually(t, "the descriptors to be released", func() bool { return descriptors() <= before })
}

// TestFaultsOfDialing: each call on the way to a connection fails once with
// each errno.
func TestFaultsOfDialing(t *testing.T) {
	for _, tt := range []struct {
		call  sys.Call
		errno syscall.Errno
		kind  anysock.Kind
	}{
		{sys.CallSocket, syscall.EMFILE, anysock.KindLimit},
		{sys.CallSocket, syscall.ENFILE, anysock.KindLimit},
		{sys.CallSocket, syscall.ENOBUFS, anysock.KindLimit},
		{sys.CallSocket, syscall.ENOMEM, anysock.KindLimit},
		{sys.CallSocket, syscall.EACCES, anysock.KindPermission},
		{sys.CallSocket, syscall.EAFNOSUPPORT, anysock.KindUnsupported},
		{sys.CallSetsockopt, syscall.ENOBUFS, anysock.KindLimit},
		{sys.CallSetsockopt, syscall.ENOMEM, anysock.KindLimit},
		{sys.CallSetsockopt, syscall.EPERM, anysock.KindPermission},
		{sys.CallBind, syscall.EADDRINUSE, anysock.KindInUse},
		{sys.CallBind, syscall.EADDRNOTAVAIL, anysock.KindUnreachable},
		{sys.CallBind, syscall.EACCES, anysock.KindPermission},
		{sys.CallBind, syscall.ENOMEM, anysock.KindLimit},
		{sys.CallConnect, syscall.ECONNREFUSED, anysock.KindRefused},
		{sys.CallConnect, syscall.ECONNRESET, anysock.KindRefused},
		{sys.CallConnect, syscall.ENETUNREACH, anysock.KindUnreachable},
		{sys.CallConnect, syscall.EHOSTUNREACH, anysock.KindUnreachable},
		{sys.CallConnect, syscall.EACCES, anysock.KindPermission},
		{sys.CallConnect, syscall.EPERM, anysock.KindPermission},
		{sys.CallConnect, syscall.ENOBUFS, anysock.KindLimit},
		{sys.CallConnect, syscall.ENOMEM, anysock.KindLimit},
		{sys.CallConnectError, syscall.ECONNREFUSED, anysock.KindRefused},
		{sys.CallConnectError, syscall.ECONNRESET, anysock.KindRefused},
		{sys.CallConnectError, syscall.ECONNABORTED, anysock.KindOther},
		{sys.CallConnectError, syscall.ETIMEDOUT, anysock.KindTimeout}, // nothing was there to be lost
		{sys.CallConnectError, syscall.ENETUNREACH, anysock.KindUnreachable},
		{sys.CallConnectError, syscall.EHOSTUNREACH, anysock.KindUnreachable},
		{sys.CallConnectError, syscall.ENOMEM, anysock.KindLimit},
	} {
		t.Run(fmt.Sprintf("%s %d", tt.call, int(tt.errno)), func(t *testing.T) {
			overKernelNetworks(t, func(t *testing.T, addr string) {
				tcp := addr[:3] == "tcp"
				if !tcp && (tt.call == sys.CallSetsockopt || tt.call == sys.CallBind) {
					return // a dial of unix makes none
				}
				ln := mustListen(t, &anysock.ListenConfig{}, addr)
				d := &anysock.Dialer{Retry: anysock.Retry{Attempts: 1}}
				if tcp {
					d.Local = "127.0.0.1:0"
				}
				noDescriptorLost(t, func() {
					plan := &faultPlan{call: tt.call, times: 1, err: tt.errno}
					restore := plan.inject(t)
					c, err := d.Dial(soon(t), urlOf(ln))
					restore()
					if err == nil {
						_ = c.Abort()
						t.Fatal("connected")
					}
					e := errorOfKind(t, "dial", err, tt.kind)
					if !errors.Is(err, tt.errno) || len(e.Attempts) != 1 || e.Op != anysock.OpConnect {
						t.Errorf("%+v: want the connect step, one attempt, and %v", e, tt.errno)
					}
				})
				// By the classical calls: the socket is as it was.
				s := mustSocket(t, ln.Network())
				if tcp {
					must(t, "bind", s.Bind("127.0.0.1:0"))
				}
				plan := &faultPlan{call: tt.call, times: 1, err: tt.errno}
				undo := sys.Inject(plan.decide)
				c, err := s.Connect(soon(t), ln.Addr().String())
				undo()
				if err != nil {
					if !errors.Is(err, tt.errno) {
						t.Errorf("%v does not lead to %v", err, tt.errno)
					}
					c, err = s.Connect(soon(t), ln.Addr().String())
					must(t, "connect again", err)
				}
				_ = c.Abort()
				// And with a retry the dial succeeds, where that is worth it.
				plan = &faultPlan{call: tt.call, times: 1, err: tt.errno}
				restore := plan.inject(t)
				d.Retry = anysock.Retry{Attempts: 2, Interval: time.Millisecond}
				c, err = d.Dial(soon(t), urlOf(ln))
				restore()
				worth := tt.kind != anysock.KindPermission && tt.kind != anysock.KindUnsupported
				if (err == nil) != worth {
					t.Errorf("a second round: %v, worth it: %v", err, worth)
				}
				if err == nil {
					_ = c.Abort()
				}
			})
		})
	}
}

// TestFaultEINTR: an interrupted call is made again, and nobody hears of it.
func TestFaultEINTR(t *testing.T) {
	overKernelNetworks(t, func(t *testing.T, addr string) {
		interrupted := func(call sys.Call, fd int) func() {
			return (&faultPlan{call: call, fd: fd, times: 3, err: syscall.EINTR}).inject(t)
		}
		ln := mustListen(t, &anysock.ListenConfig{}, addr)
		restore := interrupted(sys.CallConnectError, 0)
		c, err := anysock.Dial(soon(t), urlOf(ln))
		restore()
		must(t, "dial", err)
		defer func() { _ = c.Abort() }()
		restore = interrupted(sys.CallAccept, 0)
		peer := mustAccept(t, ln)
		restore()
		fd := descriptorOf(t, c)

		restore = interrupted(sys.CallSend, fd)
		n, err := c.Write([]byte("hello"))
		restore()
		if n != 5 || err != nil {
			t.Errorf("Write = %d, %v", n, err)
		}
		restore = interrupted(sys.CallSendv, fd)
		m, err := c.WriteBuffers([][]byte{[]byte("he"), []byte("llo")})
		restore()
		if m != 5 || err != nil {
			t.Errorf("WriteBuffers = %d, %v", m, err)
		}
		pfd := descriptorOf(t, peer)
		b := make([]byte, 10)
		restore = interrupted(sys.CallPeek, pfd)
		n, err = peer.Peek(soon(t), b[:1])
		restore()
		if n != 1 || err != nil {
			t.Errorf("Peek = %d, %v", n, err)
		}
		restore = interrupted(sys.CallRecv, pfd)
		n, err = peer.ReadAtLeast(soon(t), b, 10)
		restore()
		if n != 10 || string(b) != "hellohello" || err != nil {
			t.Errorf("ReadAtLeast = %d, %v", n, err)
		}
		if _, err := peer.Write([]byte("back")); err != nil {
			t.Fatal(err)
		}
		restore = interrupted(sys.CallPoll, fd)
		r, err := c.Wait(soon(t), anysock.Readable, 1)
		restore()
		if r&anysock.Readable == 0 || err != nil {
			t.Errorf("Wait = %v, %v", r, err)
		}
		restore = interrupted(sys.CallUnread, fd)
		r, err = c.Wait(soon(t), anysock.Readable, 4)
		restore()
		if r&anysock.Readable == 0 || err != nil {
			t.Errorf("Wait for 4 bytes = %v, %v", r, err)
		}
		restore = interrupted(sys.CallShutdown, fd)
		err = c.CloseWrite()
		restore()
		must(t, "CloseWrite", err)
		if s := readAll(t, peer); s != "" {
			t.Errorf("read %q", s)
		}
		must(t, "CloseWrite", peer.CloseWrite())
		if addr[:3] != "tcp" {
			return
		}
		start := time.Now()
		restore = interrupted(sys.CallUnacked, fd)
		end, err := c.Disconnect(soon(t))
		restore()
		if err != nil || end.How != anysock.Graceful || end.Unacked != 0 {
			t.Errorf("Disconnect: %v, %v", end, err)
		}
		if took := time.Since(start); took > anysock.DefaultDrainTimeout/2 {
			t.Errorf("an interrupted call took %s", took)
		}
	})
}

// TestFaultsOfCounting: how much waits to be read cannot be asked: Wait with a
// mark says so, and the connection goes on.
func TestFaultsOfCounting(t *testing.T) {
	overFailures(t, func(t *testing.T, addr string, fl failure) {
		v := newVictim(t, addr, anysock.Options{})
		v.peerWrites(t, 10)
		restore := (&faultPlan{call: sys.CallUnread, fd: v.fd, times: 1, err: fl.errno}).inject(t)
		_, err := v.Wait(soon(t), anysock.Readable, 10)
		restore()
		if !errors.Is(err, fl.errno) {
			t.Errorf("Wait: %v does not lead to %v", err, fl.errno)
		}
		if n, err := v.ReadAtLeast(soon(t), make([]byte, 20), 10); n != 10 || err != nil {
			t.Errorf("ReadAtLeast = %d, %v", n, err)
		}
		v.goesOn(t)
		v.over(t)
	})
}

// TestFaultsOfWaiting: epoll fails; Wait and Selector say so, the connection
// is not touched, and the next wait works.
func TestFaultsOfWaiting(t *testing.T) {
	for _, tt := range []struct {
		errno syscall.Errno
		kind  anysock.Kind
	}{{syscall.EMFILE, anysock.KindLimit}, {syscall.ENOMEM, anysock.KindLimit}, {syscall.ENOSPC, anysock.KindOther}} {
		for skip := range 4 { // poll(2), epoll_create, epoll_ctl, epoll_wait: whichever comes
			t.Run(fmt.Sprintf("errno%d call %d", int(tt.errno), skip), func(t *testing.T) {
				v := newVictim(t, "tcp://127.0.0.1:0", anysock.Options{})
				noDescriptorLost(t, func() {
					plan := &faultPlan{call: sys.CallPoll, skip: skip, times: 1, err: tt.errno}
					undo := sys.Inject(plan.decide)
					ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
					_, err := v.Wait(ctx, anysock.Readable, 1)
					cancel()
					undo()
					if plan.hits > 0 {
						wantErrorKind(t, "Wait", err, tt.kind)
					} else if !errors.Is(err, context.DeadlineExceeded) {
						t.Errorf("Wait: %v", err)
					}
				})
				v.peerWrites(t, 5)
				if n, err := v.ReadAtLeast(soon(t), make([]byte, 10), 5); n != 5 || err != nil {
					t.Errorf("ReadAtLeast = %d, %v", n, err)
				}
				v.over(t)
			})
		}
		t.Run(fmt.Sprintf("selector errno%d", int(tt.errno)), func(t *testing.T) {
			v := newVictim(t, "tcp://127.0.0.1:0", anysock.Options{})
			restore := (&faultPlan{call: sys.CallPoll, times: 1, err: tt.errno}).inject(t)
			_, err := anysock.NewSelector()
			restore()
			wantErrorKind(t, "NewSelector", err, tt.kind)
			s, err := anysock.NewSelector()
			must(t, "NewSelector", err)
			defer s.Close()
			restore = (&faultPlan{call: sys.CallPoll, times: 1, err: tt.errno}).inject(t)
			err = s.Add(v.Conn, anysock.Readable)
			restore()
			wantErrorKind(t, "Add", err, tt.kind)
			must(t, "Add again", s.Add(v.Conn, anysock.Readable))
			restore = (&faultPlan{call: sys.CallPoll, times: 1, err: tt.errno}).inject(t)
			_, err = s.Wait(soon(t))
			restore()
			wantErrorKind(t, "Wait", err, tt.kind)
			if _, err := v.peer.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
			if got, err := s.Wait(soon(t)); err != nil || len(got) != 1 {
				t.Errorf("Wait = %v, %v", got, err)
			}
			must(t, "Remove", s.Remove(v.Conn))
			v.over(t)
		})
	}
}
