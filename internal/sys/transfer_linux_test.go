//go:build linux && !anysock_portable

package sys

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// pair makes two connected FDs over loopback.
func pair(t *testing.T) (a, b *FD) {
	t.Helper()
	s, err := Open(Inet4)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Bind(IPAddr(netip.MustParseAddrPort("127.0.0.1:0"))); err != nil {
		t.Fatal(err)
	}
	l, err := s.Listen(1)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	d, err := Open(Inet4)
	if err != nil {
		t.Fatal(err)
	}
	if a, err = d.Connect(l.LocalAddr()); err != nil {
		t.Fatal(err)
	}
	if err := a.FinishConnect(); err != nil {
		t.Fatal(err)
	}
	if b, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	if a.LocalAddr() != b.PeerAddr() || a.PeerAddr() != b.LocalAddr() {
		t.Fatalf("addresses: %v-%v, %v-%v", a.LocalAddr(), a.PeerAddr(), b.LocalAddr(), b.PeerAddr())
	}
	return a, b
}

func readAll(t *testing.T, fd *FD) []byte {
	t.Helper()
	var out []byte
	buf := make([]byte, 64<<10)
	for {
		n, err := fd.Read(buf)
		out = append(out, buf[:n]...)
		if err == io.EOF {
			return out
		}
		if err != nil {
			t.Errorf("read: %v", err)
			return out
		}
	}
}

// counted is a fault that never fails and counts calls.
func counted(t *testing.T) func(Call) int64 {
	var n [3]atomic.Int64
	index := map[Call]int{CallSplice: 0, CallRecv: 1, CallPipe: 2}
	t.Cleanup(Inject(func(c Call, _ int) error {
		if i, ok := index[c]; ok {
			n[i].Add(1)
		}
		return nil
	}))
	return func(c Call) int64 { return n[index[c]].Load() }
}

func transfer(t *testing.T, dst, src *FD) (tr *Transfer, in, out *int64) {
	t.Helper()
	in, out = new(int64), new(int64)
	tr, err := NewTransfer(dst, src, func(n int) { *in += int64(n) }, func(n int) { *out += int64(n) })
	if err != nil {
		t.Fatal(err)
	}
	return tr, in, out
}

// run moves everything, and tells what is left and which side failed.
func run(tr *Transfer) (left []byte, readErr, writeErr error) {
	for {
		if err := tr.Fill(); err == io.EOF {
			return nil, nil, nil
		} else if err != nil {
			return nil, err, nil
		}
		if err := tr.Flush(); err != nil {
			return tr.Left(), nil, err
		}
	}
}

// TestTransfer: every size arrives whole, small ones without splice, bulk with
// it, and without pipes by copying.
func TestTransfer(t *testing.T) {
	for _, c := range []struct {
		name   string
		size   int
		noPipe bool
		splice bool
	}{
		{"nothing", 0, false, false},
		{"one byte", 1, false, false},
		{"small", 1000, false, false},
		{"bulk", 8 << 20, false, true},
		{"bulk without pipes", 8 << 20, true, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			client, src := pair(t)
			dst, server := pair(t)
			var calls func(Call) int64
			if c.noPipe {
				CloseIdlePipes()
				t.Cleanup(Inject(func(call Call, _ int) error {
					if call == CallPipe {
						return syscall.EMFILE
					}
					return nil
				}))
				calls = func(Call) int64 { return 0 }
			} else {
				calls = counted(t)
			}
			want := make([]byte, c.size)
			rand.Read(want)
			go func() {
				_, _ = client.Write(want)
				client.CloseWrite()
			}()
			done := make(chan []byte)
			go func() { done <- readAll(t, server) }()
			tr, in, out := transfer(t, dst, src)
			left, rerr, werr := run(tr)
			if rerr != nil || werr != nil || len(left) != 0 {
				t.Fatalf("left %d, %v, %v", len(left), rerr, werr)
			}
			dst.CloseWrite()
			if got := <-done; !bytes.Equal(got, want) {
				t.Errorf("%d bytes arrived, want %d, equal %v", len(got), len(want), bytes.Equal(got, want))
			}
			if *in != int64(c.size) || *out != int64(c.size) {
				t.Errorf("counted %d in, %d out", *in, *out)
			}
			if got := calls(CallSplice) > 0; !c.noPipe && got != c.splice {
				t.Errorf("spliced: %v, want %v", got, c.splice)
			}
		})
	}
}

// TestTransferKeepsWhatCouldNotBeSent: bytes between the two sockets are not
// lost when the sending side stops, and the error names that side.
func TestTransferKeepsWhatCouldNotBeSent(t *testing.T) {
	client, src := pair(t)
	dst, server := pair(t)
	want := make([]byte, 16<<20)
	rand.Read(want)
	go func() {
		_, _ = client.Write(want)
		client.CloseWrite()
	}()
	tr, in, out := transfer(t, dst, src)
	dst.SetWriteDeadline(time.Now().Add(200 * time.Millisecond)) // nobody reads
	left, rerr, werr := run(tr)
	if rerr != nil || !errors.Is(werr, os.ErrDeadlineExceeded) {
		t.Fatalf("errors %v, %v", rerr, werr)
	}
	if *in != *out+int64(len(left)) {
		t.Fatalf("%d received, %d sent, %d left", *in, *out, len(left))
	}
	dst.SetWriteDeadline(time.Time{})
	done := make(chan []byte)
	go func() { done <- readAll(t, server) }()
	if _, err := dst.Write(left); err != nil {
		t.Fatal(err)
	}
	if _, rerr, werr := run(tr); rerr != nil || werr != nil {
		t.Fatal(rerr, werr)
	}
	dst.CloseWrite()
	if got := <-done; !bytes.Equal(got, want) {
		t.Errorf("%d bytes arrived, want %d", len(got), len(want))
	}
}

// TestTransferNamesTheSide: a reset of either leg is the error of that leg.
func TestTransferNamesTheSide(t *testing.T) {
	client, src := pair(t)
	dst, server := pair(t)
	_, _ = client.Write([]byte("x"))
	client.Abort()
	tr, _, _ := transfer(t, dst, src)
	if _, rerr, werr := run(tr); !errors.Is(rerr, syscall.ECONNRESET) || werr != nil {
		t.Errorf("source reset: %v, %v", rerr, werr)
	}
	client, src = pair(t)
	server.Abort()
	_, _ = client.Write([]byte("x"))
	tr, _, _ = transfer(t, dst, src)
	if _, rerr, werr := run(tr); rerr != nil || ClassOf(werr) != Reset {
		t.Errorf("destination reset: %v, %v", rerr, werr)
	}
}

// TestIdleTransferHoldsNothing: no pipe while nothing flows.
func TestIdleTransferHoldsNothing(t *testing.T) {
	client, src := pair(t)
	dst, server := pair(t)
	tr, _, _ := transfer(t, dst, src)
	done := make(chan struct{})
	go func() { _, _, _ = run(tr); close(done) }()
	want := make([]byte, 1<<20)
	_, _ = client.Write(want[:len(want)/2])
	_, _ = client.Write(want[len(want)/2:])
	for n := 0; n < len(want); {
		m, err := server.Read(want)
		if err != nil {
			t.Fatal(err)
		}
		n += m
	}
	// The last byte is out, so the next wait for the source gives the pipe back.
	deadline := time.After(5 * time.Second)
	for {
		pipes.Lock()
		n := len(pipes.idle)
		pipes.Unlock()
		if n == 1 {
			break
		}
		select {
		case <-deadline:
			t.Fatal("the pipe was not given back")
		case <-time.After(time.Millisecond):
		}
	}
	client.CloseWrite()
	<-done
	CloseIdlePipes()
}

// TestPoller: level and edge, several descriptors, a deadline, Close.
func TestPoller(t *testing.T) {
	p, err := NewPoller()
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	a, b := pair(t)
	if err := p.Add(b, 1<<40|7, Readable, true); err != nil {
		t.Fatal(err)
	}
	p.SetDeadline(time.Now().Add(10 * time.Millisecond))
	if evs, err := p.Wait(nil); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("nothing is ready: %v, %v", evs, err)
	}
	p.SetDeadline(time.Time{})
	_, _ = a.Write([]byte("x"))
	evs, err := p.Wait(nil)
	if err != nil || len(evs) != 1 || evs[0].Key != 1<<40|7 || evs[0].Ready != Readable {
		t.Fatalf("%v, %v", evs, err)
	}
	p.SetDeadline(time.Now().Add(10 * time.Millisecond))
	if evs, err := p.Wait(nil); err == nil {
		t.Fatalf("edge-triggered, and nothing new: %v", evs)
	}
	p.SetDeadline(time.Time{})
	if err := p.Modify(b, 9, Readable|PeerEnd, false); err != nil {
		t.Fatal(err)
	}
	a.Abort()
	evs, err = p.Wait(nil)
	if err != nil || evs[0].Key != 9 || evs[0].Ready&(HungUp|Failed) != HungUp|Failed {
		t.Fatalf("after a reset: %v, %v", evs, err)
	}
	// Looking has not consumed the error.
	if _, err := b.Read(make([]byte, 2)); err != nil {
		t.Fatalf("the byte before the reset: %v", err)
	}
	if _, err := b.Read(make([]byte, 2)); !errors.Is(err, syscall.ECONNRESET) {
		t.Fatalf("read: %v", err)
	}
	b.Close()
	done := make(chan error)
	go func() { _, err := p.Wait(nil); done <- err }()
	p.Close()
	if err := <-done; !errors.Is(err, net.ErrClosed) {
		t.Fatalf("after Close: %v", err)
	}
}
