//go:build !anysock_portable

package anysock_test

import (
	"errors"
	"fmt"
	"io"
	"syscall"
	"testing"
	"time"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/internal/sys"
)

// This file makes the calls fail that end a connection: shutdown(2), and the
// question what is acknowledged.

// TestFaultsOfCloseWrite: a half-close that failed is said to have failed;
// where the trouble passes it can be made again.
func TestFaultsOfCloseWrite(t *testing.T) {
	overFailures(t, func(t *testing.T, addr string, fl failure) {
		noDescriptorLost(t, func() {
			v := newVictim(t, addr, anysock.Options{})
			if _, err := v.Write([]byte("tail")); err != nil {
				t.Fatal(err)
			}
			restore := (&faultPlan{call: sys.CallShutdown, fd: v.fd, times: 1, err: fl.errno}).inject(t)
			err := v.CloseWrite()
			restore()
			wantErrorKind(t, "CloseWrite", err, fl.kind)
			if fl.how != anysock.NotEnded {
				if _, err := v.Write([]byte("x")); err == nil {
					t.Error("a write succeeds after the failure")
				}
				_, err = v.Disconnect(soon(t))
				wantErrorKind(t, "Disconnect", err, fl.kind)
				v.wantEnd(t, "Disconnect", fl)
				v.over(t)
				return
			}
			must(t, "CloseWrite again", v.CloseWrite())
			if s := readAll(t, v.peer); s != "tail" {
				t.Errorf("the peer read %q", s)
			}
			must(t, "the peer's CloseWrite", v.peer.CloseWrite())
			if end, err := v.Disconnect(soon(t)); err != nil || end.How != anysock.Graceful {
				t.Errorf("Disconnect: %v, %v", end, err)
			}
			v.over(t)
		})
	})
}

// TestFaultOfShutdownNotConnected: ENOTCONN says that the connection is dead
// already; the reason is the reset that nobody has read.
func TestFaultOfShutdownNotConnected(t *testing.T) {
	for _, background := range []bool{false, true} {
		v := newVictim(t, "tcp://127.0.0.1:0", anysock.Options{})
		restore := (&faultPlan{call: sys.CallShutdown, fd: v.fd, times: 1, err: syscall.ENOTCONN}).inject(t)
		if background {
			must(t, "Close", v.Close())
			_, err := v.group.Wait(soon(t))
			restore()
			var w *anysock.WaitError
			if !errors.As(err, &w) || w.Incomplete != 1 {
				t.Errorf("Wait: %v", err)
			}
		} else {
			_, err := v.Disconnect(soon(t))
			restore()
			wantErrorKind(t, "Disconnect", err, anysock.KindReset)
		}
		if end := v.End(); end.How != anysock.AbortedByPeer {
			t.Errorf("the end is %v", end)
		}
		v.wantOneEnd(t, "ENOTCONN")
		v.over(t)
	}
}

// TestCloseAfterReset: a reset that came before Close, and that nobody has
// read, is what the background close finds and records.
func TestCloseAfterReset(t *testing.T) {
	for _, how := range []string{"close", "disconnect"} {
		v := newVictim(t, "tcp://127.0.0.1:0", anysock.Options{})
		if _, err := v.Write([]byte("tail")); err != nil {
			t.Fatal(err)
		}
		must(t, "the peer's Abort", v.peer.Abort())
		eventually(t, "the reset", func() bool {
			r, err := v.Wait(soon(t), anysock.PeerEnd, 1)
			return err == nil && r&(anysock.HungUp|anysock.Failed) != 0
		})
		if how == "close" {
			must(t, "Close", v.Close())
			_, err := v.group.Wait(soon(t))
			var w *anysock.WaitError
			if !errors.As(err, &w) || w.Incomplete != 1 {
				t.Errorf("Wait: %v", err)
			}
		} else {
			_, err := v.Disconnect(soon(t))
			wantErrorKind(t, "Disconnect", err, anysock.KindReset)
		}
		if end := v.End(); end.How != anysock.AbortedByPeer || end.By != anysock.Peer || !errors.Is(end.Err, syscall.ECONNRESET) {
			t.Errorf("%s: the end is %v, by %v, %v", how, end, end.By, end.Err)
		}
		v.wantOneEnd(t, how)
		v.over(t)
	}
}

// TestFaultsOfEndingInDisconnect: shutdown(2) fails in Disconnect and in the
// background of Close.
func TestFaultsOfEndingInDisconnect(t *testing.T) {
	overFailures(t, func(t *testing.T, addr string, fl failure) {
		for _, background := range []bool{false, true} {
			noDescriptorLost(t, func() {
				v := newVictim(t, addr, anysock.Options{})
				if _, err := v.Write([]byte("tail")); err != nil {
					t.Fatal(err)
				}
				restore := (&faultPlan{call: sys.CallShutdown, fd: v.fd, times: 1, err: fl.errno}).inject(t)
				if !background {
					end, err := v.Disconnect(soon(t))
					restore()
					wantErrorKind(t, "Disconnect", err, fl.kind)
					if fl.how != anysock.NotEnded {
						v.wantEnd(t, "Disconnect", fl)
						v.over(t)
						return
					}
					if end.How != anysock.NotEnded {
						t.Errorf("Disconnect = %v", end)
					}
					must(t, "the peer's CloseWrite", v.peer.CloseWrite())
					end, err = v.Disconnect(soon(t))
					if err != nil || end.How != anysock.Graceful {
						t.Errorf("Disconnect again: %v, %v", end, err)
					}
					if s := readAll(t, v.peer); s != "tail" {
						t.Errorf("the peer read %q", s)
					}
				} else {
					must(t, "Close", v.Close())
					_, err := v.group.Wait(soon(t))
					restore()
					end := v.End()
					if end.How.Complete() || end.Err == nil {
						t.Errorf("in the background: %v, Wait says %v", end, err)
					}
					wantErrorKind(t, "in the background", end.Err, fl.kind)
					if !errors.Is(end.Err, fl.errno) {
						t.Errorf("%v does not lead to %v", end.Err, fl.errno)
					}
					var w *anysock.WaitError
					if !errors.As(err, &w) || w.Incomplete != 1 || w.Pending != 0 {
						t.Errorf("Wait says %v", err)
					}
				}
				v.wantOneEnd(t, "the ending")
				v.over(t)
			})
		}
	})
}

// TestFaultsOfUnacked: whether our bytes were acknowledged cannot be asked:
// the ending does not claim that they were.
func TestFaultsOfUnacked(t *testing.T) {
	for _, fl := range failures {
		for _, background := range []bool{false, true} {
			t.Run(fmt.Sprintf("errno%d background=%v", int(fl.errno), background), func(t *testing.T) {
				noDescriptorLost(t, func() {
					v := newVictim(t, "tcp://127.0.0.1:0", anysock.Options{})
					if _, err := v.Write([]byte("tail")); err != nil {
						t.Fatal(err)
					}
					must(t, "the peer's CloseWrite", v.peer.CloseWrite())
					restore := (&faultPlan{call: sys.CallUnacked, fd: v.fd, err: fl.errno}).inject(t)
					if background {
						must(t, "Close", v.Close())
						_, err := v.group.Wait(soon(t))
						restore()
						if end := v.End(); end.How == anysock.Graceful || end.AckedBy != anysock.AckedNone {
							t.Errorf("in the background: %v acked by %v, %v", end, end.AckedBy, err)
						}
						v.wantOneEnd(t, "in the background")
					} else {
						end, err := v.Disconnect(soon(t))
						restore()
						wantErrorKind(t, "Disconnect", err, fl.kind)
						if end.How.Complete() || end.AckedBy != anysock.AckedNone {
							t.Errorf("Disconnect = %v acked by %v", end, end.AckedBy)
						}
						if fl.how == anysock.NotEnded {
							end, err := v.Disconnect(soon(t))
							if err != nil || end.How != anysock.Graceful || end.AckedBy != anysock.AckedKernel {
								t.Errorf("Disconnect again: %v acked by %v, %v", end, end.AckedBy, err)
							}
						}
						v.wantOneEnd(t, "Disconnect")
					}
					// The bytes arrived all the same.
					if s := readAll(t, v.peer); s != "tail" {
						t.Errorf("the peer read %q", s)
					}
					v.over(t)
				})
			})
		}
	}
}

// TestFaultsOfLookingForLoss: the watch for silent peers cannot ask the
// kernel: the connection goes on.
func TestFaultsOfLookingForLoss(t *testing.T) {
	for _, call := range []sys.Call{sys.CallInfo, sys.CallUnacked} {
		for _, fl := range failures {
			options := smallBuffers
			options.LostAfter = 100 * time.Millisecond // looked at every 50 ms
			v := newVictim(t, "tcp://127.0.0.1:0", options)
			asked := make(chan struct{}, 100)
			restore := sys.Inject(func(c sys.Call, fd int) error {
				if c != call || fd != v.fd {
					return nil
				}
				select {
				case asked <- struct{}{}:
				default:
				}
				return fl.errno
			})
			// Something is owed: the peer does not read.
			wrote := make(chan error, 1)
			go func() {
				_, err := v.Write(make([]byte, bulk))
				wrote <- err
			}()
			await(t, "the first look", asked)
			await(t, "the second look", asked)
			restore()
			if n, err := io.ReadFull(v.peer, make([]byte, bulk)); n != bulk || err != nil {
				t.Errorf("%s %v: the peer read %d, %v", call, fl.errno, n, err)
			}
			must(t, "Write", await(t, "Write", wrote))
			v.goesOn(t)
			v.over(t)
		}
	}
}

// TestFaultOfAbort: the linger option cannot be set: the peer hears a reset all
// the same, and the descriptor is released.
func TestFaultOfAbort(t *testing.T) {
	noDescriptorLost(t, func() {
		v := newVictim(t, "tcp://127.0.0.1:0", anysock.Options{})
		restore := (&faultPlan{call: sys.CallSetsockopt, fd: v.fd, times: 1, err: syscall.ENOMEM}).inject(t)
		err := v.Abort()
		restore()
		must(t, "Abort", err)
		if _, err := v.peer.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("the peer reads %v, not a reset", err)
		}
		if end := v.End(); end.How != anysock.AbortedByUs {
			t.Errorf("the end is %v", end)
		}
		v.wantOneEnd(t, "Abort")
		v.over(t)
	})
}

// TestFaultOfLowWaterMark: the mark is a hint: without it the result is exact.
func TestFaultOfLowWaterMark(t *testing.T) {
	overFailures(t, func(t *testing.T, addr string, fl failure) {
		v := newVictim(t, addr, anysock.Options{})
		v.peerWrites(t, 10)
		restore := (&faultPlan{call: sys.CallSetsockopt, fd: v.fd, err: fl.errno}).inject(t)
		type result struct {
			n   int
			err error
		}
		got := make(chan result, 1)
		go func() {
			n, err := v.ReadAtLeast(soon(t), make([]byte, 100), 20)
			got <- result{n, err}
		}()
		eventually(t, "the first bytes to be taken", func() bool { return v.Received() == 10 })
		if _, err := v.peer.Write(make([]byte, 10)); err != nil {
			t.Fatal(err)
		}
		r := await(t, "ReadAtLeast", got)
		restore()
		if r.n != 20 || r.err != nil {
			t.Errorf("ReadAtLeast = %d, %v", r.n, r.err)
		}
		v.goesOn(t)
		v.over(t)
	})
}
