package all_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/internal/testcert"
	"github.com/anysock/anysock/proxy"
	_ "github.com/anysock/anysock/transport/all"
	"golang.org/x/crypto/ssh"
)

// What the other side of a relay can be told.
const (
	told  = "abort"
	cut   = "cut"
	ended = "end"
	held  = "held"
	never = "–" // it cannot come from here
)

// A carrier is a transport as the tests use it: where to listen and what to
// dial, and how endings go over it. From these facts follows what must become
// of every ending between any two.
type carrier struct {
	name string
	caps anysock.Caps
	// listen is an address to listen on, of its own at each call; at is what
	// names a listener there; dial is the address that leads to it.
	listen func(t *testing.T) string
	at     func(ln *anysock.Listener) string
	dial   func(at string) string

	// abort is what an abort on it looks like at its other end.
	abort string
	// became is what the relay's record calls an abort that it cannot express.
	became string
	// cable is what it can be cut by without its ends' doing, "" where
	// nothing lies below; cutHow is how a relay sees that. cutOptions are added
	// to what is dialed then, so that silence is noticed soon.
	cable      string
	cutHow     anysock.How
	cutOptions string
}

func (c carrier) halfCloses() bool { return c.caps.Has(anysock.CapHalfClose) }

// What the plain sockets can do.
const (
	tcpCaps  = anysock.CapHalfClose | anysock.CapAbort | anysock.CapCutDetect | anysock.CapDeadline | anysock.CapCloseAck | anysock.CapBindSource
	unixCaps = anysock.CapHalfClose | anysock.CapCutDetect | anysock.CapDeadline
	lcCaps   = unixCaps | anysock.CapAbort | anysock.CapCloseAck
)

var names atomic.Int64

func socketFile(t *testing.T) string { return filepath.Join(t.TempDir(), "s") }

func listenerAddr(ln *anysock.Listener) string { return ln.Addr().String() }

// carriers are all of them. The certificates and the proxies live as long as
// the test.
func carriers(t *testing.T) []carrier {
	t.Helper()
	ca := testcert.New(t)
	cert := ca.Server(t)
	serving := "?cert=file:" + cert.CertFile + "&key=file:" + cert.KeyFile
	trusting := "?ca=file:" + ca.File
	fixed := func(address string) func(*testing.T) string { return func(*testing.T) string { return address } }
	prefix := func(words, options string) func(string) string {
		return func(at string) string { return words + at + options }
	}
	keys := newSSHKeys(t)
	all := []carrier{
		{
			name: "tcp", caps: tcpCaps, abort: told,
			listen: fixed("tcp://127.0.0.1:0"), dial: prefix("tcp://", ""),
		},
		{
			name: "unix", caps: unixCaps, abort: ended, became: "close",
			listen: func(t *testing.T) string { return "unix:" + socketFile(t) }, dial: prefix("unix:", ""),
		},
		{
			name: "mem", caps: tcpCaps, abort: told,
			listen: func(*testing.T) string { return fmt.Sprintf("mem:matrix-%d", names.Add(1)) }, dial: prefix("mem:", ""),
		},
		{
			name: "tls", caps: tcpCaps, abort: told, cable: "tcp", cutHow: anysock.Truncated,
			listen: fixed("tls://127.0.0.1:0" + serving), dial: prefix("tls://", trusting),
		},
		{
			name: "tls+unix", caps: unixCaps, abort: cut, became: "cut", cable: "unix", cutHow: anysock.Truncated,
			listen: func(t *testing.T) string { return "tls+unix:" + socketFile(t) + serving }, dial: prefix("tls+unix:", trusting+"&sni=localhost"),
		},
		{
			name: "ws", caps: tcpCaps &^ anysock.CapHalfClose, abort: told, cable: "tcp", cutHow: anysock.Truncated,
			listen: fixed("ws://127.0.0.1:0"), dial: prefix("ws://", ""),
		},
		{
			name: "wss", caps: tcpCaps &^ anysock.CapHalfClose, abort: told, cable: "tcp", cutHow: anysock.Truncated,
			listen: fixed("wss://127.0.0.1:0" + serving), dial: prefix("wss://", trusting),
		},
		{
			name: "quic", caps: tcpCaps, abort: told, cable: "udp", cutHow: anysock.Lost, cutOptions: "&keepidle=300ms&lost=1s",
			listen: fixed("quic://127.0.0.1:0" + serving), dial: prefix("quic://", trusting),
		},
		{
			name: "ssh", caps: anysock.CapHalfClose | anysock.CapDeadline, abort: told, became: "close", cable: "tcp", cutHow: anysock.Truncated,
			listen: fixed(keys.listen), dial: prefix("ssh://ops@", keys.dial+",tcp://any:1"),
		},
		{
			name: "lc+tcp", caps: tcpCaps, abort: told, cable: "tcp", cutHow: anysock.Truncated,
			listen: fixed("lc+tcp://127.0.0.1:0"), dial: prefix("lc+tcp://", ""),
		},
		{
			name: "lc+unix", caps: lcCaps, abort: told, cable: "unix", cutHow: anysock.Truncated,
			listen: func(t *testing.T) string { return "lc+unix:" + socketFile(t) }, dial: prefix("lc+unix:", ""),
		},
		{
			name: "lc+wss", caps: tcpCaps, abort: told, cable: "tcp", cutHow: anysock.Truncated,
			listen: fixed("lc+wss://127.0.0.1:0" + serving), dial: prefix("lc+wss://", trusting),
		},
		{
			name: "http", caps: tcpCaps, abort: told,
			listen: fixed("tcp://127.0.0.1:0"), dial: prefix("http://"+startProxy(t)+",tcp://", ""),
		},
		{
			name: "socks5", caps: tcpCaps, abort: told,
			listen: fixed("tcp://127.0.0.1:0"), dial: prefix("socks5://"+startProxy(t)+",tcp://", ""),
		},
	}
	for i := range all {
		if all[i].at == nil {
			all[i].at = listenerAddr
		}
	}
	return all
}

// startProxy is a proxy on loopback, and its address.
func startProxy(t *testing.T) string {
	t.Helper()
	ln, err := anysock.Listen(t.Context(), "tcp://127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &proxy.Server{}
	served := make(chan error, 1)
	go func() { served <- s.Serve(context.Background(), ln) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if _, err := s.Shutdown(ctx); err != nil {
			t.Errorf("proxy: %v", err)
		}
		// A test that is over at once may shut it down before it serves.
		if err := <-served; err != nil && !errors.Is(err, net.ErrClosed) {
			t.Errorf("proxy: %v", err)
		}
	})
	return ln.Addr().String()
}

// sshKeys are the options of a listener and a hop that know each other.
type sshKeys struct{ listen, dial string }

func newSSHKeys(t *testing.T) sshKeys {
	t.Helper()
	dir := t.TempDir()
	file := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	key := func(name string) (path string, public ssh.PublicKey) {
		_, private, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		block, err := ssh.MarshalPrivateKey(private, name)
		if err != nil {
			t.Fatal(err)
		}
		signer, err := ssh.NewSignerFromKey(private)
		if err != nil {
			t.Fatal(err)
		}
		return file(name, pem.EncodeToMemory(block)), signer.PublicKey()
	}
	host, hostKey := key("host")
	user, userKey := key("user")
	authorized := file("authorized", ssh.MarshalAuthorizedKey(userKey))
	return sshKeys{
		listen: "ssh://127.0.0.1:0?hostkey=file:" + host + "&authorized=file:" + authorized,
		dial:   "?key=file:" + user + "&hostkey=" + url.QueryEscape(ssh.FingerprintSHA256(hostKey)),
	}
}
