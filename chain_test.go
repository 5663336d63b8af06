package anysock_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anysock/anysock"
)

// TestRequire: what an address requires is there, or put on top, or an error
// that says what is missing and what to do.
func TestRequire(t *testing.T) {
	for _, tt := range []struct {
		addr    string
		top     string // the last layer
		missing string // "" if the address is all right
		hint    string
	}{
		{"tcp://h:1?require=abort,halfclose", "tcp", "", ""},
		{"tcp://h:1?require=abort%2Chalfclose&nodelay=0", "tcp", "", ""},
		{"ws://h:1?require=cutdetect", "ws", "", ""},
		{"ws://h:1?require=halfclose,abort", "lc", "", ""}, // ws can ask for lc
		{"wss://h:1?nodelay=1&require=halfclose", "lc", "", ""},
		{"lc+unix:/x?require=abort", "lc", "", ""},
		{"unix:/x?require=halfclose,abort,deadline", "", "abort", "lc+unix:"}, // unix cannot ask
		{"tls://h:1?require=closeack", "", "closeack", "no layer adds it"},
		{"lc+ws+unix:/x?require=closeack", "", "closeack", "no layer adds it"},
		{"socks5://p:1?require=closeack,tcp://h:1", "tcp", "closeack", "no layer adds it"},
	} {
		layers, err := anysock.AddressLayers(anysock.MustParseAddress(tt.addr))
		if tt.missing == "" {
			if err != nil {
				t.Errorf("%s: %v", tt.addr, err)
			} else if last := layers[len(layers)-1]; last.Scheme != tt.top {
				t.Errorf("%s: the top is %s, want %s", tt.addr, last.Scheme, tt.top)
			}
			continue
		}
		var e *anysock.Error
		if !errors.As(err, &e) || !errors.Is(err, errors.ErrUnsupported) || e.Kind != anysock.KindUnsupported {
			t.Errorf("%s: the error is %v", tt.addr, err)
			continue
		}
		if !strings.Contains(e.Error(), "has no "+tt.missing) || !strings.Contains(e.Hint, tt.hint) {
			t.Errorf("%s: the error is %q, with the hint %q", tt.addr, e, e.Hint)
		}
		if _, err := anysock.Dial(t.Context(), tt.addr); !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("%s: dialing says %v", tt.addr, err)
		}
	}
	_, err := anysock.AddressCaps(anysock.MustParseAddress("tcp://h:1?require=abort,speed"))
	if err == nil || !strings.Contains(err.Error(), "halfclose") {
		t.Errorf("an unknown capability: %v", err)
	}
	// A comma elsewhere still separates hops.
	for _, addr := range []string{"tcp://h:1?bind=x,localhost", "tcp://h:1?require=abort,h:2"} {
		if a, err := anysock.ParseAddress(addr); err == nil {
			t.Errorf("%s parses as %s", addr, a)
		}
	}
}

// TestRequiredLayerIsSpoken: the lc that an address requires is there at both
// ends, and a peer without it is not talked to.
func TestRequiredLayerIsSpoken(t *testing.T) {
	addr := "ws+mem:required?require=halfclose"
	ln := mustListen(t, &anysock.ListenConfig{}, addr)
	c := mustDial(t, &anysock.Dialer{}, addr)
	s := mustAccept(t, ln)
	for what, caps := range map[string]anysock.Caps{"dialed": c.Caps(), "accepted": s.Caps(), "listener": ln.Caps()} {
		if !caps.Has(anysock.CapHalfClose) {
			t.Errorf("%s: %s", what, caps)
		}
	}
}

// TestAddressLayers: what each layer adds and removes.
func TestAddressLayers(t *testing.T) {
	got, err := anysock.AddressLayers(anysock.MustParseAddress("socks5://p:1,ws+tcp://h:1?require=halfclose"))
	must(t, "AddressLayers", err)
	var lines []string
	for _, l := range got {
		line := l.Scheme + " +" + l.Adds.String() + " -" + l.Removes.String()
		if l.Through {
			line += " through"
		}
		if l.Negotiated {
			line += " negotiated"
		}
		lines = append(lines, line)
	}
	want := []string{
		"tcp +halfclose,abort,cutdetect,deadline,closeack,bindsource -none",
		"socks5 +none -closeack through",
		"tcp +none -none",
		"ws +none -halfclose,abort",
		"lc +halfclose,abort -none negotiated",
	}
	if !acksKnown(t) {
		want[0], want[1] = "tcp +halfclose,abort,cutdetect,deadline,bindsource -none", "socks5 +none -none through"
	}
	if strings.Join(lines, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(lines, "\n"), strings.Join(want, "\n"))
	}
}

// TestBaseBehindAHop: a hop is asked for sockets that it can open.
func TestBaseBehindAHop(t *testing.T) {
	for _, addr := range []string{"socks5://p:1,mem:x", "socks5://p:1,tls+vsock://3:1"} {
		_, err := anysock.AddressCaps(anysock.MustParseAddress(addr))
		var ae *anysock.AddressError
		if !errors.As(err, &ae) || !strings.Contains(ae.Error(), "through another hop") {
			t.Errorf("%s: %v", addr, err)
		}
	}
	for _, addr := range []string{"socks5://p:1,ws+unix:/x", "socks5://p:1,tls+original:"} {
		if _, err := anysock.AddressCaps(anysock.MustParseAddress(addr)); err != nil {
			t.Errorf("%s: %v", addr, err)
		}
	}
}

// TestParseCaps: what String writes.
func TestParseCaps(t *testing.T) {
	for c := range anysock.Caps(1 << 7) {
		if got, err := anysock.ParseCaps(c.String()); got != c || err != nil {
			t.Errorf("%s is parsed as %s, %v", c, got, err)
		}
	}
	for _, s := range []string{"", "abort,", "Abort", "abort halfclose"} {
		if c, err := anysock.ParseCaps(s); err == nil {
			t.Errorf("%q is parsed as %s", s, c)
		}
	}
}

// TestOptionGivenTwice: a list must be declared as one.
func TestOptionGivenTwice(t *testing.T) {
	must(t, "hostkey twice", anysock.MustParseAddress("ssh://h:1?hostkey=a&hostkey=b").Check())
	_, err := anysock.ParseAddress("ssh://h:1?keepidle=1s&keepidle=2s")
	if err == nil {
		t.Error("keepidle was taken twice")
	}
}

// secretOf asks a fake hop's target for a secret.
func secretOf(t *testing.T, ref string) (secret string, err error) {
	t.Helper()
	asked := make(chan struct{})
	secretProbe.Store(&secretQuestion{func(tg anysock.Target) {
		secret, err = tg.Secret("key-pass")
		close(asked)
	}})
	t.Cleanup(func() { secretProbe.Store(nil) })
	if _, lerr := anysock.Listen(t.Context(), "vsock://1:1?key-pass="+ref); lerr == nil {
		t.Fatal("the probe listens")
	}
	<-asked
	return secret, err
}

type secretQuestion struct{ ask func(anysock.Target) }

var secretProbe atomic.Pointer[secretQuestion]

func init() {
	anysock.Register(anysock.Transport{
		Scheme:  "vsock",
		Options: []anysock.OptionSpec{{Name: "key-pass", Type: anysock.OptionString, Listen: true}},
		Listen: func(_ context.Context, _ *anysock.ListenConfig, t anysock.Target) (anysock.DeadlineListener, error) {
			secretProbe.Load().ask(t)
			return nil, errors.New("a probe")
		},
	})
}

// TestSecret: env: and file:, without the line's end, bounded, and never in an
// error.
func TestSecret(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		must(t, "writing", os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	t.Setenv("ANYSOCK_TEST_SECRET", "from the environment")
	for ref, want := range map[string]string{
		"env:ANYSOCK_TEST_SECRET":                        "from the environment",
		"file:" + write("a", "hunter2\n"):                "hunter2",
		"file:" + write("b", " spaces and\r\n"):          " spaces and",
		"file:" + write("c", "two\nlines"):               "two\nlines",
		"file:" + write("d", ""):                         "",
		"file:" + write("e", strings.Repeat("x", 65536)): strings.Repeat("x", 65536),
	} {
		if got, err := secretOf(t, ref); got != want || err != nil {
			t.Errorf("%s is %.40q, %v", ref, got, err)
		}
	}
	for ref, want := range map[string]string{
		"env:ANYSOCK_TEST_NO_SUCH":                             "ANYSOCK_TEST_NO_SUCH is not set",
		"file:" + filepath.Join(dir, "none"):                   "no such file",
		"file:" + write("f", strings.Repeat("hunter2", 65536)): "longer than 65536 bytes",
		"file:" + dir: "directory",
	} {
		if got, err := secretOf(t, ref); got != "" || err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s is %.40q, %v; want an error with %q", ref, got, err, want)
		}
	}
}

// TestRetryOfAChain: a hop that refuses the target is asked again.
func TestRetryOfAChain(t *testing.T) {
	hop := newLineHop(t)
	dead := mustListen(t, &anysock.ListenConfig{}, "tcp://127.0.0.1:0")
	target := dead.Addr().String()
	dead.Close()
	var mu sync.Mutex
	var told []anysock.Attempt
	d := &anysock.Dialer{
		Retry:     anysock.Retry{Attempts: 3, Interval: time.Millisecond},
		OnAttempt: func(a anysock.Attempt) { mu.Lock(); told = append(told, a); mu.Unlock() },
	}
	_, err := d.Dial(soon(t), hop.addr()+",tcp://"+target)
	e := errorOfKind(t, "dialing", err, anysock.KindHop)
	if len(e.Attempts) != 3 || len(told) != 3 || e.Attempts[2].Round != 3 {
		t.Errorf("%d attempts listed, %d told: %v", len(e.Attempts), len(told), e)
	}
	if n := len(hop.requests()); n != 3 {
		t.Errorf("the hop was asked %d times", n)
	}
	// The option of the first hop goes before, and is not applied twice.
	_, err = d.Dial(soon(t), hop.addr()+"?retry=2,tcp://"+target)
	e = errorOfKind(t, "dialing with an option", err, anysock.KindHop)
	if n := len(hop.requests()); n != 5 || len(e.Attempts) != 2 {
		t.Errorf("the hop was asked %d times in all, %v", n, e)
	}
	// What another try cannot cure is not tried again.
	_, err = d.Dial(soon(t), hop.addr()+",tcp://"+target+"?require=closeack")
	wantErrorKind(t, "requiring too much", err, anysock.KindUnsupported)
}

// TestListenThroughAHop: the hop listens, its address is ours, deadlines leave
// it usable, and layers run over what it accepts.
func TestListenThroughAHop(t *testing.T) {
	for _, layers := range []string{"", "tls+"} {
		t.Run(layers+"tcp", func(t *testing.T) {
			proxy := mustListen(t, &anysock.ListenConfig{}, "tcp://127.0.0.1:0")
			called := make(chan struct{})
			served := make(chan error, 1)
			go func() { served <- serveBind(t, proxy, layers != "", called) }()
			ln := mustListen(t, &anysock.ListenConfig{}, "socks5://"+proxy.Addr().String()+","+layers+"tcp://:0?peer=server")
			if got := ln.Addr().String(); got != "192.0.2.7:4711" {
				t.Errorf("the address is %s", got)
			}
			ln.SetDeadline(time.Now().Add(20 * time.Millisecond))
			if _, err := ln.AcceptContext(soon(t)); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatalf("accept past the deadline: %v", err)
			}
			ln.SetDeadline(time.Time{})
			close(called)
			c := mustAccept(t, ln)
			if got := readAll(t, c); got != "called back" {
				t.Errorf("read %q", got)
			}
			must(t, "Close", c.Close())
			must(t, "the proxy", <-served)
			if _, err := ln.AcceptContext(soon(t)); !errors.Is(err, net.ErrClosed) {
				t.Errorf("a second accept: %v", err)
			}
		})
	}
}

// serveBind plays the hop and the server that calls back.
func serveBind(t *testing.T, proxy *anysock.Listener, xor bool, called <-chan struct{}) error {
	c, err := proxy.AcceptContext(soon(t))
	if err != nil {
		return err
	}
	ctx := soon(t)
	line, err := readLine(ctx, c)
	if err != nil {
		return err
	}
	if line != "bind server" {
		return errors.New("asked for " + line)
	}
	if _, err := c.Write([]byte("192.0.2.7:4711\n")); err != nil {
		return err
	}
	<-called
	if _, err := c.Write([]byte("192.0.2.9:1\n")); err != nil {
		return err
	}
	text := []byte("called back")
	if xor { // the fake tls of the one that calls
		if _, err := c.Write([]byte{'X', 1}); err != nil {
			return err
		}
		if _, err := c.ReadAtLeast(ctx, make([]byte, 1), 1); err != nil {
			return err
		}
		for i := range text {
			text[i] ^= 1
		}
	}
	if _, err := c.Write(text); err != nil {
		return err
	}
	_, err = c.Disconnect(ctx)
	return err
}

// TestConnThroughAHop: it begins when the hop has agreed. What was said to the
// hop is not in its counts, its options are those of the last hop, and the
// exchange is a step of the trace.
func TestConnThroughAHop(t *testing.T) {
	hop := newLineHop(t)
	ln := mustListen(t, &anysock.ListenConfig{}, "tcp://127.0.0.1:0")
	silent := make(chan struct{})
	go func() { // takes the connection and never ends
		c, err := ln.AcceptContext(t.Context())
		if err == nil {
			<-silent
			_ = c.Abort()
		}
	}()
	defer close(silent)
	var mu sync.Mutex
	var steps []string
	d := &anysock.Dialer{Trace: func(ev anysock.Event) {
		mu.Lock()
		defer mu.Unlock()
		if ev.Op == anysock.OpHandshake {
			steps = append(steps, ev.Detail)
		}
	}}
	c := mustDial(t, d, hop.addr()+",tcp://"+ln.Addr().String()+"?draintimeout=10ms")
	if c.Sent() != 0 || c.Received() != 0 || c.Caps().Has(anysock.CapCloseAck) {
		t.Errorf("%d sent, %d received, caps %s", c.Sent(), c.Received(), c.Caps())
	}
	mu.Lock()
	if len(steps) != 1 || steps[0] != "socks5" {
		t.Errorf("the handshakes are %q", steps)
	}
	mu.Unlock()
	start := time.Now()
	end, err := c.Disconnect(soon(t))
	if err != nil || end.How != anysock.Delivered || end.Sent != 0 || end.Received != 0 || !end.FirstReceived.IsZero() {
		t.Errorf("the ending is %s, %v", end, err)
	}
	if took := time.Since(start); took > anysock.DefaultDrainTimeout/2 {
		t.Errorf("Disconnect took %s: the last hop's draintimeout is ignored", took)
	}
}
