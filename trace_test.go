package anysock_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anysock/anysock"
)

// TestTraceOfASession: one event per step, in order, with the state after it,
// the addresses, the bytes and the ending; at both ends.
func TestTraceOfASession(t *testing.T) {
	overKernelNetworks(t, func(t *testing.T, addr string) {
		var server, client recorder
		ln := mustListen(t, &anysock.ListenConfig{Trace: server.trace}, addr)
		c := mustDial(t, &anysock.Dialer{Trace: client.trace}, urlOf(ln))
		peer := mustAccept(t, ln)
		if _, err := c.Write([]byte("request")); err != nil {
			t.Fatal(err)
		}
		if _, err := c.WriteBuffers([][]byte{[]byte("..."), []byte("!")}); err != nil {
			t.Fatal(err)
		}
		if _, err := peer.ReadAtLeast(soon(t), make([]byte, 20), 11); err != nil {
			t.Fatal(err)
		}
		must(t, "CloseWrite", c.CloseWrite())
		if _, err := peer.Read(make([]byte, 1)); err != io.EOF { //nolint:errorlint // EOF comes bare
			t.Fatal(err)
		}
		if _, err := peer.Write([]byte("reply")); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Wait(soon(t), anysock.Readable, 5); err != nil {
			t.Fatal(err)
		}
		if _, err := c.ReadAtLeast(soon(t), make([]byte, 5), 5); err != nil {
			t.Fatal(err)
		}
		// The server ends first, as far as it can tell it is the second.
		if _, err := peer.Disconnect(soon(t)); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Disconnect(soon(t)); err != nil {
			t.Fatal(err)
		}
		must(t, "close", ln.Close())

		type step struct {
			op    string
			state anysock.State
			bytes int64
		}
		check := func(who string, events []anysock.Event, want []step) {
			t.Helper()
			var got []step
			for _, ev := range events {
				got = append(got, step{ev.Op, ev.State, ev.Bytes})
				if ev.Time.IsZero() || ev.Duration < 0 || ev.Network == "" {
					t.Errorf("%s: %+v lacks something", who, ev)
				}
				if (ev.End != nil) != (ev.Op == anysock.OpEnd) {
					t.Errorf("%s: %s has the ending %v", who, ev.Op, ev.End)
				}
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s: the steps are\n%v, want\n%v", who, got, want)
			}
		}
		check("client", client.all(nil), []step{
			{"socket", anysock.StateConnecting, 0},
			{"connect", anysock.StateConnected, 0},
			{"write", anysock.StateConnected, 7},
			{"write", anysock.StateConnected, 4},
			{"shutdown", anysock.StateWriteEnded, 0},
			{"wait", anysock.StateWriteEnded, 0},
			{"read", anysock.StateWriteEnded, 5},
			{"disconnect", anysock.StateDisconnecting, 0},
			{"end", anysock.StateClosed, 0},
		})
		isPeers := func(ev anysock.Event) bool { return ev.Socket == peer.ID() }
		check("server's connection", server.all(isPeers), []step{
			{"accept", anysock.StateConnected, 0},
			{"read", anysock.StateConnected, 11},
			{"read", anysock.StateReadEnded, 0},
			{"write", anysock.StateReadEnded, 5},
			{"shutdown", anysock.StateDisconnecting, 0},
			{"disconnect", anysock.StateDisconnecting, 0},
			{"end", anysock.StateClosed, 0},
		})
		check("listener", server.all(func(ev anysock.Event) bool { return !isPeers(ev) }), func() []step {
			steps := []step{{"socket", anysock.StateNew, 0}}
			if ln.Network() == "tcp" {
				steps = append(steps, step{"setsockopt", anysock.StateNew, 0})
			}
			return append(steps, step{"bind", anysock.StateBound, 0}, step{"listen", anysock.StateListening, 0}, step{"close", anysock.StateClosed, 0})
		}())
		for _, ev := range client.all(isOp(anysock.OpEnd)) {
			if ev.End.How != anysock.Graceful || ev.End.Sent != 11 || ev.End.Received != 5 || ev.End.By != anysock.Us {
				t.Errorf("the traced ending is %v", ev.End)
			}
			if ev.Local != c.LocalAddr().String() || ev.Peer != c.RemoteAddr().String() {
				t.Errorf("the ending is of %s -> %s", ev.Local, ev.Peer)
			}
		}
	})
}

// TestContract10NoEventAfterTheEnd: however many calls are at work when a
// connection ends, its ending is reported once and last.
func TestContract10NoEventAfterTheEnd(t *testing.T) {
	endings := map[string]func(c, peer *anysock.Conn){
		"abort":        func(c, _ *anysock.Conn) { _ = c.Abort() },
		"close":        func(c, _ *anysock.Conn) { c.Close() },
		"peer's abort": func(_, peer *anysock.Conn) { _ = peer.Abort() },
		"disconnect":   func(c, _ *anysock.Conn) { _, _ = c.Disconnect(context.Background()) },
	}
	for name, end := range endings {
		t.Run(name, func(t *testing.T) {
			for range 20 {
				var events recorder
				var group anysock.Group
				ln := mustListen(t, &anysock.ListenConfig{}, "tcp://127.0.0.1:0")
				c := mustDial(t, &anysock.Dialer{Trace: events.trace, Group: &group, Options: anysock.Options{DrainTimeout: 50 * time.Millisecond}}, urlOf(ln))
				peer := mustAccept(t, ln)
				var wg sync.WaitGroup
				for range 3 {
					wg.Go(func() {
						for b := make([]byte, 100); ; {
							if _, err := c.Read(b); err != nil {
								return
							}
						}
					})
					wg.Go(func() {
						for b := make([]byte, 100); ; {
							if _, err := c.Write(b); err != nil {
								return
							}
						}
					})
				}
				wg.Go(func() { _, _ = c.Wait(context.Background(), anysock.PeerEnd, 1) })
				served := make(chan struct{})
				go func() {
					defer close(served)
					for b := make([]byte, 1000); ; {
						n, err := peer.Read(b)
						if err == nil {
							_, err = peer.Write(b[:n])
						}
						if err != nil {
							_, _ = peer.Disconnect(context.Background())
							return
						}
					}
				}()
				eventually(t, "bytes both ways", func() bool { return c.Received() > 1000 })
				end(c, peer)
				await(t, "the ending", c.Done())
				wg.Wait()
				_, _ = group.Wait(soon(t))
				_ = peer.Abort()
				await(t, "the peer", served)
				ops := events.ops(c.ID())
				if n := slices.Index(ops, anysock.OpEnd); n != len(ops)-1 {
					t.Fatalf("after the ending comes %v", ops[n:])
				}
				e := c.End()
				if e.Sent != c.Sent() || e.Received != c.Received() {
					t.Errorf("the ending counts %d and %d, the connection %d and %d", e.Sent, e.Received, c.Sent(), c.Received())
				}
				_ = c.Abort()
			}
		})
	}
}

// TestStatesOfADial: a dial's states, with a retry between two rounds.
func TestStatesOfADial(t *testing.T) {
	port := boundPort(t, "127.0.0.1")
	var events recorder
	d := &anysock.Dialer{Trace: events.trace, Retry: anysock.Retry{Attempts: 2, Interval: time.Millisecond}}
	if _, err := d.Dial(soon(t), "tcp://127.0.0.1:"+port); err == nil {
		t.Fatal("connected")
	}
	var states []anysock.State
	for _, ev := range events.all(nil) {
		if len(states) == 0 || states[len(states)-1] != ev.State {
			states = append(states, ev.State)
		}
	}
	if want := []anysock.State{anysock.StateConnecting, anysock.StateWaiting, anysock.StateConnecting}; !slices.Equal(states, want) {
		t.Errorf("the states are %v, want %v", states, want)
	}
}

// TestEventString: an event is one line that says it all.
func TestEventString(t *testing.T) {
	end := anysock.End{How: anysock.Graceful, By: anysock.Us, AckedBy: anysock.AckedKernel, Sent: 250, Received: 251, Drained: 1, Unacked: 2}
	for _, tt := range []struct {
		ev   anysock.Event
		want string
	}{
		{anysock.Event{Op: "listen", Socket: 3, Network: "tcp", Detail: "backlog=10", Local: "[::]:3005"}, "#3 tcp listen backlog=10 [::]:3005 -> ?"},
		{anysock.Event{Op: "read", Socket: 4, Network: "unix", Local: "@", Peer: "/run/s", Bytes: 250, Duration: 1500 * time.Nanosecond}, "#4 unix read @ -> /run/s 250 bytes (2µs)"},
		{anysock.Event{Op: "write", Socket: 4, Network: "tcp", Err: errors.New("broken pipe")}, "#4 tcp write 0 bytes: broken pipe"},
		{anysock.Event{Op: "end", Socket: 5, Network: "mem", End: &end}, "#5 mem end: graceful: 250 sent, 251 received (1 drained), 2 unacknowledged, ended by us, acknowledged by kernel, 0s"},
	} {
		if got := tt.ev.String(); got != tt.want {
			t.Errorf("%q, want %q", got, tt.want)
		}
	}
	if s := (anysock.End{}).String(); s != "not ended" {
		t.Errorf("no ending prints as %q", s)
	}
}

// TestEventLogValue: under slog an event is a group of attributes; what is
// empty is left out.
func TestEventLogValue(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(slog.NewJSONHandler(&out, nil))
	logged := func(ev anysock.Event) map[string]any {
		t.Helper()
		out.Reset()
		log.Info(ev.Op, "step", ev)
		var line struct {
			Msg  string         `json:"msg"`
			Step map[string]any `json:"step"`
		}
		if err := json.Unmarshal(out.Bytes(), &line); err != nil || line.Msg != ev.Op {
			t.Fatalf("%s: %v", out.Bytes(), err)
		}
		return line.Step
	}
	got := logged(anysock.Event{Op: "bind", Socket: 7, Network: "tcp", State: anysock.StateBound, Local: "127.0.0.1:1"})
	for key, want := range map[string]any{"socket": 7.0, "network": "tcp", "state": "bound", "local": "127.0.0.1:1"} {
		if got[key] != want {
			t.Errorf("%s is %v, want %v", key, got[key], want)
		}
	}
	for _, key := range []string{"peer", "detail", "bytes", "end", "err"} {
		if v, ok := got[key]; ok {
			t.Errorf("%s is there: %v", key, v)
		}
	}
	got = logged(anysock.Event{Op: "read", Bytes: 0, Err: net.ErrClosed, Peer: "x\ny", Detail: "d"})
	if got["bytes"] != 0.0 || got["err"] != net.ErrClosed.Error() || got["peer"] != "x\ny" || got["detail"] != "d" {
		t.Errorf("logged %v", got)
	}
	got = logged(anysock.Event{Op: "end", End: &anysock.End{How: anysock.Lost}})
	if s, _ := got["end"].(string); !strings.HasPrefix(s, "lost: ") {
		t.Errorf("logged %v", got)
	}
}

// TestEndJSON: the record of an ending for programs.
func TestEndJSON(t *testing.T) {
	c, peer := mustPair(t, "tcp://127.0.0.1:0", &anysock.Dialer{}, &anysock.ListenConfig{})
	if _, err := c.Write([]byte("xyz")); err != nil {
		t.Fatal(err)
	}
	must(t, "CloseWrite", peer.CloseWrite())
	end, err := c.Disconnect(soon(t))
	must(t, "Disconnect", err)
	b, err := json.Marshal(end)
	must(t, "marshal", err)
	var got map[string]any
	must(t, "unmarshal", json.Unmarshal(b, &got))
	ackedBy := "none"
	if acksKnown(t) {
		ackedBy = "kernel"
	}
	for key, want := range map[string]any{"how": "graceful", "acked_by": ackedBy, "sent": 3.0, "received": 0.0, "unacked": 0.0, "drained": 0.0} {
		if got[key] != want {
			t.Errorf("%s is %v, want %v", key, got[key], want)
		}
	}
	for _, key := range []string{"opened", "write_ended", "read_ended", "ended"} {
		if s, _ := got[key].(string); s == "" {
			t.Errorf("%s is missing: %s", key, b)
		}
	}
	if !end.Opened.Before(end.Ended) || end.Ended.Before(end.ReadEnded) || end.Ended.Before(end.WriteEnded) {
		t.Errorf("the times are out of order: %s", b)
	}
	b, err = json.Marshal(anysock.End{})
	must(t, "marshal", err)
	if strings.Contains(string(b), "write_ended") {
		t.Errorf("an end that did not go out has a time: %s", b)
	}
}
