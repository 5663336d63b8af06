package anysock_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/anysock/anysock"
)

// groupPair is a pair whose dialed end belongs to the group.
func groupPair(t testing.TB, g *anysock.Group, options anysock.Options) (c, peer *anysock.Conn) {
	t.Helper()
	return mustPair(t, "tcp://127.0.0.1:0", &anysock.Dialer{Group: g, Options: options}, &anysock.ListenConfig{})
}

// endOf reads a peer's direction to its end and ends ours.
func endOf(t testing.TB, peer *anysock.Conn) {
	t.Helper()
	peer.SetReadDeadline(time.Now().Add(tooLong))
	if _, err := io.Copy(io.Discard, peer); err != nil {
		t.Errorf("the peer's read: %v", err)
	}
	if _, err := peer.Disconnect(soon(t)); err != nil {
		t.Errorf("the peer's Disconnect: %v", err)
	}
}

// TestGroupWaitsForGraceful: Wait returns when every background disconnect is
// done; graceful ones are not worth a word.
func TestGroupWaitsForGraceful(t *testing.T) {
	var g anysock.Group
	if ends, err := g.Wait(t.Context()); len(ends) != 0 || err != nil {
		t.Errorf("Wait for nobody = %v, %v", ends, err)
	}
	var peers []*anysock.Conn
	for range 5 {
		c, peer := groupPair(t, &g, anysock.Options{})
		if _, err := c.Write(make([]byte, 100_000)); err != nil {
			t.Fatal(err)
		}
		must(t, "Close", c.Close())
		peers = append(peers, peer)
	}
	if n := g.Pending(); n != 5 {
		t.Errorf("%d are pending, want 5", n)
	}
	waited := make(chan error, 1)
	go func() {
		ends, err := g.Wait(soon(t))
		if len(ends) != 0 {
			err = fmt.Errorf("%v %w", ends, err)
		}
		waited <- err
	}()
	for _, peer := range peers {
		stillWaits(t, "Wait", waited)
		endOf(t, peer)
	}
	must(t, "Wait", await(t, "Wait", waited))
	if n := g.Pending(); n != 0 {
		t.Errorf("%d are pending after Wait", n)
	}
}

// TestGroupListsWhatWasNotGraceful: delivered, reset and cut off by the bound;
// each once.
func TestGroupListsWhatWasNotGraceful(t *testing.T) {
	needAcks(t)
	var g anysock.Group
	brief := anysock.Options{CloseTimeout: 40 * time.Millisecond}
	silent, _ := groupPair(t, &g, brief)
	if _, err := silent.Write(make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	reset, resetPeer := groupPair(t, &g, anysock.Options{})
	owed, owedPeer := groupPair(t, &g, anysock.Options{CloseTimeout: 40 * time.Millisecond, SendBuffer: 1 << 20})
	_ = owedPeer                                     // reads nothing
	for stuck := 0; stuck < 3 || owed.Sent() == 0; { // until the kernel takes no more
		owed.SetWriteDeadline(time.Now().Add(15 * time.Millisecond))
		if n, err := owed.Write(make([]byte, 1<<20)); err == nil || n > 0 {
			stuck = 0
		} else {
			stuck++
		}
	}
	must(t, "Close", silent.Close())
	must(t, "Close", reset.Close())
	must(t, "Abort", resetPeer.Abort())
	must(t, "Close", owed.Close())
	ends, err := g.Wait(soon(t))
	how := map[anysock.How]int{}
	for _, e := range ends {
		how[e.How]++
		if e.How == anysock.Delivered && (e.Sent != 10 || e.Unacked != 0 || e.AckedBy != anysock.AckedKernel) {
			t.Errorf("delivered: %v", e)
		}
		if e.How == anysock.Lost && (e.Unacked == 0 || e.Sent != owed.Sent() || e.Err == nil) {
			t.Errorf("lost: %v", e)
		}
	}
	if len(ends) != 3 || how[anysock.Delivered] != 1 || how[anysock.AbortedByPeer] != 1 || how[anysock.Lost] != 1 {
		t.Errorf("Wait lists %v", ends)
	}
	var w *anysock.WaitError
	if !errors.As(err, &w) || w.Pending != 0 || w.Incomplete != 2 || w.More != 0 || len(w.Ends) != 3 || w.Err != nil {
		t.Fatalf("Wait: %+v", err)
	}
	for _, part := range []string{"2 ended without", owed.RemoteAddr().String(), reset.RemoteAddr().String(), "unacknowledged"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q does not say %q", err, part)
		}
	}
	if strings.Contains(err.Error(), silent.RemoteAddr().String()) {
		t.Errorf("%q names one that was delivered", err)
	}
	// Told once.
	if ends, err := g.Wait(soon(t)); len(ends) != 0 || err != nil {
		t.Errorf("Wait again = %v, %v", ends, err)
	}
}

// TestGroupDeliveredIsNoError: everything was acknowledged, the peer did not
// end: listed, and no error.
func TestGroupDeliveredIsNoError(t *testing.T) {
	var g anysock.Group
	c, _ := groupPair(t, &g, anysock.Options{CloseTimeout: 30 * time.Millisecond})
	must(t, "Close", c.Close())
	ends, err := g.Wait(soon(t))
	if len(ends) != 1 || ends[0].How != anysock.Delivered || err != nil {
		t.Errorf("Wait = %v, %v", ends, err)
	}
}

// TestGroupWaitContext: ctx ends the wait, and what is still at work is
// listed; it goes on.
func TestGroupWaitContext(t *testing.T) {
	var g anysock.Group
	c, peer := groupPair(t, &g, anysock.Options{})
	if _, err := c.Write(make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	must(t, "Close", c.Close())
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	ends, err := g.Wait(ctx)
	var w *anysock.WaitError
	if !errors.As(err, &w) || w.Pending != 1 || w.Incomplete != 0 || !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("Wait: %+v", err)
	}
	if len(ends) != 1 || ends[0].How != anysock.NotEnded || ends[0].Sent != 1000 || ends[0].Peer.String() != c.RemoteAddr().String() {
		t.Errorf("Wait lists %v", ends)
	}
	if !strings.Contains(err.Error(), "1 connections still closing") {
		t.Errorf("%q does not say what is pending", err)
	}
	select {
	case <-c.Done():
		t.Errorf("the disconnect ended with the wait: %v", c.End())
	default:
	}
	endOf(t, peer)
	if ends, err := g.Wait(soon(t)); len(ends) != 0 || err != nil {
		t.Errorf("Wait afterwards = %v, %v", ends, err)
	}
	if end := c.End(); end.How != anysock.Graceful {
		t.Errorf("the end is %v", end)
	}
}

// TestGroupLimit: beyond the limit a Close is plain: the caller is released,
// the descriptor too, and the group says that it cannot vouch for it.
func TestGroupLimit(t *testing.T) {
	g := anysock.Group{Limit: 2}
	var cs, peers []*anysock.Conn
	for range 4 {
		c, peer := groupPair(t, &g, anysock.Options{})
		if _, err := c.Write([]byte("tail")); err != nil {
			t.Fatal(err)
		}
		cs, peers = append(cs, c), append(peers, peer)
	}
	for _, c := range cs {
		must(t, "Close", c.Close())
	}
	if n := g.Pending(); n != 2 {
		t.Errorf("%d are pending, want the limit", n)
	}
	for i, c := range cs[2:] {
		await(t, "the ending of a plain close", c.Done())
		if end := c.End(); end.How == anysock.Graceful || c.State() != anysock.StateClosed {
			t.Errorf("plain close %d: %v, state %v", i, end, c.State())
		}
	}
	// The kernel delivers what it had all the same, and an end, not a reset.
	for i, peer := range peers {
		if s := readAll(t, peer); s != "tail" {
			t.Errorf("peer %d read %q", i, s)
		}
		_, _ = peer.Disconnect(soon(t))
	}
	ends, err := g.Wait(soon(t))
	if len(ends) != 2 {
		t.Errorf("Wait lists %d endings, want the two plain ones: %v", len(ends), ends)
	}
	for _, e := range ends {
		if e.How == anysock.Lost {
			var ae *anysock.Error
			if !errors.As(e.Err, &ae) || ae.Kind != anysock.KindLimit {
				t.Errorf("the reason is %v", e.Err)
			}
			if err == nil {
				t.Error("Wait vouches for a plain close with bytes unacknowledged")
			}
		}
	}
	// There is room again.
	c, peer := groupPair(t, &g, anysock.Options{})
	must(t, "Close", c.Close())
	endOf(t, peer)
	if _, err := g.Wait(soon(t)); err != nil {
		t.Errorf("Wait afterwards: %v", err)
	}
}

// TestGroupRemembersSoMany: endings beyond a thousand between two Waits are
// counted and not kept.
func TestGroupRemembersSoMany(t *testing.T) {
	var g anysock.Group
	const many = 1005
	ln := mustListen(t, &anysock.ListenConfig{}, "mem:group-remembers")
	for range many {
		c, err := (&anysock.Dialer{Group: &g, Options: anysock.Options{CloseTimeout: time.Millisecond}}).Dial(soon(t), "mem:group-remembers")
		must(t, "dial", err)
		peer, err := ln.AcceptContext(soon(t))
		must(t, "accept", err)
		must(t, "Close", c.Close())
		<-c.Done()
		_ = peer.Abort()
	}
	ends, err := g.Wait(soon(t))
	var w *anysock.WaitError
	if !errors.As(err, &w) || len(ends) != 1000 || w.More != many-1000 || !strings.Contains(err.Error(), "5 more") {
		t.Errorf("Wait lists %d, %v", len(ends), err)
	}
}

// TestGroups: a connection belongs to the group that its Dialer, ListenConfig
// or Socket names, else to the process's.
func TestGroups(t *testing.T) {
	_, _ = anysock.Wait(soon(t)) // what other tests left to the process's group
	var dialers, listeners, sockets anysock.Group
	lc := &anysock.ListenConfig{Group: &listeners}
	ln := mustListen(t, lc, "tcp://127.0.0.1:0")
	s := mustSocket(t, "tcp")
	s.Group = &sockets
	viaSocket, err := s.Connect(soon(t), ln.Addr().String())
	must(t, "connect", err)
	viaDialer := mustDial(t, &anysock.Dialer{Group: &dialers}, urlOf(ln))
	plain := mustDial(t, &anysock.Dialer{}, urlOf(ln))
	var accepted []*anysock.Conn
	for range 3 {
		accepted = append(accepted, mustAccept(t, ln))
	}
	for _, c := range []*anysock.Conn{viaSocket, viaDialer, plain, accepted[0]} {
		must(t, "Close", c.Close())
	}
	for name, g := range map[string]*anysock.Group{"dialer's": &dialers, "socket's": &sockets} {
		if n := g.Pending(); n != 1 {
			t.Errorf("the %s group has %d pending, want 1", name, n)
		}
	}
	// Whose peer has ended, too, needs no background.
	for _, c := range accepted {
		must(t, "Close", c.Close())
	}
	for name, wait := range map[string]func(context.Context) ([]anysock.End, error){
		"dialer's": dialers.Wait, "socket's": sockets.Wait, "listener's": listeners.Wait, "process's": anysock.Wait,
	} {
		if ends, err := wait(soon(t)); err != nil {
			t.Errorf("the %s group: %v, %v", name, ends, err)
		}
	}
}
