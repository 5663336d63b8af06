// The lifecycle protocol between programs: what it keeps where the carrier
// cannot, and what a peer sees that does not speak it.

package integration_test

import (
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

const anyLCPort = "lc+tcp://127.0.0.1:0"

// Both ends ours: everything arrives both ways, and both end well.
func TestLCTalk(t *testing.T) {
	t.Parallel()
	there, back := data(3<<20), data(1<<20)
	l := anysock(t, back, "listen", anyLCPort)
	c := anysock(t, there, "connect", l.bound())
	c.ok()
	l.ok()
	wantSame(t, "listen", l.out.String(), there)
	wantSame(t, "connect", c.out.String(), back)
}

// A program that speaks it on its standard input and output.
func TestLCExec(t *testing.T) {
	t.Parallel()
	sent := data(1 << 20)
	c := anysock(t, sent, "connect", "lc+exec:"+binary+"?arg=relay&arg="+escaped("lc+stdio:")+"&arg=echo:")
	c.ok()
	wantSame(t, "connect", c.out.String(), sent)
}

// Servers that do not speak it: one that talks first, one that ends, one that
// sends back what it gets.
func TestLCConnectToPlainPeer(t *testing.T) {
	t.Parallel()
	ncat := need(t, "ncat")
	for name, tt := range map[string]struct {
		args  []string
		input string
		says  string
	}{
		"talks": {[]string{"-l", "127.0.0.1", "0"}, "220 ready\r\n", `does not speak the lifecycle protocol`},
		"ends":  {[]string{"-l", "--sh-exec", "exit 0", "127.0.0.1", "0"}, "", `ended the connection in the opening`},
		"echo":  {[]string{"-l", "--exec", need(t, "cat"), "127.0.0.1", "0"}, "", `sends back what it gets`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := start(t, command{argv: append([]string{ncat}, tt.args...), input: []byte(tt.input)})
			c := anysock(t, []byte("secret"), "connect", "lc+tcp://127.0.0.1:"+portOf(t, p))
			c.wantStatus(6)
			c.complains(tt.says)
			c.complains(`leave out 'lc\+' here`)
			if got := p.out.String(); name == "talks" && (!strings.HasPrefix(got, "\x8alc/\r\n\x1a\n") || strings.Contains(got, "secret")) {
				t.Errorf("ncat got %q: want the opening and nothing of ours", got)
			}
		})
	}
}

// A client that does not speak it gets no byte, and the next one is served.
func TestLCListenerAndPlainClient(t *testing.T) {
	t.Parallel()
	l := anysock(t, nil, "echo", anyLCPort)
	host, port := hostPort(t, strings.TrimPrefix(l.bound(), "lc+"))
	n := start(t, command{argv: []string{need(t, "ncat"), host, port}, input: []byte("GET / HTTP/1.1\r\n\r\n")})
	_ = n.status() // whatever it makes of the end
	if got := n.out.String(); got != "" {
		t.Errorf("a client that does not speak the protocol was sent %q", got)
	}
	c := anysock(t, []byte("hello"), "connect", "lc+tcp://"+host+":"+port)
	c.ok()
	wantSame(t, "connect", c.out.String(), []byte("hello"))
}

// lcRelays joins a client and a target by two relays, between which is a Unix
// socket: it has no abort, and a killed program's end looks like any other.
func lcRelays(t *testing.T, target string) (from string, second *process) {
	t.Helper()
	second, middle := relay(t, "lc+unix:"+filepath.Join(shortDir(t), "s"), target)
	_, from = relay(t, anyPort, middle)
	return from, second
}

func TestLCCarriesEndings(t *testing.T) {
	t.Parallel()
	t.Run("late reply", func(t *testing.T) {
		t.Parallel()
		srv, target := server(t, "late", loopback)
		from, _ := lcRelays(t, target)
		client(t, "talk", from, []byte(request)).report().wantEOF(t, "the client", lateReply)
		srv.report().wantEOF(t, "the server", []byte(request))
	})
	t.Run("reset by the server", func(t *testing.T) {
		t.Parallel()
		_, target := server(t, "abort", loopback, strconv.Itoa(message))
		from, _ := lcRelays(t, target)
		client(t, "read", from, []byte("x")).report().wantReset(t, "the client", message)
	})
	t.Run("reset by the client", func(t *testing.T) {
		t.Parallel()
		srv, target := server(t, "sink", loopback)
		from, _ := lcRelays(t, target)
		client(t, "abort", from, nil, strconv.Itoa(message)).ok()
		srv.report().wantReset(t, "the server", message)
	})
}

// A killed program is a cut, though its kernel says end of file.
func TestLCKilledPeer(t *testing.T) {
	t.Parallel()
	l := anysockPiped(t, "listen", anyLCPort)
	c := anysockPiped(t, "connect", l.bound())
	l.write("half a message")
	c.says(`half a message`)
	l.signal(syscall.SIGKILL)
	c.wantStatus(7)
	c.complains(`the carrier ended before the peer's end`)
}
