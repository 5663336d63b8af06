package ssh

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anysock/anysock"
	xssh "golang.org/x/crypto/ssh"
)

// Both sorts of target, and a chain of two servers.
func TestHopTargets(t *testing.T) {
	r, inner := newRig(t), newRig(t)
	b, b2 := newBastion(t, r), newBastion(t, inner)
	says(t, dialed(t, r.hop(b.ln.Addr())+","+echoing(t)), "tcp")
	says(t, dialed(t, r.hop(b.ln.Addr())+","+inner.hop(b2.ln.Addr())+","+echoing(t)), "two hops")
	if b2.opened.Load() != 1 {
		t.Error("the second server was not asked")
	}

	path := filepath.Join(t.TempDir(), "sock")
	l := listening(t, "unix:"+path)
	c := dialed(t, r.hop(b.ln.Addr())+",unix:"+path)
	far := accepted(t, l)
	if _, err := far.Write([]byte("hi")); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 2)
	if _, err := io.ReadFull(c, buf); err != nil || string(buf) != "hi" {
		t.Errorf("%q, %v", buf, err)
	}
	if got := c.RemoteAddr(); got.Network() != "unix" || got.String() != path {
		t.Errorf("the remote address is %s %s", got.Network(), got)
	}
	if got := c.Caps(); got != streamCaps {
		t.Errorf("caps %s", got)
	}
}

// Both parts over another base than tcp.
func TestOverUnix(t *testing.T) {
	r := newRig(t)
	path := filepath.Join(t.TempDir(), "sock")
	l := listening(t, "ssh+unix:"+path+"?hostkey=file:"+r.host.private+"&authorized=file:"+r.user.public)
	known := knownFile(t, path+" "+r.host.line())
	d := dialed(t, "ssh+unix:"+path+"?key=file:"+r.user.private+"&knownhosts=file:"+known+",tcp://h:1")
	says2(t, d, accepted(t, l))
	fails(t, "ssh+unix:"+path+"?key=file:"+r.user.private+"&knownhosts=file:"+knownFile(t)+",tcp://h:1", anysock.KindAuth, "not known", path)
}

// A library that is stuck holds up nobody but itself.
func TestConnectionOfAStuckLibrary(t *testing.T) {
	l := listening(t, "mem:stuck")
	c := newCarrier(dialed(t, "mem:stuck"))
	accepted(t, l)
	stuck := stuckConn{over: make(chan struct{})}
	defer close(stuck.over)
	reqs := make(chan *xssh.Request)
	close(reqs)
	n := newConnection(c, stuck, reqs, false, 0)
	c.Close()
	n.wg.Wait()
	if !errors.Is(n.err, errStuck) {
		t.Error(n.err)
	}
}

// A stuckConn never ends.
type stuckConn struct {
	xssh.Conn
	over chan struct{}
}

func (s stuckConn) Wait() error {
	<-s.over
	return nil
}

// The user of the address, else that of the system.
func TestHopUser(t *testing.T) {
	r := newRig(t)
	names := make(chan string, 2)
	b := newBastion(t, r, func(b *bastion) {
		ask := b.config.PublicKeyCallback
		b.config.PublicKeyCallback = func(meta xssh.ConnMetadata, key xssh.PublicKey) (*xssh.Permissions, error) {
			select {
			case names <- meta.User():
			default:
			}
			return ask(meta, key)
		}
	})
	me, err := user.Current()
	if err != nil {
		t.Skip(err)
	}
	address := r.hop(b.ln.Addr()) + "," + echoing(t)
	says(t, dialed(t, strings.Replace(address, "ops@", "", 1)), "x")
	if got := <-names; got != me.Username {
		t.Errorf("user %q, want %q", got, me.Username)
	}
}

// A server that refuses is a hop that refuses, with the server's words.
func TestHopRefused(t *testing.T) {
	r := newRig(t)
	b := newBastion(t, r)
	address := r.hop(b.ln.Addr())
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	fails(t, address+",tcp://"+closed.Addr().String(), anysock.KindHop, "could not connect", "connection refused", closed.Addr().String())
	fails(t, address+",unix:/nonexistent/sock", anysock.KindHop, "could not connect", "no such file")
	for reason, words := range map[xssh.RejectionReason][]string{
		xssh.Prohibited:         {"forbids", "open failed\\n", "AllowTcpForwarding"},
		xssh.UnknownChannelType: {"does not know direct-tcpip"},
		xssh.ResourceShortage:   {"refuses"},
	} {
		b.refuse.Store(&xssh.OpenChannelError{Reason: reason, Message: "open failed\n"})
		fails(t, address+",tcp://127.0.0.1:1", anysock.KindHop, words...)
	}
}

func TestHopDestinations(t *testing.T) {
	r := newRig(t)
	b := newBastion(t, r)
	for to, word := range map[string]string{
		"tcp://:5":         "missing",
		"tcp://h:0":        "port",
		"tcp4://h:1":       "family",
		"tcp6://1.2.3.4:1": "tcp6",
		"unix:@abstract":   "abstract",
		"vsock://3:1":      "vsock",
		"mem:x":            "mem",
	} {
		fails(t, r.hop(b.ln.Addr())+","+to, anysock.KindAddress, word)
	}
	if n := b.opened.Load(); n != 0 {
		t.Errorf("%d channels were opened", n)
	}
}

// The context bounds every part, and says so: a server that is silent, and one
// that does not answer for the target.
func TestHopContext(t *testing.T) {
	r := newRig(t)
	b := newBastion(t, r)
	b.silent.Store(true)
	mute, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	for name, at := range map[string]net.Addr{"no handshake": mute.Addr(), "no answer": b.ln.Addr()} {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		_, err := anysock.Dial(ctx, r.hop(at)+",tcp://127.0.0.1:1")
		cancel()
		var e *anysock.Error
		if !errors.As(err, &e) || e.Kind != anysock.KindTimeout || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What is no SSH server, and one that has no room.
func TestHopNoServer(t *testing.T) {
	r := newRig(t)
	for greeting, words := range map[string][]string{
		"":                           {"closed the connection during the handshake"},
		"220 smtp.example ESMTP\r\n": {"closed the connection during the handshake"},
		"SSH-1.0-old\r\n":            {"closed the connection during the handshake"},
		"SSH-2.0-x\r\nnot a packet, but long enough for one": {"ssh:127.0.0.1"},
	} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, greeting)
			_ = c.(*net.TCPConn).CloseWrite()
			_, _ = io.Copy(io.Discard, c)
			c.Close()
		}()
		fails(t, r.hop(l.Addr())+",tcp://127.0.0.1:1", anysock.KindAuth, words...)
		l.Close()
		<-done
	}
}

// Contract 3, as a client of HTTP/1.0 does it.
func TestHopHalfClose(t *testing.T) {
	r := newRig(t)
	b := newBastion(t, r)
	l := listening(t, "tcp://127.0.0.1:0")
	c := dialed(t, r.hop(b.ln.Addr())+",tcp://"+l.Addr().String())
	far := accepted(t, l)
	question := bytes.Repeat([]byte("question"), 100_000)
	go func() {
		_, _ = c.Write(question)
		_ = c.CloseWrite()
	}()
	got, err := io.ReadAll(far)
	if err != nil || !bytes.Equal(got, question) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	if _, err := far.Write([]byte("late reply")); err != nil {
		t.Fatal(err)
	}
	far.Close()
	if got, err := io.ReadAll(c); err != nil || string(got) != "late reply" {
		t.Errorf("%q, %v", got, err)
	}
	end, err := c.Disconnect(bounded(t))
	if err != nil || end.How != anysock.Graceful {
		t.Errorf("%v, %v", end, err)
	}
}

// A stream that has ended hangs up in order: a reset could cost the server what
// is still under way to it.
func TestHopHangsUp(t *testing.T) {
	r := newRig(t)
	b := newBastion(t, r, func(b *bastion) { b.ends = make(chan error, 1) })
	target := echoing(t)
	for range 20 {
		c := dialed(t, r.hop(b.ln.Addr())+","+target)
		says(t, c, "bye")
		if end, err := c.Disconnect(bounded(t)); err != nil || end.How != anysock.Graceful {
			t.Fatalf("%v, %v", end, err)
		}
		if err := <-b.ends; !errors.Is(err, io.EOF) {
			t.Errorf("the server sees %v", err)
		}
	}
}

// A server that is gone is a cut at every moment, also when all that came
// before was read, and never an end of file.
func TestHopCut(t *testing.T) {
	r := newRig(t)
	b := newBastion(t, r)
	for _, unread := range []int{0, 1000, 200_000} {
		l := listening(t, "tcp://127.0.0.1:0")
		c := dialed(t, r.hop(b.ln.Addr())+",tcp://"+l.Addr().String())
		far := accepted(t, l)
		if _, err := far.Write(make([]byte, 1000+unread)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, make([]byte, 1000)); err != nil {
			t.Fatal(err)
		}
		noticed := make(chan anysock.Readiness, 1)
		go func() {
			got, _ := c.Wait(bounded(t), 0, 1)
			noticed <- got
		}()
		b.cut()
		if got := <-noticed; got != anysock.Failed {
			t.Errorf("waiting for a failure: %v", got)
		}
		n, err := io.Copy(io.Discard, struct{ io.Reader }{c})
		if err == nil || n > int64(unread) {
			t.Errorf("%d bytes of %d, and then %v", n, unread, err)
		}
		<-c.Done()
		if end := c.End(); end.How != anysock.Truncated && end.How != anysock.AbortedByPeer {
			t.Errorf("the ending is %v", end)
		}
		if _, err := c.Write([]byte("x")); err == nil {
			t.Error("a write after the cut")
		}
	}
}

// A server that is lost between the ends and its close may not have passed
// everything on.
func TestHopCutBeforeTheServersClose(t *testing.T) {
	r := newRig(t)
	keep := make(chan struct{})
	l := foreignServer(t, r, func(ch xssh.Channel) {
		_ = ch.CloseWrite()
		_, _ = io.Copy(io.Discard, ch)
		<-keep // both have ended, and the channel stays open
	})
	c := dialed(t, r.hop(l.Addr())+",tcp://h:1")
	if _, err := io.ReadAll(c); err != nil {
		t.Fatal(err)
	}
	result := make(chan error, 1)
	go func() {
		_, err := c.Disconnect(bounded(t))
		result <- err
	}()
	waitFor(t, func() bool {
		n, err := c.Unacked()
		return err == nil && n == 0 || errors.Is(err, errors.ErrUnsupported)
	})
	l.cut()
	close(keep)
	if err := <-result; err == nil {
		t.Errorf("the ending is %v", c.End())
	}
}

// A close without an end before it is how many servers end in order.
func TestHopServerClosesOnly(t *testing.T) {
	r := newRig(t)
	l := foreignServer(t, r, func(ch xssh.Channel) {
		_, _ = ch.Write([]byte("all of it"))
		_ = ch.Close()
	})
	c := dialed(t, r.hop(l.Addr())+",tcp://h:1")
	if got, err := io.ReadAll(c); err != nil || string(got) != "all of it" {
		t.Errorf("%q, %v", got, err)
	}
}

// A foreign is a server that has each channel handled as a test says.
type foreign struct {
	*bastion
}

func (f foreign) Addr() net.Addr { return f.ln.Addr() }

func foreignServer(t *testing.T, r rig, handle func(xssh.Channel)) foreign {
	t.Helper()
	return foreign{newBastion(t, r, func(b *bastion) { b.handle = handle })}
}

func waitFor(t testing.TB, cond func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(testBound); !cond(); <-tick.C {
		if time.Now().After(end) {
			t.Fatal("the condition was not met in time")
		}
	}
}

// An abort does not wait for a server that takes nothing.
func TestHopAbortWithFullPipes(t *testing.T) {
	r := newRig(t)
	b := newBastion(t, r)
	l := listening(t, "tcp://127.0.0.1:0")
	c := dialed(t, r.hop(b.ln.Addr())+",tcp://"+l.Addr().String())
	far := accepted(t, l)
	c.SetWriteDeadline(time.Now().Add(300 * time.Millisecond))
	n, err := c.Write(make([]byte, 64<<20))
	if n == 64<<20 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("%d, %v", n, err)
	}
	start := time.Now()
	if err := c.Abort(); !errors.Is(err, errors.ErrUnsupported) {
		t.Error(err)
	}
	if d := time.Since(start); d > testBound/4 {
		t.Errorf("it took %s", d)
	}
	far.Abort()
}

// A server that does not answer any more is lost, within the bound.
func TestHopKeepAlive(t *testing.T) {
	r := newRig(t)
	b := newBastion(t, r)
	p := newFreezer(t, b.ln.Addr().String())
	c := dialed(t, r.hop(p.ln.Addr(), "alive=50ms")+","+echoing(t))
	says(t, c, "alive")
	// An idle connection stays: its server answers.
	waitFor(t, func() bool { return p.passed.Load() > 10 })
	says(t, c, "still")
	p.freeze()
	_, err := io.ReadAll(c)
	var e *anysock.Error
	if !errors.As(err, &e) || e.Kind != anysock.KindLost || !strings.Contains(err.Error(), "has not answered") {
		t.Errorf("%v", err)
	}
	if end := c.End(); end.How != anysock.Lost {
		t.Errorf("the ending is %v", end)
	}
}

// A freezer passes bytes on until it is frozen.
type freezer struct {
	ln     net.Listener
	passed counter // pieces
	frozen chan struct{}
	once   sync.Once
}

func newFreezer(t *testing.T, to string) *freezer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &freezer{ln: l, frozen: make(chan struct{})}
	var wg sync.WaitGroup
	over := make(chan struct{})
	wg.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", to)
			if err != nil {
				in.Close()
				return
			}
			wg.Go(func() { <-over; in.Close(); out.Close() })
			wg.Go(func() { f.pass(in, out) })
			wg.Go(func() { f.pass(out, in) })
		}
	})
	t.Cleanup(func() { close(over); l.Close(); wg.Wait() })
	return f
}

func (f *freezer) freeze() { f.once.Do(func() { close(f.frozen) }) }

func (f *freezer) pass(from, to net.Conn) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		select {
		case <-f.frozen:
			return
		default:
		}
		if err != nil {
			return
		}
		f.passed.Add(1)
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
	}
}
