package ssh

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/anysock/anysock"
	xssh "golang.org/x/crypto/ssh"
)

// stock is a client of the library's, without anything of ours.
func stock(t testing.TB, r rig, at net.Addr, user string) (*xssh.Client, error) {
	t.Helper()
	c, err := xssh.Dial("tcp", at.String(), &xssh.ClientConfig{
		User: user, Auth: []xssh.AuthMethod{xssh.PublicKeys(r.user)},
		HostKeyCallback: xssh.FixedHostKey(r.host.PublicKey()), Timeout: testBound,
	})
	if err == nil {
		t.Cleanup(func() { c.Close() })
	}
	return c, err
}

func mustStock(t testing.TB, r rig, at net.Addr) *xssh.Client {
	t.Helper()
	c, err := stock(t, r, at, "anybody")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Many streams over one connection; each is an accepted one, and names what the
// client wanted to reach.
func TestListenerManyChannels(t *testing.T) {
	r := newRig(t)
	l := listening(t, r.listenAddr())
	client := mustStock(t, r, l.Addr())
	for i := range 5 {
		sock := fmt.Sprintf("/run/%d.sock", i)
		for _, to := range []struct{ network, address, want string }{
			{"tcp", fmt.Sprintf("host%d:%d", i, 1000+i), fmt.Sprintf("host%d:%d", i, 1000+i)},
			{"unix", sock, sock},
		} {
			peer, err := client.Dial(to.network, to.address)
			if err != nil {
				t.Fatal(err)
			}
			c := accepted(t, l)
			if a := c.LocalAddr(); a.Network() != "ssh" || a.String() != to.want {
				t.Errorf("the local address is %s %s, want %s", a.Network(), a, to.want)
			}
			if got, want := c.RemoteAddr().String(), client.LocalAddr().String(); got != want {
				t.Errorf("the remote address is %s, want %s", got, want)
			}
			if _, err := io.WriteString(peer, to.want); err != nil {
				t.Fatal(err)
			}
			buf := make([]byte, len(to.want))
			if _, err := io.ReadFull(c, buf); err != nil || string(buf) != to.want {
				t.Errorf("%q, %v", buf, err)
			}
		}
	}
}

// One stream that is not read does not hold up another of the same connection.
func TestListenerStreamsDoNotHoldEachOtherUp(t *testing.T) {
	r := newRig(t)
	l := listening(t, r.listenAddr())
	client := mustStock(t, r, l.Addr())
	full, err := client.Dial("tcp", "a:1")
	if err != nil {
		t.Fatal(err)
	}
	stuck := accepted(t, l)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = full.Write(make([]byte, 8<<20))
	}()
	waitFor(t, func() bool { n, err := stuckBuffered(stuck); return err == nil && n > 0 })
	other, err := client.Dial("tcp", "b:1")
	if err != nil {
		t.Fatal(err)
	}
	c := accepted(t, l)
	go func() { _, _ = io.Copy(other, other) }()
	says(t, c, "not held up")
	stuck.Abort()
	<-done
}

// stuckBuffered is how much waits to be read.
func stuckBuffered(c *anysock.Conn) (int, error) {
	ctx, cancel := context.WithTimeout(context.Background(), testBound)
	defer cancel()
	return c.Peek(ctx, make([]byte, 1))
}

// There is nothing but channels to somewhere.
func TestListenerRefuses(t *testing.T) {
	r := newRig(t)
	l := listening(t, r.listenAddr())
	client := mustStock(t, r, l.Addr())
	wantRefused := func(what string, err error, reason xssh.RejectionReason) {
		t.Helper()
		var e *xssh.OpenChannelError
		if !errors.As(err, &e) || e.Reason != reason {
			t.Errorf("%s: %v", what, err)
		}
	}
	_, err := client.NewSession()
	wantRefused("a session", err, xssh.Prohibited)
	if err == nil || !strings.Contains(err.Error(), "ssh -W") {
		t.Errorf("a session is refused with %v", err)
	}
	_, _, err = client.OpenChannel("x11\x1b[31m", nil)
	wantRefused("another channel", err, xssh.Prohibited)
	if err != nil && strings.Contains(err.Error(), "\x1b") {
		t.Errorf("the refusal repeats control characters: %q", err)
	}
	for name, payload := range map[string][]byte{
		"nothing":     nil,
		"a half":      xssh.Marshal(openTCP{Host: "h", Port: 1})[:6],
		"a port":      xssh.Marshal(openTCP{Host: "h", Port: 65536}),
		"a long name": xssh.Marshal(openTCP{Host: strings.Repeat("x", maxName+1), Port: 1}),
	} {
		_, _, err = client.OpenChannel(channelTCP, payload)
		wantRefused(name, err, xssh.ConnectionFailed)
	}
	if _, err := client.Listen("tcp", "127.0.0.1:0"); err == nil {
		t.Error("tcpip-forward was granted")
	}
	if _, err := client.ListenUnix("/run/x"); err == nil {
		t.Error("streamlocal-forward was granted")
	}
	// And the connection has survived all that.
	peer, err := client.Dial("tcp", "h:1")
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	accepted(t, l)
}

// A name that a client chooses does no harm in a log.
func TestListenerNamesArePrintable(t *testing.T) {
	r := newRig(t)
	l := listening(t, r.listenAddr())
	client := mustStock(t, r, l.Addr())
	go func() { _, _ = client.Dial("unix", "/run/\x1b[2J\nx\xff") }()
	if got := accepted(t, l).LocalAddr().String(); got != `/run/\x1b[2J\nx\xff` {
		t.Errorf("%q", got)
	}
}

func TestListenerLimitsChannels(t *testing.T) {
	r := newRig(t)
	l := listening(t, r.listenAddr("maxchannels=2"))
	client := mustStock(t, r, l.Addr())
	var conns []*anysock.Conn
	for range 2 {
		if _, err := client.Dial("tcp", "h:1"); err != nil {
			t.Fatal(err)
		}
		conns = append(conns, accepted(t, l))
	}
	var e *xssh.OpenChannelError
	if _, err := client.Dial("tcp", "h:1"); !errors.As(err, &e) || e.Reason != xssh.ResourceShortage {
		t.Fatalf("the third: %v", err)
	}
	conns[0].Abort()
	waitFor(t, func() bool {
		peer, err := client.Dial("tcp", "h:1")
		if err != nil {
			return false
		}
		peer.Close()
		return true
	})
}

// A client that opens and closes streams which nobody accepts holds no more of
// them than its share, and the listener goes on.
func TestListenerLimitsTheUnaccepted(t *testing.T) {
	r := newRig(t)
	l := listening(t, r.listenAddr("maxchannels=2"))
	client := mustStock(t, r, l.Addr())
	for range 2 {
		peer, err := client.Dial("tcp", "h:1")
		if err != nil {
			t.Fatal(err)
		}
		peer.Close()
	}
	var e *xssh.OpenChannelError
	for range 5 {
		if _, err := client.Dial("tcp", "h:1"); !errors.As(err, &e) || e.Reason != xssh.ResourceShortage {
			t.Fatalf("one more: %v", err)
		}
	}
	for range 2 {
		accepted(t, l).Abort()
	}
	if _, err := client.Dial("tcp", "h:1"); err != nil {
		t.Error(err)
	}
}

func TestListenerLimitsClients(t *testing.T) {
	r := newRig(t)
	l := listening(t, r.listenAddr("maxclients=1"))
	first := mustStock(t, r, l.Addr())
	if _, err := stock(t, r, l.Addr(), "x"); err == nil {
		t.Fatal("a second client was let in")
	}
	first.Close()
	waitFor(t, func() bool {
		_, err := stock(t, r, l.Addr(), "x")
		return err == nil
	})
}

// Only those with the key, and of the users only those that are named.
func TestListenerLetsInByKeyAndUser(t *testing.T) {
	r := newRig(t)
	l := listening(t, r.listenAddr("user=ops", "user=dev"))
	for user, want := range map[string]bool{"ops": true, "dev": true, "root": false, "": false} {
		if _, err := stock(t, r, l.Addr(), user); (err == nil) != want {
			t.Errorf("user %q: %v", user, err)
		}
	}
	stranger := rig{r.host, newKey(t)}
	if _, err := stock(t, stranger, l.Addr(), "ops"); err == nil {
		t.Error("an unknown key was let in")
	}
	c, err := xssh.Dial("tcp", l.Addr().String(), &xssh.ClientConfig{
		User: "ops", Auth: []xssh.AuthMethod{xssh.Password("x")}, HostKeyCallback: xssh.FixedHostKey(r.host.PublicKey()), Timeout: testBound,
	})
	if err == nil {
		c.Close()
		t.Error("a password was taken")
	}
}

// Keys can be tried so often, and the one that fits may be the last.
func TestListenerLimitsTries(t *testing.T) {
	r := newRig(t)
	l := listening(t, r.listenAddr())
	for wrong, want := range map[int]bool{MaxAuthTries - 1: true, MaxAuthTries: false} {
		var signers []xssh.Signer
		for range wrong {
			signers = append(signers, newKey(t))
		}
		c, err := xssh.Dial("tcp", l.Addr().String(), &xssh.ClientConfig{
			User: "x", Auth: []xssh.AuthMethod{xssh.PublicKeys(append(signers, r.user)...)},
			HostKeyCallback: xssh.FixedHostKey(r.host.PublicKey()), Timeout: testBound,
		})
		if (err == nil) != want {
			t.Errorf("after %d wrong keys: %v", wrong, err)
		}
		if err == nil {
			c.Close()
		}
	}
}

// The handshake has a bound, and a silent client holds up nobody.
func TestListenerSilentClient(t *testing.T) {
	r := newRig(t)
	l := listening(t, r.listenAddr())
	for range 5 {
		silent, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer silent.Close()
	}
	dialed(t, r.hop(l.Addr())+",tcp://h:1")

	target := serverTarget(t, r)
	ln := listening(t, "tcp://127.0.0.1:0")
	silent, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := serveMany(ctx, accepted(t, ln), target); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the handshake with a silent client: %v", err)
	}
	if n := target.Prepared.(*server).clients.Load(); n != 0 {
		t.Errorf("%d clients are counted", n)
	}
}

// serverTarget is what serveMany gets.
func serverTarget(t *testing.T, r rig) anysock.Target {
	t.Helper()
	keys, err := newAuthorizedKeys(r.user.public)
	if err != nil {
		t.Fatal(err)
	}
	return anysock.Target{Prepared: &server{hostKeys: []xssh.Signer{r.host}, authorized: keys, maxChannels: 1, maxClients: 1}}
}

// Closing the listener leaves the streams that were accepted, and ends the
// connection with the last of them; others are ended at once.
func TestListenerClose(t *testing.T) {
	r := newRig(t)
	l := listening(t, r.listenAddr())
	busy, idle := mustStock(t, r, l.Addr()), mustStock(t, r, l.Addr())
	peer, err := busy.Dial("tcp", "h:1")
	if err != nil {
		t.Fatal(err)
	}
	c := accepted(t, l)
	l.Close()
	_ = idle.Wait()
	if _, err := busy.Dial("tcp", "h:1"); err == nil {
		t.Error("a channel was accepted after the listener was closed")
	}
	go func() { _, _ = io.Copy(peer, peer) }()
	says(t, c, "still here")
	c.Abort()
	_ = busy.Wait()
}

// The channel is closed as soon as both directions have ended and everything was
// read, so that a client does not wait until our program closes the connection.
func TestListenerClosesTheChannelAtBothEnds(t *testing.T) {
	r := newRig(t)
	l := listening(t, r.listenAddr())
	for _, first := range []string{"listener", "hop"} {
		d := dialed(t, r.hop(l.Addr())+",tcp://h:1")
		a := accepted(t, l)
		if first == "listener" {
			if err := a.CloseWrite(); err != nil {
				t.Fatal(err)
			}
		}
		start := time.Now()
		result := make(chan error, 1)
		go func() {
			_, err := d.Disconnect(bounded(t))
			result <- err
		}()
		if _, err := io.ReadAll(a); err != nil {
			t.Fatal(err)
		}
		if err := a.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if err := <-result; err != nil || d.End().How != anysock.Graceful {
			t.Errorf("%v, %v", d.End(), err)
		}
		if took := time.Since(start); took >= anysock.DefaultDrainTimeout {
			t.Errorf("the %s ended first: the other waited %s", first, took)
		}
	}
}

// What nobody has accepted is aborted when the listener is closed.
func TestListenerCloseAbortsTheUnaccepted(t *testing.T) {
	r := newRig(t)
	l := listening(t, r.listenAddr())
	c := dialed(t, r.hop(l.Addr())+",tcp://h:1")
	many := mustStock(t, r, l.Addr())
	for range 5 {
		if _, err := many.Dial("tcp", "h:1"); err != nil {
			t.Fatal(err)
		}
	}
	l.Close()
	if _, err := io.ReadAll(c); err == nil {
		t.Error("the client reads an end in order")
	}
	_ = many.Wait() // nothing holds the connection
}

// Between two ends of ours an abort is one, either way, though the capability
// is not declared: others cannot say it.
func TestListenerAbortIsHeardByOurHop(t *testing.T) {
	r := newRig(t)
	l := listening(t, r.listenAddr())
	for name, abort := range map[string]func(dialed, accepted *anysock.Conn) (*anysock.Conn, error){
		"the listener's side": func(d, a *anysock.Conn) (*anysock.Conn, error) { return d, a.Abort() },
		"the hop's side":      func(d, a *anysock.Conn) (*anysock.Conn, error) { return a, d.Abort() },
	} {
		d := dialed(t, r.hop(l.Addr())+",tcp://h:1")
		a := accepted(t, l)
		says2(t, d, a)
		hears, err := abort(d, a)
		if !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("%s: %v", name, err)
		}
		_, err = io.ReadAll(hears)
		var e *anysock.Error
		if !errors.As(err, &e) || e.Kind != anysock.KindReset {
			t.Errorf("after an abort on %s: %v", name, err)
		}
	}
}

// says2 passes a word each way.
func says2(t testing.TB, a, b *anysock.Conn) {
	t.Helper()
	for _, to := range []struct{ from, to *anysock.Conn }{{a, b}, {b, a}} {
		if _, err := to.from.Write([]byte("word")); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 4)
		if _, err := io.ReadFull(to.to, buf); err != nil || string(buf) != "word" {
			t.Fatalf("%q, %v", buf, err)
		}
	}
}

// A client that ends its stream, and hangs up when the server has ended too, as
// ssh -W does: in order, however fast it goes.
func TestListenerClientHangsUp(t *testing.T) {
	r := newRig(t)
	l := listening(t, r.listenAddr())
	for i := range 50 {
		client := mustStock(t, r, l.Addr())
		peer, err := client.Dial("tcp", "h:1")
		if err != nil {
			t.Fatal(err)
		}
		c := accepted(t, l)
		text := bytes.Repeat([]byte("x"), i*1000)
		go func() {
			_, _ = io.Copy(io.Discard, peer) // our end
			_, _ = peer.Write(text)
			_ = peer.(interface{ CloseWrite() error }).CloseWrite()
			peer.Close()
			client.Close()
		}()
		if err := c.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(c); err != nil || len(got) != len(text) {
			t.Fatalf("round %d: %d bytes of %d, %v", i, len(got), len(text), err)
		}
		if end, err := c.Disconnect(bounded(t)); err != nil || end.How != anysock.Graceful {
			t.Fatalf("round %d: %v, %v", i, end, err)
		}
	}
}

// A client that is cut off in the middle is no end.
func TestListenerClientIsCut(t *testing.T) {
	r := newRig(t)
	l := listening(t, r.listenAddr())
	client := mustStock(t, r, l.Addr())
	peer, err := client.Dial("tcp", "h:1")
	if err != nil {
		t.Fatal(err)
	}
	c := accepted(t, l)
	if _, err := peer.Write(make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	client.Close()
	if _, err := io.ReadAll(c); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("%v", err)
	}
	if end := c.End(); end.How != anysock.Truncated {
		t.Errorf("the ending is %v", end)
	}
}

func TestListenerOptions(t *testing.T) {
	r := newRig(t)
	empty := knownFile(t, "# nobody")
	noKey := knownFile(t, "a line")
	key, keys := "hostkey=file:"+r.host.private, "authorized=file:"+r.user.public
	for options, word := range map[string]string{
		keys:                                    "ssh-keygen",
		key:                                     "authorized=file:PATH",
		key + "&authorized=" + r.user.public:    "file:PATH",
		key + "&authorized=file:" + empty:       "no key that can be let in",
		key + "&authorized=file:" + noKey:       noKey + ":1",
		key + "&authorized=file:/nonexistent":   "/nonexistent",
		keys + "&hostkey=file:/nonexistent":     "/nonexistent",
		keys + "&hostkey=file:" + r.user.public: r.user.public,
		keys + "&hostkey=SHA256:x":              "file:PATH",
		keys + "&" + key + "&maxchannels=0":     "at least 1",
	} {
		l, err := anysock.Listen(bounded(t), "ssh://127.0.0.1:0?"+options)
		if err == nil {
			l.Close()
			t.Errorf("%s: listens", options)
			continue
		}
		var e *anysock.Error
		if !errors.As(err, &e) || e.Kind != anysock.KindAddress || !strings.Contains(e.Error()+e.Hint, word) {
			t.Errorf("%s: %v; %s", options, err, e.Hint)
		}
	}
}

// The file of keys is looked at again when it has changed, and nobody is let in
// while it cannot be read.
func TestListenerReadsKeysAgain(t *testing.T) {
	r, next := newRig(t), newKey(t)
	l := listening(t, r.listenAddr())
	mustStock(t, r, l.Addr())
	write(t, r.user.public, next.line()+" a longer comment\n")
	if _, err := stock(t, r, l.Addr(), "x"); err == nil {
		t.Error("a key that was taken out is let in")
	}
	if _, err := stock(t, rig{r.host, next}, l.Addr(), "x"); err != nil {
		t.Error(err)
	}
	if err := os.Remove(r.user.public); err != nil {
		t.Fatal(err)
	}
	if _, err := stock(t, rig{r.host, next}, l.Addr(), "x"); err == nil {
		t.Error("a key is let in without the file")
	}
}

// What a key's options restrict is restricted.
func TestListenerKeyOptions(t *testing.T) {
	r := newRig(t)
	other := newKey(t).line() + "\n"
	for options, want := range map[string][2]bool{ // let in, and to h:1
		``:                                  {true, true},
		`no-pty,no-X11-forwarding`:          {true, true},
		`restrict,port-forwarding`:          {true, true},
		`restrict`:                          {false, false},
		`from="127.0.0.0/8"`:                {true, true},
		`from="10.0.0.0/8"`:                 {false, false},
		`permitopen="h:1",permitopen="g:2"`: {true, true},
		`permitopen="g:*"`:                  {true, false},
		`command="/bin/date"`:               {false, false},
		`expiry-time="20200101"`:            {false, false},
	} {
		line := r.user.line()
		if options != "" {
			line = options + " " + line
		}
		write(t, r.user.public, other+line+"\n")
		l := listening(t, r.listenAddr())
		client, err := stock(t, r, l.Addr(), "x")
		if (err == nil) != want[0] {
			t.Errorf("%s: %v", options, err)
		}
		if err == nil {
			peer, err := client.Dial("tcp", "h:1")
			if (err == nil) != want[1] {
				t.Errorf("%s: %v", options, err)
			}
			if err == nil {
				peer.Close()
			}
		}
		l.Close()
	}
}
