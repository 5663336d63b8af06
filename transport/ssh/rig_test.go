// This file holds what the tests of this package share: keys, files, and an SSH
// server that forwards as OpenSSH does.

package ssh

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anysock/anysock"
	"go.uber.org/goleak"
	xssh "golang.org/x/crypto/ssh"
)

const testBound = 20 * time.Second

// TestMain fails the run if a goroutine is left.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func bounded(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), testBound)
	t.Cleanup(cancel)
	return ctx
}

type counter = atomic.Int64

// A testKey is a key pair with its files.
type testKey struct {
	xssh.Signer
	private, public string // paths
}

func newKey(t testing.TB) testKey {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := xssh.MarshalPrivateKey(private, "test")
	if err != nil {
		t.Fatal(err)
	}
	return keyFrom(t, private, block)
}

func keyFrom(t testing.TB, private any, block *pem.Block) testKey {
	t.Helper()
	signer, err := xssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	k := testKey{Signer: signer, private: filepath.Join(t.TempDir(), "key")}
	k.public = k.private + ".pub"
	write(t, k.private, string(pem.EncodeToMemory(block)))
	write(t, k.public, string(xssh.MarshalAuthorizedKey(signer.PublicKey())))
	return k
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (k testKey) fingerprint() string { return xssh.FingerprintSHA256(k.PublicKey()) }

func (k testKey) line() string {
	return strings.TrimSpace(string(xssh.MarshalAuthorizedKey(k.PublicKey())))
}

// A rig is a host key and a client's key.
type rig struct{ host, user testKey }

func newRig(t testing.TB) rig { return rig{newKey(t), newKey(t)} }

// listenAddr is the address of a listener that lets the user in.
func (r rig) listenAddr(options ...string) string {
	return "ssh://127.0.0.1:0?" + strings.Join(append([]string{"hostkey=file:" + r.host.private, "authorized=file:" + r.user.public}, options...), "&")
}

// hop is the address of a hop through it.
func (r rig) hop(at net.Addr, options ...string) string {
	return "ssh://ops@" + at.String() + "?" + strings.Join(append([]string{"key=file:" + r.user.private, "hostkey=" + url.QueryEscape(r.host.fingerprint())}, options...), "&")
}

// A bastion forwards as sshd does: a reset of the target is an end, and the
// channel is closed when both directions have ended.
type bastion struct {
	ln     net.Listener
	config *xssh.ServerConfig
	opened atomic.Int64 // channels
	refuse atomic.Pointer[xssh.OpenChannelError]
	silent atomic.Bool        // channels are not answered
	handle func(xssh.Channel) // if set, goes before forwarding
	ends   chan error         // why connections have ended, if somebody wants to know
	wg     sync.WaitGroup

	mu    sync.Mutex
	conns []net.Conn
}

func newBastion(t testing.TB, r rig, more ...func(*bastion)) *bastion {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &bastion{ln: ln, config: &xssh.ServerConfig{
		PublicKeyCallback: func(_ xssh.ConnMetadata, key xssh.PublicKey) (*xssh.Permissions, error) {
			if string(key.Marshal()) != string(r.user.PublicKey().Marshal()) {
				return nil, fmt.Errorf("who is that")
			}
			return nil, nil
		},
	}}
	b.config.AddHostKey(r.host)
	for _, set := range more {
		set(b)
	}
	b.wg.Go(b.run)
	t.Cleanup(func() {
		ln.Close()
		b.cut()
		b.wg.Wait()
	})
	return b
}

// cut breaks every connection of a client, as a killed server does.
func (b *bastion) cut() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range b.conns {
		c.Close()
	}
	b.conns = nil
}

func (b *bastion) run() {
	for {
		c, err := b.ln.Accept()
		if err != nil {
			return
		}
		b.mu.Lock()
		b.conns = append(b.conns, c)
		b.mu.Unlock()
		b.wg.Go(func() { b.serve(c) })
	}
}

func (b *bastion) serve(c net.Conn) {
	defer c.Close()
	conn, channels, reqs, err := xssh.NewServerConn(c, b.config)
	if err != nil {
		return
	}
	b.wg.Go(func() { xssh.DiscardRequests(reqs) })
	for ch := range channels {
		b.wg.Go(func() { b.forward(ch) })
	}
	err = conn.Wait()
	if b.ends != nil {
		b.ends <- err
	}
}

func (b *bastion) forward(nc xssh.NewChannel) {
	b.opened.Add(1)
	if b.silent.Load() {
		return
	}
	if e := b.refuse.Load(); e != nil {
		_ = nc.Reject(e.Reason, e.Message)
		return
	}
	if b.handle != nil {
		ch, reqs, err := nc.Accept()
		if err != nil {
			return
		}
		b.wg.Go(func() { xssh.DiscardRequests(reqs) })
		b.handle(ch)
		return
	}
	target, err := dialFor(nc)
	if err != nil {
		_ = nc.Reject(xssh.ConnectionFailed, err.Error())
		return
	}
	defer target.Close()
	ch, reqs, err := nc.Accept()
	if err != nil {
		return
	}
	b.wg.Go(func() {
		xssh.DiscardRequests(reqs)
		target.Close() // the client is gone
	})
	var both sync.WaitGroup
	both.Go(func() {
		_, _ = io.Copy(ch, target)
		_ = ch.CloseWrite()
	})
	both.Go(func() {
		_, _ = io.Copy(target, ch)
		_ = target.(interface{ CloseWrite() error }).CloseWrite()
	})
	both.Wait()
	_ = ch.Close()
}

func dialFor(nc xssh.NewChannel) (net.Conn, error) {
	switch nc.ChannelType() {
	case channelTCP:
		var msg openTCP
		if err := xssh.Unmarshal(nc.ExtraData(), &msg); err != nil {
			return nil, err
		}
		return net.Dial("tcp", net.JoinHostPort(msg.Host, fmt.Sprint(msg.Port)))
	case channelUnix:
		var msg openUnix
		if err := xssh.Unmarshal(nc.ExtraData(), &msg); err != nil {
			return nil, err
		}
		return net.Dial("unix", msg.Path)
	}
	return nil, fmt.Errorf("%s", nc.ChannelType())
}

// dialed connects, with a bound; it is aborted when the test ends.
func dialed(t testing.TB, address string) *anysock.Conn {
	t.Helper()
	c, err := anysock.Dial(bounded(t), address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Abort() })
	return c
}

// listening listens, until the test ends.
func listening(t testing.TB, address string) *anysock.Listener {
	t.Helper()
	l, err := anysock.Listen(bounded(t), address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// accepted is the next connection of l.
func accepted(t testing.TB, l *anysock.Listener) *anysock.Conn {
	t.Helper()
	c, err := l.AcceptContext(bounded(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Abort() })
	return c
}

func copyFile(t testing.TB, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, to, string(b))
}
