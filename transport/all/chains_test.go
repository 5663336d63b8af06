// This file runs the conformance suite on whole addresses: through one proxy or
// several hops, with TLS on the way there and with the target.

package all_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/internal/testcert"
	"github.com/anysock/anysock/proxy"
	"github.com/anysock/anysock/relay"
	"github.com/anysock/anysock/socktest"
	"golang.org/x/crypto/ssh"
)

// TestChains: what a chain declares is what it keeps.
func TestChains(t *testing.T) {
	ca := testcert.New(t)
	cert := ca.Server(t)
	serving, trusting := "?cert=file:"+cert.CertFile+"&key=file:"+cert.KeyFile, "?ca=file:"+ca.File
	plain, overTLS := serveProxy(t, "tcp://127.0.0.1:0"), serveProxy(t, "tls://127.0.0.1:0"+serving)
	bastion := serveBastion(t)
	// SSH has no abort, and tls adds none; it does notice a cut.
	const behindSSH = anysock.CapHalfClose | anysock.CapDeadline | anysock.CapCutDetect
	for _, c := range []struct {
		name, hops, target string
		caps               anysock.Caps
	}{
		{"socks5,tls", "socks5://" + plain, "tls", tcpCaps},
		{"http,tls", "http://" + plain, "tls", tcpCaps},
		{"socks5+tls,tcp", "socks5+tls://" + overTLS + trusting, "tcp", tcpCaps},
		{"https,tcp", "https://" + overTLS + trusting, "tcp", tcpCaps},
		{"socks5,http,tls", "socks5://" + plain + ",http://" + plain, "tls", tcpCaps},
		{"ssh,socks5,tls", bastion + ",socks5://" + plain, "tls", behindSSH},
	} {
		listen, dial := c.target+"://127.0.0.1:0", ""
		if c.target == "tls" {
			listen, dial = listen+serving, trusting
		}
		tr := socktest.Transport{
			Name: c.name, Caps: c.caps,
			// TLS that is closed with bytes unsent is a cut, which the proxy passes on.
			AckedByHop: strings.Contains(c.hops, "+tls://") || strings.HasPrefix(c.hops, "https://"),
			Listen: func(ctx context.Context, lc *anysock.ListenConfig) (*anysock.Listener, error) {
				return lc.Listen(ctx, listen)
			},
			Dial: func(ctx context.Context, d *anysock.Dialer, ln *anysock.Listener) (*anysock.Conn, error) {
				return d.Dial(ctx, c.hops+","+c.target+"://"+ln.Addr().String()+dial)
			},
		}
		if c.caps&tcpCaps != tcpCaps {
			tr.Pair = lessCapable(tr)
			tr.Listen, tr.Dial = nil, nil
		}
		socktest.TestTransport(t, tr)
	}
}

// lessCapable makes pairs of a transport whose accepted ends can do more than
// the dialed ones: the suite asks both for the same.
func lessCapable(tr socktest.Transport) func(context.Context, anysock.Options) (a, b *anysock.Conn, err error) {
	return func(ctx context.Context, opts anysock.Options) (a, b *anysock.Conn, err error) {
		ln, err := tr.Listen(ctx, &anysock.ListenConfig{Options: opts})
		if err != nil {
			return nil, nil, err
		}
		defer ln.Close()
		if a, err = tr.Dial(ctx, &anysock.Dialer{Options: opts}, ln); err != nil {
			return nil, nil, err
		}
		target, err := ln.AcceptContext(ctx)
		if err != nil {
			_ = a.Abort()
			return nil, nil, err
		}
		return a, anysock.Wrap(withCaps{target, target, tr.Caps}, opts), nil
	}
}

// withCaps is a connection with these capabilities and no more: half-close is
// the one that takes a method.
type withCaps struct {
	net.Conn
	c    *anysock.Conn
	caps anysock.Caps
}

func (w withCaps) Caps() anysock.Caps { return w.caps }
func (w withCaps) CloseWrite() error  { return w.c.CloseWrite() }
func (w withCaps) Abort() error       { return errors.Join(w.c.Abort(), errors.ErrUnsupported) }

// serveProxy is a proxy at an address of its own until the end of the test; it
// returns host:port.
func serveProxy(t *testing.T, address string) string {
	t.Helper()
	ln, err := anysock.Listen(bounded(t), address)
	if err != nil {
		t.Fatal(err)
	}
	s := &proxy.Server{}
	served := make(chan error, 1)
	go func() { served <- s.Serve(context.Background(), ln) }()
	t.Cleanup(func() {
		cut, cancel := context.WithCancel(context.Background())
		cancel()
		if _, err := s.Shutdown(cut); err != nil {
			t.Error(err)
		}
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return ln.Addr().String()
}

// serveBastion is an SSH server that connects its clients onward, until the
// end of the test; it returns the address of the hop.
func serveBastion(t *testing.T) string {
	t.Helper()
	host, user := sshKey(t), sshKey(t)
	ln, err := anysock.Listen(bounded(t), "ssh://127.0.0.1:0?hostkey=file:"+host.file+"&authorized=file:"+user.file+".pub")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { forward(ctx, t, ln) })
	t.Cleanup(func() {
		cancel()
		wg.Wait()
		ln.Close()
	})
	return "ssh://ops@" + ln.Addr().String() + "?key=file:" + user.file + "&hostkey=" + url.QueryEscape(ssh.FingerprintSHA256(host.PublicKey()))
}

// forward joins each channel with the place that the client has named.
func forward(ctx context.Context, t *testing.T, ln *anysock.Listener) {
	var wg sync.WaitGroup
	defer wg.Wait()
	for c, err := range ln.Conns(ctx) {
		if err != nil {
			t.Error(err)
			return
		}
		wg.Go(func() {
			out, err := anysock.Dial(ctx, "tcp://"+c.LocalAddr().String())
			if err != nil {
				if !errors.Is(err, context.Canceled) && !isRefused(err) {
					t.Error(err)
				}
				_ = c.Abort()
				return
			}
			relay.Join(ctx, c, out, relay.Options{})
		})
	}
}

func isRefused(err error) bool {
	var e *anysock.Error
	return errors.As(err, &e) && e.Kind == anysock.KindRefused
}

// A keyFile is an SSH key with its files: the private one, and one with .pub.
type keyFile struct {
	ssh.Signer
	file string
}

func sshKey(t *testing.T) keyFile {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	k := keyFile{signer, filepath.Join(t.TempDir(), "key")}
	for path, text := range map[string][]byte{k.file: pem.EncodeToMemory(block), k.file + ".pub": ssh.MarshalAuthorizedKey(signer.PublicKey())} {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return k
}

// TestBindUnderTLS: what is accepted behind a proxy can be a layer's carrier.
func TestBindUnderTLS(t *testing.T) {
	ca := testcert.New(t)
	cert := ca.Server(t, "localhost")
	ln, err := anysock.Listen(bounded(t), "socks5://"+serveProxy(t, "tcp://127.0.0.1:0")+",tls+tcp://:0?peer=127.0.0.1&cert=file:"+cert.CertFile+"&key=file:"+cert.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	type dialed struct {
		c   *anysock.Conn
		err error
	}
	caller := make(chan dialed, 1)
	go func() {
		c, err := anysock.Dial(bounded(t), "tls://"+ln.Addr().String()+"?sni=localhost&ca=file:"+ca.File)
		caller <- dialed{c, err}
	}()
	in, err := ln.AcceptContext(bounded(t))
	if err != nil {
		t.Fatal(err)
	}
	out := <-caller
	if out.err != nil {
		t.Fatal(out.err)
	}
	if _, err := ln.AcceptContext(bounded(t)); !errors.Is(err, net.ErrClosed) || !strings.Contains(err.Error(), "accepts one connection") {
		t.Errorf("accepting once more: %v", err)
	}
	if _, err := out.c.Write([]byte("hello")); err != nil {
		t.Error(err)
	}
	got := make([]byte, 5)
	if _, err := in.ReadAtLeast(bounded(t), got, len(got)); err != nil || string(got) != "hello" {
		t.Errorf("%q, %v", got, err)
	}
	if _, port, err := net.SplitHostPort(in.RemoteAddr().String()); err != nil || in.RemoteAddr().String() != net.JoinHostPort("127.0.0.1", port) {
		t.Errorf("called by %v", in.RemoteAddr())
	}
	ended := make(chan anysock.End, 1)
	go func() {
		end, _ := in.Disconnect(bounded(t))
		ended <- end
	}()
	if end, err := out.c.Disconnect(bounded(t)); err != nil || end.How != anysock.Graceful {
		t.Errorf("%v, %v", end, err)
	}
	if end := <-ended; end.How != anysock.Graceful {
		t.Errorf("%v", end)
	}
}
