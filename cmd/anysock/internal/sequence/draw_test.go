package sequence

import (
	"bytes"
	"errors"
	"flag"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/anysock/anysock"
)

var update = flag.Bool("update", false, "write the golden files")

const (
	client = 0
	relay  = 1
	server = 2
)

// start is when the fixed sessions began.
var start = time.Date(2001, 2, 3, 4, 5, 6, 0, time.UTC)

// A script collects the steps of a fixed session; times are microseconds since
// its start.
type script struct {
	steps []Step
	local map[uint64]string
	peer  map[uint64]string
}

func newScript() *script { return &script{local: map[uint64]string{}, peer: map[uint64]string{}} }

// did adds a step from begin to end.
func (s *script) did(role int, socket uint64, begin, end int, ev anysock.Event) *script {
	ev.Socket, ev.Network = socket, "tcp"
	ev.Time, ev.Duration = start.Add(time.Duration(begin)*time.Microsecond), time.Duration(end-begin)*time.Microsecond
	if ev.Op == anysock.OpAccept || ev.Op == anysock.OpConnect && ev.Err == nil {
		s.local[socket], s.peer[socket] = ev.Local, ev.Peer
	} else if ev.Local == "" && ev.Peer == "" {
		ev.Local, ev.Peer = s.local[socket], s.peer[socket]
	}
	s.steps = append(s.steps, Step{role, ev})
	return s
}

func (s *script) op(role int, socket uint64, at int, op, detail string) *script {
	return s.did(role, socket, at, at+5, anysock.Event{Op: op, Detail: detail})
}

func (s *script) listen(role int, socket uint64, at int, addr string) *script {
	s.op(role, socket, at, anysock.OpSocket, "")
	s.op(role, socket, at+10, anysock.OpOption, "SO_REUSEADDR=1")
	s.did(role, socket, at+20, at+25, anysock.Event{Op: anysock.OpBind, Local: addr})
	return s.did(role, socket, at+30, at+35, anysock.Event{Op: anysock.OpListen, Local: addr, Detail: "backlog=10"})
}

// join connects from one socket to another; accepting began before.
func (s *script) join(from int, fs uint64, to int, ts uint64, at int, local, peer string) *script {
	s.did(from, fs, at, at+20, anysock.Event{Op: anysock.OpConnect, Local: local, Peer: peer})
	return s.did(to, ts, at-50, at+30, anysock.Event{Op: anysock.OpAccept, Local: peer, Peer: local})
}

func (s *script) write(role int, socket uint64, at int, n int64) *script {
	return s.did(role, socket, at, at+5, anysock.Event{Op: anysock.OpWrite, Bytes: n})
}

// read began long before it returned.
func (s *script) read(role int, socket uint64, until int, n int64, err error) *script {
	return s.did(role, socket, until-40, until, anysock.Event{Op: anysock.OpRead, Bytes: n, Err: err})
}

func (s *script) fin(role int, socket uint64, at int) *script {
	return s.op(role, socket, at, anysock.OpShutdown, "write")
}

func (s *script) end(role int, socket uint64, at int, e anysock.End) *script {
	e.Opened, e.Ended = start, start.Add(time.Duration(at)*time.Microsecond)
	if e.How == anysock.Graceful {
		e.ReadEnded, e.WriteEnded, e.AckedBy = e.Ended, e.Ended, anysock.AckedKernel
	}
	return s.did(role, socket, at, at, anysock.Event{Op: anysock.OpEnd, End: &e})
}

var reset = &anysock.Error{Op: anysock.OpRead, Addr: "tcp:127.0.0.1:3005", Kind: anysock.KindReset, Err: syscall.ECONNRESET}

// direct is a client and a server without a relay.
func direct() *Diagram {
	s := newScript()
	s.listen(1, 1, 0, "[::]:3005")
	s.op(0, 2, 100, anysock.OpSocket, "")
	s.did(0, 2, 110, 150, anysock.Event{Op: anysock.OpResolve, Peer: "localhost", Detail: "127.0.0.1"})
	s.join(0, 2, 1, 3, 200, "127.0.0.1:41000", "127.0.0.1:3005")
	s.write(0, 2, 225, 250)
	s.read(1, 3, 260, 250, nil)
	s.write(1, 3, 270, 250)
	s.did(0, 2, 250, 280, anysock.Event{Op: anysock.OpWait, Detail: "readable, at most 29.998s"})
	s.did(0, 2, 285, 290, anysock.Event{Op: anysock.OpRead, Bytes: 250})
	s.fin(0, 2, 301)
	s.read(1, 3, 320, 0, io.EOF)
	s.op(1, 3, 330, anysock.OpClose, "")
	s.fin(1, 3, 331)
	s.did(0, 2, 300, 350, anysock.Event{Op: anysock.OpDisconnect})
	s.end(0, 2, 351, anysock.End{How: anysock.Graceful, By: anysock.Us, Sent: 250, Received: 250})
	s.op(1, 1, 360, anysock.OpClose, "")
	s.end(1, 3, 355, anysock.End{How: anysock.Graceful, By: anysock.Peer, Sent: 250, Received: 250})
	return &Diagram{Roles: []string{"client", "server"}, Steps: s.steps}
}

// throughRelay is the same through a relay, which reports what it moved only
// after it had done so: its writes come late.
func throughRelay() *Diagram {
	s := newScript()
	s.listen(server, 1, 0, "[::]:3005")
	s.listen(relay, 2, 50, "127.0.0.1:3006")
	s.op(client, 3, 100, anysock.OpSocket, "")
	s.did(client, 3, 110, 150, anysock.Event{Op: anysock.OpResolve, Peer: "localhost", Detail: "127.0.0.1"})
	s.join(client, 3, relay, 4, 200, "127.0.0.1:41000", "127.0.0.1:3006")
	s.write(client, 3, 225, 250) // the relay is still connecting
	s.op(relay, 5, 240, anysock.OpSocket, "")
	s.join(relay, 5, server, 6, 250, "127.0.0.1:41001", "127.0.0.1:3005")
	s.read(relay, 4, 300, 250, nil)
	s.write(relay, 5, 390, 250) // after the server's answer had come
	s.read(server, 6, 320, 250, nil)
	s.write(server, 6, 330, 250)
	s.read(relay, 5, 350, 250, nil)
	s.write(relay, 4, 410, 250)
	s.did(client, 3, 240, 360, anysock.Event{Op: anysock.OpWait, Detail: "readable, at most 30s"})
	s.read(client, 3, 370, 250, nil)
	s.fin(client, 3, 501)
	s.read(relay, 4, 520, 0, io.EOF)
	s.fin(relay, 5, 530)
	s.read(server, 6, 540, 0, io.EOF)
	s.op(server, 6, 545, anysock.OpClose, "")
	s.fin(server, 6, 550)
	s.read(relay, 5, 560, 0, io.EOF)
	s.fin(relay, 4, 570)
	s.did(client, 3, 500, 580, anysock.Event{Op: anysock.OpDisconnect})
	s.did(relay, 5, 590, 600, anysock.Event{Op: anysock.OpDisconnect})
	s.did(relay, 4, 585, 605, anysock.Event{Op: anysock.OpDisconnect})
	s.end(client, 3, 581, anysock.End{How: anysock.Graceful, By: anysock.Us, Sent: 250, Received: 250})
	s.end(relay, 5, 601, anysock.End{How: anysock.Graceful, By: anysock.Us, Sent: 250, Received: 250})
	s.end(relay, 4, 606, anysock.End{How: anysock.Graceful, By: anysock.Peer, Sent: 250, Received: 250})
	s.end(server, 6, 602, anysock.End{How: anysock.Graceful, By: anysock.Peer, Sent: 250, Received: 250})
	return &Diagram{Roles: []string{"client", "relay", "server"}, Steps: s.steps}
}

// aborted is a server that gives up in the middle of its answer.
func aborted() *Diagram {
	s := newScript()
	s.join(client, 3, relay, 4, 200, "[::1]:41000", "[::1]:3006")
	s.join(relay, 5, server, 6, 250, "[::1]:41001", "[::1]:3005")
	s.write(client, 3, 300, 250)
	s.read(relay, 4, 310, 250, nil)
	s.write(relay, 5, 315, 250)
	s.read(server, 6, 320, 250, nil)
	s.write(server, 6, 330, 125)
	s.read(relay, 5, 350, 125, nil)
	s.write(relay, 4, 355, 125)
	s.read(client, 3, 370, 125, nil)
	s.op(server, 6, 400, anysock.OpAbort, "")
	s.end(server, 6, 401, anysock.End{How: anysock.AbortedByUs, By: anysock.Us, Sent: 125, Received: 250})
	s.read(relay, 5, 410, 0, reset)
	s.end(relay, 5, 411, anysock.End{How: anysock.AbortedByPeer, By: anysock.Peer, Sent: 250, Received: 125})
	s.op(relay, 4, 420, anysock.OpAbort, "")
	s.end(relay, 4, 421, anysock.End{How: anysock.AbortedByPeer, By: anysock.Us, Sent: 125, Received: 250})
	// The other direction of the relay is turned away.
	s.read(relay, 4, 430, 0, &anysock.Error{Op: anysock.OpRead, Kind: anysock.KindClosed, Err: net.ErrClosed})
	s.read(client, 3, 440, 0, reset)
	s.end(client, 3, 441, anysock.End{How: anysock.AbortedByPeer, By: anysock.Peer, Sent: 250, Received: 125})
	return &Diagram{Roles: []string{"client", "relay", "server"}, Steps: s.steps}
}

// failed is a session in which calls fail, and others are called off because
// of that.
func failed() *Diagram {
	s := newScript()
	inUse := &anysock.Error{
		Op: anysock.OpBind, Addr: "tcp:[::]:3005", Kind: anysock.KindInUse,
		Err: os.NewSyscallError("bind", syscall.EADDRINUSE),
	}
	s.op(server, 1, 0, anysock.OpSocket, "")
	s.did(server, 1, 20, 25, anysock.Event{Op: anysock.OpBind, Local: "[::]:3005", Err: inUse})
	s.listen(relay, 2, 50, "127.0.0.1:3006")
	s.did(relay, 2, 100, 900, anysock.Event{Op: anysock.OpAccept, Local: "127.0.0.1:3006", Err: &anysock.Error{
		Op: anysock.OpAccept, Kind: anysock.KindClosed, Err: net.ErrClosed,
	}})
	s.did(client, 3, 110, 150, anysock.Event{
		Op: anysock.OpResolve, Peer: "localhost", Err: errors.New("a \x1b[31mname\nserver that says a-very-long-word-without-any-space"),
	})
	s.did(client, 3, 160, 190, anysock.Event{Op: anysock.OpConnect, Peer: "127.0.0.1:3006", Err: syscall.ECONNREFUSED})
	return &Diagram{Roles: []string{"client", "relay", "server"}, Steps: s.steps}
}

// broken is a client whose write fails, which closes its connection with a
// reset, and a server whose read is reset for no reason that the diagram shows.
func broken() *Diagram {
	s := newScript()
	s.listen(1, 1, 0, "[::]:3005")
	s.join(0, 2, 1, 3, 200, "127.0.0.1:41000", "127.0.0.1:3005")
	s.join(0, 4, 1, 5, 300, "127.0.0.1:41001", "127.0.0.1:3005")
	s.did(0, 2, 400, 410, anysock.Event{Op: anysock.OpWrite, Err: syscall.ENOBUFS})
	s.read(1, 3, 420, 0, reset)
	s.read(1, 5, 430, 0, reset)
	s.did(0, 6, 500, 510, anysock.Event{Op: anysock.OpConnect, Local: "127.0.0.1:41002", Peer: "127.0.0.1:3005"})
	return &Diagram{Roles: []string{"client", "server"}, Steps: s.steps}
}

// pieces is one write that arrives in pieces, two that arrive as one, and
// bytes that are discarded.
func pieces() *Diagram {
	s := newScript()
	s.join(0, 2, 1, 3, 200, "127.0.0.1:41000", "127.0.0.1:3005")
	s.write(0, 2, 300, 100)
	s.read(1, 3, 310, 60, nil)
	s.read(1, 3, 320, 40, nil)
	s.write(0, 2, 330, 1)
	s.write(0, 2, 340, 1)
	s.read(1, 3, 350, 2, nil)
	s.write(1, 3, 360, 99)
	s.fin(1, 3, 370)
	s.did(0, 2, 380, 400, anysock.Event{Op: anysock.OpDisconnect, Bytes: 99})
	s.fin(0, 2, 381)
	s.end(0, 2, 400, anysock.End{How: anysock.Graceful, By: anysock.Peer, Sent: 102, Received: 99, Drained: 99})
	s.end(1, 3, 12_345_678, anysock.End{How: anysock.Lost, Sent: 99, Received: 102, Unacked: 99})
	return &Diagram{Roles: []string{"client", "server"}, Steps: s.steps}
}

func drawn(t *testing.T, d *Diagram, style Style) string {
	t.Helper()
	var b bytes.Buffer
	if err := d.Draw(&b, style); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestDrawing(t *testing.T) {
	for name, d := range map[string]*Diagram{
		"direct": direct(), "relay": throughRelay(), "aborted": aborted(), "failed": failed(), "broken": broken(), "pieces": pieces(),
	} {
		for suffix, style := range map[string]Style{"": {Unicode: true}, "-ascii": {}, "-colour": {Unicode: true, Color: true}} {
			t.Run(name+suffix, func(t *testing.T) {
				golden(t, name+suffix, drawn(t, d, style))
			})
		}
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s: got\n%s\nwant\n%s", file, got, want)
	}
}

// TestOrderDoesNotDependOnReports: events of several sockets are reported in
// an order that changes from run to run.
func TestOrderDoesNotDependOnReports(t *testing.T) {
	for name, d := range map[string]*Diagram{"direct": direct(), "relay": throughRelay(), "aborted": aborted(), "pieces": pieces()} {
		want := drawn(t, d, Style{})
		rnd := rand.New(rand.NewPCG(1, 2))
		for range 200 {
			e := &Diagram{Roles: d.Roles, Steps: append([]Step(nil), d.Steps...)}
			rnd.Shuffle(len(e.Steps), func(i, j int) { e.Steps[i], e.Steps[j] = e.Steps[j], e.Steps[i] })
			if got := drawn(t, e, Style{}); got != want {
				t.Fatalf("%s: got\n%s\nwant\n%s", name, got, want)
			}
		}
	}
}

// TestCauseComesFirst: a read stands below the write whose bytes it read,
// whatever the clock says.
func TestCauseComesFirst(t *testing.T) {
	_, marks := throughRelay().order()
	var sent, got [4]int64 // by direction: client to relay, relay to server, server to relay, relay to client
	for _, m := range marks {
		switch m.ev.Op {
		case anysock.OpWrite:
			sent[map[uint64]int{3: 0, 5: 1, 6: 2, 4: 3}[m.ev.Socket]] += m.ev.Bytes
		case anysock.OpRead:
			i := map[uint64]int{4: 0, 6: 1, 5: 2, 3: 3}[m.ev.Socket]
			got[i] += m.ev.Bytes
			if got[i] > sent[i] {
				t.Errorf("direction %d: %d bytes read before they were written (%d)", i, got[i], sent[i])
			}
		}
	}
	if sent != [4]int64{250, 250, 250, 250} || got != sent {
		t.Errorf("drawn: sent %v, read %v", sent, got)
	}
}

// TestNeverWiderThanThePage holds for words of any length and any number of
// roles, and whatever the events say.
func TestNeverWiderThanThePage(t *testing.T) {
	long := strings.Repeat("ä-long-name", 30)
	for n := 1; n <= maxRoles+1; n++ {
		var roles []string
		s := newScript()
		for i := range n {
			roles = append(roles, long)
			s.did(i, uint64(10+i), 10*i, 10*i+5, anysock.Event{Op: anysock.OpBind, Local: long, Err: errors.New(long + " " + long)})
			s.did(i, uint64(10+i), 10*i, 10*i+5, anysock.Event{Op: anysock.OpConnect, Local: long + "x", Peer: long + "y"})
			s.did(n-1-i, uint64(20+i), 10*i, 10*i+5, anysock.Event{Op: anysock.OpAccept, Local: long + "y", Peer: long + "x"})
			s.write(i, uint64(10+i), 500, 1<<62)
			s.end(i, uint64(10+i), 1<<30, anysock.End{How: anysock.AbortedByPeer, Sent: 1 << 62, Received: 1 << 62, Drained: 1 << 62})
		}
		s.op(n, 99, 0, anysock.OpClose, "no such role")
		for _, line := range strings.Split(drawn(t, &Diagram{Roles: roles, Steps: s.steps}, Style{Unicode: true}), "\n") {
			if w := utf8.RuneCountInString(line); w > Width {
				t.Errorf("%d roles: %d columns: %s", n, w, line)
			}
		}
	}
}
