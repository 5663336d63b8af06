//go:build !anysock_portable

package anysock_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/internal/sys"
)

// This file makes sending calls fail.

// smallBuffers makes a few hundred kilobytes too much for one send(2).
var smallBuffers = anysock.Options{SendBuffer: 16 << 10, ReceiveBuffer: 16 << 10}

const bulk = 1 << 20

// writers are the ways to send bulk, each through its own system call.
var writers = []struct {
	name  string
	call  sys.Call
	write func(t testing.TB, v *victim) (int64, error)
}{
	{"Write", sys.CallSend, func(_ testing.TB, v *victim) (int64, error) {
		n, err := v.Write(make([]byte, bulk))
		return int64(n), err
	}},
	{"WriteBuffers", sys.CallSendv, func(_ testing.TB, v *victim) (int64, error) {
		return v.WriteBuffers([][]byte{make([]byte, bulk/2), nil, make([]byte, bulk/2)})
	}},
	{"ReadFrom a reader", sys.CallSend, func(_ testing.TB, v *victim) (int64, error) {
		return v.ReadFrom(bytes.NewReader(make([]byte, bulk)))
	}},
	{"ReadFrom a file", sys.CallSendfile, func(t testing.TB, v *victim) (int64, error) {
		name := filepath.Join(t.(*testing.T).TempDir(), "f")
		must(t, "write a file", os.WriteFile(name, make([]byte, bulk), 0o600))
		f, err := os.Open(name)
		must(t, "open", err)
		defer f.Close()
		return v.ReadFrom(f)
	}},
}

// TestFaultsOfWriting: the sending call fails at once, or after some bytes
// went out: the count is what the kernel took, and the error is never nil.
func TestFaultsOfWriting(t *testing.T) {
	overFailures(t, func(t *testing.T, addr string, fl failure) {
		for _, w := range writers {
			for skip := range 2 {
				noDescriptorLost(t, func() {
					v := newVictim(t, addr, smallBuffers)
					v.SetWriteDeadline(time.Now().Add(tooLong))
					restore := (&faultPlan{call: w.call, fd: v.fd, skip: skip, times: 1, err: fl.errno}).inject(t)
					n, err := w.write(t, v)
					restore()
					switch {
					case n >= bulk:
						t.Errorf("%s: nothing failed", w.name)
					case skip == 0 && n != 0, skip == 1 && n == 0:
						t.Errorf("%s: %d bytes went out before call %d failed", w.name, n, skip)
					}
					if v.Sent() != n {
						t.Errorf("%s: returned %d, counted %d", w.name, n, v.Sent())
					}
					// The peer has exactly these bytes.
					if n > 0 {
						if m, err := v.peer.ReadAtLeast(soon(t), make([]byte, n+1), int(n)); int64(m) != n || err != nil {
							t.Errorf("%s: the peer reads %d of %d, %v", w.name, m, n, err)
						}
					}
					v.wantFailure(t, w.name, err, fl)
					if fl.how == anysock.NotEnded {
						v.goesOn(t)
					}
					v.over(t)
				})
			}
		}
	})
}

// TestFaultWithUnreadBytes: a write finds that the connection is dead while
// bytes wait to be read: those still come, and then the failure, never an end
// of file.
func TestFaultWithUnreadBytes(t *testing.T) {
	overFailures(t, func(t *testing.T, addr string, fl failure) {
		if fl.how == anysock.NotEnded {
			return
		}
		v := newVictim(t, addr, anysock.Options{})
		v.peerWrites(t, 1000)
		restore := (&faultPlan{call: sys.CallSend, fd: v.fd, times: 1, err: fl.errno}).inject(t)
		_, err := v.Write([]byte("x"))
		restore()
		wantErrorKind(t, "Write", err, fl.kind)
		// The peer's real end follows, which after a failure is a false one,
		// unless the write's error was EPIPE, which says that the end had come.
		must(t, "the peer's CloseWrite", v.peer.CloseWrite())
		v.SetReadDeadline(time.Now().Add(tooLong))
		n, err := io.Copy(io.Discard, struct{ io.Reader }{v})
		if n != 1000 {
			t.Errorf("read %d bytes of 1000", n)
		}
		if err == nil && !errors.Is(fl.errno, syscall.EPIPE) {
			t.Error("after a failure comes an end of file")
		}
		if err != nil {
			wantErrorKind(t, "Read", err, fl.kind)
			await(t, "the ending", v.Done())
			v.wantEnd(t, "Read", fl)
		}
		v.over(t)
	})
}

// spliceCalls are the calls of a splice and whose failure they are.
var spliceCalls = []struct {
	name   string
	call   sys.Call
	onDst  bool // the descriptor of the receiving side or of the sending one
	small  bool // a message, that is not spliced but copied
	afresh int  // calls before
}{
	{"recv", sys.CallRecv, false, true, 1},
	{"send", sys.CallSend, true, true, 0},
	{"splice in", sys.CallSplice, false, false, 1},
	{"splice out", sys.CallSplice, true, false, 1},
}

// TestFaultsOfSplicing: ReadFrom between two connections: the error says which
// side failed, the other one lives, and what was received and could not be
// sent is there for the next reader.
func TestFaultsOfSplicing(t *testing.T) {
	for _, sc := range spliceCalls {
		t.Run(sc.name, func(t *testing.T) {
			overFailures(t, func(t *testing.T, addr string, fl failure) {
				noDescriptorLost(t, func() {
					src, dst := newVictim(t, addr, anysock.Options{}), newVictim(t, addr, anysock.Options{})
					size := 500_000
					if sc.small {
						size = 100
					}
					failing, other := src, dst
					if sc.onDst {
						failing, other = dst, src
					}
					wrote := make(chan error, 1)
					go func() {
						_, err := src.peer.Write(make([]byte, size))
						if err == nil && !sc.onDst && sc.small {
							// The second receive is the one that fails.
							_, err = src.peer.Write(make([]byte, size))
						}
						wrote <- err
					}()
					got := make(chan int64, 1)
					go func() {
						dst.peer.SetReadDeadline(time.Now().Add(tooLong))
						n, _ := io.Copy(io.Discard, struct{ io.Reader }{dst.peer})
						got <- n
					}()
					restore := (&faultPlan{call: sc.call, fd: failing.fd, skip: sc.afresh, times: 1, err: fl.errno}).inject(t)
					n, err := dst.ReadFrom(src.Conn)
					restore()
					if n != dst.Sent() || n > src.Received() {
						t.Errorf("ReadFrom = %d; received %d, sent %d", n, src.Received(), dst.Sent())
					}
					e := errorOfKind(t, "ReadFrom", err, fl.kind)
					want := anysock.OpRead
					if sc.onDst {
						want = anysock.OpWrite
					}
					if e.Op != want || !errors.Is(err, fl.errno) {
						t.Errorf("the error is %v, want that of a %s", err, want)
					}
					select {
					case <-other.Done():
						t.Errorf("the other side ended, too: %v", other.End())
					default:
					}
					if fl.how != anysock.NotEnded {
						await(t, "the ending", failing.Done())
						failing.wantEnd(t, "ReadFrom", fl)
					}
					if sc.onDst {
						// Nothing that came in is lost.
						left := src.Received() - n
						if left > 0 {
							if m, err := src.ReadAtLeast(soon(t), make([]byte, left), int(left)); int64(m) != left || err != nil {
								t.Errorf("of %d bytes on the way %d are left, %v", left, m, err)
							}
						}
					}
					src.over(t)
					dst.over(t)
					_ = await(t, "the source", wrote) // fails when the victim aborts
					if m := await(t, "the destination", got); m > n {
						t.Errorf("the destination's peer got %d bytes, ReadFrom counted %d", m, n)
					}
				})
			})
		})
	}
}

// TestFaultOfPipe: without a pipe ReadFrom copies.
func TestFaultOfPipe(t *testing.T) {
	sys.CloseIdlePipes()
	for _, fl := range failures {
		src, dst := newVictim(t, "tcp://127.0.0.1:0", anysock.Options{}), newVictim(t, "tcp://127.0.0.1:0", anysock.Options{})
		go func() {
			if _, err := src.peer.Write(make([]byte, bulk)); err != nil {
				t.Errorf("Write: %v", err)
			}
			if err := src.peer.CloseWrite(); err != nil {
				t.Errorf("CloseWrite: %v", err)
			}
		}()
		got := make(chan int64, 1)
		go func() {
			dst.peer.SetReadDeadline(time.Now().Add(tooLong))
			n, err := io.Copy(io.Discard, struct{ io.Reader }{dst.peer})
			if err != nil {
				t.Errorf("Read: %v", err)
			}
			got <- n
		}()
		restore := (&faultPlan{call: sys.CallPipe, err: fl.errno}).inject(t)
		n, err := dst.ReadFrom(src.Conn)
		restore()
		if n != bulk || err != nil {
			t.Errorf("%v: ReadFrom = %d, %v", fl.errno, n, err)
		}
		must(t, "CloseWrite", dst.CloseWrite())
		if m := await(t, "the destination", got); m != bulk {
			t.Errorf("%v: the destination got %d bytes", fl.errno, m)
		}
		src.over(t)
		dst.over(t)
	}
}
