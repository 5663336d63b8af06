// This file tests endings that the conformance suite cannot make: processes
// that exit or die, silence, and a reset that got lost.

package quic

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"

	"github.com/anysock/anysock"
)

const (
	childVariable = "ANYSOCK_QUIC_CHILD"
	childBytes    = 300_000
)

// childMain is the other process of the tests below; it returns its exit
// status.
func childMain(role string) int {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	var err error
	switch role {
	case "send":
		err = childSend(ctx)
	case "hang":
		err = childHang(ctx)
	case "quiet":
		err = childQuiet()
	default:
		err = errors.New("no such role: " + role)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// childSend exits as soon as its Disconnect has returned: what that called
// graceful has to be there.
func childSend(ctx context.Context) error {
	c, err := anysock.Dial(ctx, os.Getenv("ADDR"))
	if err != nil {
		return err
	}
	if _, err := c.Write(bytes.Repeat([]byte("x"), childBytes)); err != nil {
		return err
	}
	e, err := c.Disconnect(ctx)
	fmt.Println(e.How, err)
	return nil
}

// childHang accepts one connection, sends half a message, and waits to be
// killed.
func childHang(ctx context.Context) error {
	ln, err := anysock.Listen(ctx, os.Getenv("ADDR"))
	if err != nil {
		return err
	}
	fmt.Println(ln.Addr())
	c, err := ln.AcceptContext(ctx)
	if err != nil {
		return err
	}
	if _, err := c.Write([]byte("half a mess")); err != nil {
		return err
	}
	<-ctx.Done()
	return ctx.Err()
}

// childQuiet makes the library set itself up on a socket whose buffers cannot
// be what it wants.
func childQuiet() error {
	pc, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return err
	}
	ep, err := newEndpoint(fixedBuffers{&listening{UDPConn: pc}})
	if err != nil {
		return err
	}
	defer ep.close()
	_, err = ep.tr.WriteTo([]byte("x"), pc.LocalAddr())
	return err
}

// fixedBuffers is a socket whose buffers do not grow, as with low limits.
type fixedBuffers struct{ *listening }

func (fixedBuffers) SetReadBuffer(int) error  { return nil }
func (fixedBuffers) SetWriteBuffer(int) error { return nil }

// child runs childMain in another process; a wrapper goes before it.
func child(t *testing.T, role, addr string, wrapper ...string) (*exec.Cmd, *bytes.Buffer) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	args := slices.Concat(wrapper, []string{self})
	cmd := exec.CommandContext(bound(t), args[0], args[1:]...)
	cmd.Env = append(os.Environ(), childVariable+"="+role, "ADDR="+addr)
	errs := new(bytes.Buffer)
	cmd.Stderr = errs
	return cmd, errs
}

// A process that exits as soon as its Disconnect is graceful has lost nothing:
// the reader here begins only afterwards.
func TestExitAfterGracefulDisconnect(t *testing.T) {
	r, ctx := newRig(t), bound(t)
	ln := r.listen("")
	for range 5 {
		cmd, errs := child(t, "send", r.dialTo(ln.Addr(), ""))
		said := make(chan []byte, 1)
		go func() {
			out, _ := cmd.Output()
			said <- out
		}()
		c := accept(ctx, t, ln)
		if err := c.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if out := <-said; !bytes.HasPrefix(out, []byte("graceful <nil>")) {
			t.Fatalf("the child says %q %q", out, errs)
		}
		got, err := io.ReadAll(c)
		if err != nil || len(got) != childBytes {
			t.Fatalf("%d of %d bytes, %v", len(got), childBytes, err)
		}
		if e, err := c.Disconnect(ctx); err != nil || e.How != anysock.Graceful {
			t.Errorf("the other end: %v, %v", e, err)
		}
	}
}

// A server process that is killed is an error, never an end of file.
func TestKilledServerIsNoEnd(t *testing.T) {
	t.Parallel()
	r, ctx := newRig(t), bound(t)
	cmd, errs := child(t, "hang", r.listenAt(""))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var to string
	if _, err := fmt.Fscanln(out, &to); err != nil {
		t.Fatalf("%v: %s", err, errs)
	}
	c, err := anysock.Dial(ctx, "quic://"+to+"?ca=file:"+r.ca.File+"&lost=3s")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.ReadFull(c, make([]byte, 4)); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	_, err = io.ReadAll(c)
	if kindOf(err) != anysock.KindLost {
		t.Errorf("the read says %v, want lost", err)
	}
	if e := c.End(); e.How != anysock.Lost {
		t.Errorf("the ending is %v", e)
	}
}

// Nothing is printed about the kernel's limits of buffers, which an
// unprivileged process runs into.
func TestNothingOnStandardError(t *testing.T) {
	var drop []string
	if os.Getuid() == 0 { // root may go beyond the limit, and has no reason to warn
		setpriv, err := exec.LookPath("setpriv")
		if err != nil {
			t.Skip("setpriv (util-linux) is needed to give up CAP_NET_ADMIN: ", err)
		}
		drop = []string{setpriv, "--bounding-set", "-net_admin", "--inh-caps", "-net_admin"}
	}
	cmd, errs := child(t, "quiet", "", drop...)
	if err := cmd.Run(); err != nil || errs.Len() > 0 {
		t.Errorf("standard error has %q, %v", errs, err)
	}
}

// An abort that got lost on the way is heard when the peer says something
// next.
func TestLostAbortIsHeardLater(t *testing.T) {
	t.Parallel()
	r, ctx := newRig(t), bound(t)
	ln := r.listen("")
	for _, wait := range []string{"at once", "after the connection is forgotten"} {
		t.Run(wait, func(t *testing.T) {
			p := newProxy(t, ln.Addr())
			a, b := r.pair(ctx, ln, p.addr(), "")
			if _, err := a.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
			if _, err := b.Read(make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
			p.cut.Store(true)
			_ = b.Abort()
			if wait != "at once" {
				forgotten := time.NewTimer(time.Second) // beyond the closing period of RFC 9000 section 10.2
				defer forgotten.Stop()
				<-forgotten.C
			}
			p.cut.Store(false)
			// A stateless reset answers only packets that are larger than itself.
			if _, err := a.Write(make([]byte, 1000)); err != nil && kindOf(err) != anysock.KindReset {
				t.Fatal(err)
			}
			if _, err := a.Read(make([]byte, 1)); kindOf(err) != anysock.KindReset {
				t.Errorf("the read says %v, want a reset", err)
			}
		})
	}
}

// A connection that both sides leave alone is kept by keep-alive, and lost
// without.
func TestIdleTimeoutAndKeepAlive(t *testing.T) {
	t.Parallel()
	r, ctx := newRig(t), bound(t)
	ln := r.listen("")
	kept, _ := r.pair(ctx, ln, ln.Addr(), "&lost=2s")
	off := r.listen("&keepalive=0")
	lost, _ := r.pair(ctx, off, off.Addr(), "&lost=2s&keepalive=0")
	if _, err := lost.Read(make([]byte, 1)); kindOf(err) != anysock.KindLost {
		t.Errorf("without keep-alive the read says %v, want lost", err)
	}
	short, cancel := context.WithTimeout(ctx, 4*time.Second)
	defer cancel()
	if _, err := kept.ReadContext(short, make([]byte, 1)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("with keep-alive the read says %v", err)
	}
}

// A relay watches a leg that it does not read for its failure alone.
func TestFailureIsSeenWithoutReading(t *testing.T) {
	r, ctx := newRig(t), bound(t)
	ln := r.listen("")
	a, b := r.pair(ctx, ln, ln.Addr(), "")
	watched := make(chan error, 1)
	go func() {
		ready, err := a.Wait(ctx, 0, 1)
		if ready != anysock.Failed {
			err = errors.Join(err, fmt.Errorf("ready is %s", ready))
		}
		watched <- err
	}()
	if _, err := b.Write([]byte("unread")); err != nil {
		t.Fatal(err)
	}
	_ = b.Abort()
	if err := <-watched; err != nil {
		t.Error(err)
	}

	// An orderly end is no failure.
	a, b = r.pair(ctx, ln, ln.Addr(), "")
	short, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	quiet := make(chan error, 1)
	go func() {
		_, err := a.Wait(short, 0, 1)
		quiet <- err
	}()
	if _, err := a.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(a.CloseWrite(), b.CloseWrite()); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(b); err != nil {
		t.Fatal(err)
	}
	if err := <-quiet; !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Wait after both ends: %v", err)
	}
}

// That nobody listens any more, by an ICMP message that anybody could have
// forged, does not end a connection: it goes on when the path is back.
func TestICMPDoesNotEndAConnection(t *testing.T) {
	r, ctx := newRig(t), bound(t)
	ln := r.listen("")
	p := newProxy(t, ln.Addr())
	a, b := r.pair(ctx, ln, p.addr(), "&keepidle=20ms")
	p.closeFront()
	refused := time.NewTimer(300 * time.Millisecond) // for some keep-alives that the kernel refuses
	defer refused.Stop()
	<-refused.C
	if _, err := a.Write([]byte("still here")); err != nil {
		t.Fatal(err)
	}
	p.openFront(t)
	if _, err := io.ReadFull(b, make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(a, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
}

// A peer that has ended and left takes our writes no more, but what it sent
// before is complete, whenever it is read.
func TestWriteToAPeerThatLeftKeepsItsEnd(t *testing.T) {
	r, ctx := newRig(t), bound(t)
	ln := r.listen("&draintimeout=200ms")
	a, b := r.pair(ctx, ln, ln.Addr(), "")
	if _, err := b.Write([]byte("complete")); err != nil {
		t.Fatal(err)
	}
	if e, err := b.Disconnect(ctx); err != nil || e.How != anysock.Delivered || e.AckedBy != anysock.AckedKernel {
		t.Fatalf("Disconnect: %v, %v", e, err)
	}
	for {
		if _, err := a.Write([]byte("x")); err != nil {
			if kindOf(err) != anysock.KindReset {
				t.Errorf("the write says %v, want a reset", err)
			}
			break
		}
	}
	got, err := io.ReadAll(a)
	if err != nil || string(got) != "complete" {
		t.Errorf("%q, %v", got, err)
	}
}
