//go:build !anysock_portable

package anysock_test

import (
	"errors"
	"io"
	"testing"
	"time"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/internal/sys"
)

// This file makes receiving calls fail.

// readers are the ways to receive; each reads until an error and says how
// many bytes it got. Nothing but Peek leaves bytes behind.
var readers = []struct {
	name string
	read func(t testing.TB, v *victim) (int64, error)
}{
	{"Read", func(_ testing.TB, v *victim) (n int64, err error) {
		for b := make([]byte, 300); ; {
			m, err := v.Read(b)
			if n += int64(m); err != nil {
				return n, err
			}
		}
	}},
	{"ReadAtLeast", func(t testing.TB, v *victim) (int64, error) {
		n, err := v.ReadAtLeast(soon(t), make([]byte, 10_000), 10_000)
		return int64(n), err
	}},
	{"ActiveRead", func(t testing.TB, v *victim) (n int64, err error) {
		err = v.ActiveRead(soon(t), func(p []byte) error { n += int64(len(p)); return nil })
		if err == nil {
			err = io.EOF
		}
		return n, err
	}},
	{"WriteTo", func(_ testing.TB, v *victim) (int64, error) { return v.WriteTo(io.Discard) }},
}

// TestFaultsOfReading: recv(2) fails before the first byte, or after a
// thousand: the count is right, the error says why, a failure is the ending,
// and passing trouble is none.
func TestFaultsOfReading(t *testing.T) {
	overFailures(t, func(t *testing.T, addr string, fl failure) {
		for _, r := range readers {
			for _, before := range []int{0, 1000} {
				noDescriptorLost(t, func() {
					v := newVictim(t, addr, anysock.Options{})
					if before > 0 {
						v.peerWrites(t, before)
					}
					skip := 0
					if before > 0 {
						skip = 1
						if r.name == "Read" {
							skip = 4 // 300 at a time
						}
					}
					restore := (&faultPlan{call: sys.CallRecv, fd: v.fd, skip: skip, times: 1, err: fl.errno}).inject(t)
					v.SetReadDeadline(time.Now().Add(tooLong))
					n, err := r.read(t, v)
					restore()
					if n != int64(before) || v.Received() != int64(before) {
						t.Errorf("%s after %d bytes: got %d, counted %d", r.name, before, n, v.Received())
					}
					if errors.Is(err, io.EOF) {
						t.Errorf("%s after %d bytes: a false end", r.name, before)
					}
					v.wantFailure(t, r.name, err, fl)
					if fl.how == anysock.NotEnded {
						v.goesOn(t)
					}
					v.over(t)
				})
			}
		}
	})
}

// goesOn checks that the connection works both ways and ends gracefully.
func (v *victim) goesOn(t testing.TB) {
	t.Helper()
	before := v.Received()
	v.peerWrites(t, 77)
	must(t, "the peer's CloseWrite", v.peer.CloseWrite())
	v.SetReadDeadline(time.Now().Add(tooLong))
	n, err := io.Copy(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{v})
	if n != 77 || err != nil || v.Received() != before+77 {
		t.Errorf("afterwards read %d, %v", n, err)
	}
	if m, err := v.Write(make([]byte, 88)); m != 88 || err != nil {
		t.Errorf("afterwards Write = %d, %v", m, err)
	}
	must(t, "CloseWrite", v.CloseWrite())
	v.peer.SetReadDeadline(time.Now().Add(tooLong))
	if m, err := io.Copy(io.Discard, struct{ io.Reader }{v.peer}); m < 88 || err != nil {
		t.Errorf("the peer read %d, %v", m, err)
	}
	end, err := v.Disconnect(soon(t))
	if err != nil || end.How != anysock.Graceful {
		t.Errorf("afterwards Disconnect: %v, %v", end, err)
	}
	v.wantOneEnd(t, "afterwards")
}

// TestFaultsOfPeeking: the same for recv(2) with MSG_PEEK; what waits is not
// consumed.
func TestFaultsOfPeeking(t *testing.T) {
	overFailures(t, func(t *testing.T, addr string, fl failure) {
		v := newVictim(t, addr, anysock.Options{})
		v.peerWrites(t, 10)
		restore := (&faultPlan{call: sys.CallPeek, fd: v.fd, times: 1, err: fl.errno}).inject(t)
		n, err := v.Peek(soon(t), make([]byte, 5))
		restore()
		if n != 0 || v.Received() != 0 {
			t.Errorf("Peek = %d, received %d", n, v.Received())
		}
		wantErrorKind(t, "Peek", err, fl.kind)
		if !errors.Is(err, fl.errno) {
			t.Errorf("%v does not lead to %v", err, fl.errno)
		}
		if fl.how == anysock.NotEnded {
			if n, err := v.ReadAtLeast(soon(t), make([]byte, 20), 10); n != 10 || err != nil {
				t.Errorf("ReadAtLeast = %d, %v", n, err)
			}
			v.goesOn(t)
		}
		v.over(t)
	})
}

// TestFaultsOfDraining: recv(2) fails in Disconnect, or in the background
// after Close.
func TestFaultsOfDraining(t *testing.T) {
	overFailures(t, func(t *testing.T, addr string, fl failure) {
		for _, background := range []bool{false, true} {
			noDescriptorLost(t, func() {
				v := newVictim(t, addr, anysock.Options{})
				if n, err := v.Write(make([]byte, 50)); n != 50 || err != nil {
					t.Fatal(n, err)
				}
				v.peerWrites(t, 100) // drained by the first recv(2)
				restore := (&faultPlan{call: sys.CallRecv, fd: v.fd, skip: 1, times: 1, err: fl.errno}).inject(t)
				if background {
					must(t, "Close", v.Close())
					ends, err := v.group.Wait(soon(t))
					restore()
					await(t, "the ending", v.Done())
					end := v.End()
					if end.How.Complete() && fl.how != anysock.NotEnded || end.How == anysock.Graceful {
						t.Errorf("in the background: %v", end)
					}
					if fl.how != anysock.NotEnded {
						v.wantEnd(t, "in the background", fl)
					} else if end.Err != nil {
						wantErrorKind(t, "in the background", end.Err, fl.kind)
					}
					var w *anysock.WaitError
					if !end.How.Complete() && (!errors.As(err, &w) || w.Incomplete != 1 || w.Pending != 0) {
						t.Errorf("Wait says %v", err)
					}
					if len(ends) != 1 || ends[0].How != end.How {
						t.Errorf("Wait lists %v", ends)
					}
					v.wantOneEnd(t, "in the background")
				} else {
					end, err := v.Disconnect(soon(t))
					restore()
					v.wantFailure(t, "Disconnect", err, fl)
					if fl.how == anysock.NotEnded {
						if end.How != anysock.NotEnded {
							t.Errorf("Disconnect = %v", end)
						}
						// It can be tried again.
						must(t, "the peer's CloseWrite", v.peer.CloseWrite())
						end, err = v.Disconnect(soon(t))
						if err != nil || end.How != anysock.Graceful || end.Drained != 100 || end.Received != 100 {
							t.Errorf("Disconnect again: %v, %v", end, err)
						}
						v.wantOneEnd(t, "Disconnect")
					} else if end.Drained != 100 || end.Received != 100 || end.Sent != 50 {
						t.Errorf("Disconnect = %v", end)
					}
				}
				// What we had sent is with the peer all the same.
				if n, err := v.peer.ReadAtLeast(soon(t), make([]byte, 100), 50); n != 50 || err != nil {
					t.Errorf("the peer reads %d, %v", n, err)
				}
				v.over(t)
			})
		}
	})
}
