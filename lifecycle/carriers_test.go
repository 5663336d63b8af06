// This file runs the conformance suite on lc over the carriers that are
// packages of their own, and over pipes.

package lifecycle

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
	"testing"
	"time"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/internal/testcert"
	"github.com/anysock/anysock/socktest"
	_ "github.com/anysock/anysock/transport/quic"
	_ "github.com/anysock/anysock/transport/ssh"
	_ "github.com/anysock/anysock/transport/tls"
	_ "github.com/anysock/anysock/transport/ws"
	"golang.org/x/crypto/ssh"
)

func TestOverTLS(t *testing.T) {
	t.Parallel() // most of it is waiting
	serving, trusting := certificates(t)
	socktest.TestTransport(t, at("lc+tls+tcp", lcCapsBind,
		func() string { return "lc+tls+tcp://127.0.0.1:0" + serving },
		func(b string) string { return "lc+tls+tcp://" + b + trusting }))
}

func TestOverTLSOverUnix(t *testing.T) {
	t.Parallel() // most of it is waiting
	serving, trusting := certificates(t)
	path := numbered("lc+tls+unix:" + filepath.Join(t.TempDir(), "s"))
	socktest.TestTransport(t, at("lc+tls+unix", lcCaps,
		func() string { return path() + serving },
		func(b string) string { return "lc+tls+unix:" + b + trusting + "&sni=localhost" }))
}

func TestOverWebSocket(t *testing.T) {
	t.Parallel() // most of it is waiting
	socktest.TestTransport(t, at("lc+ws+tcp", lcCapsBind,
		func() string { return "lc+ws://127.0.0.1:0" },
		func(b string) string { return "lc+ws://" + b }))
}

func TestOverWebSocketOverTLS(t *testing.T) {
	t.Parallel() // most of it is waiting
	serving, trusting := certificates(t)
	socktest.TestTransport(t, at("lc+wss", lcCapsBind,
		func() string { return "lc+wss://127.0.0.1:0/" + serving },
		func(b string) string { return "lc+wss://" + b + "/" + trusting }))
}

func TestOverQUIC(t *testing.T) {
	t.Parallel() // most of it is waiting
	serving, trusting := certificates(t)
	socktest.TestTransport(t, at("lc+quic", lcCapsBind,
		func() string { return "lc+quic://127.0.0.1:0" + serving },
		func(b string) string { return "lc+quic://" + b + trusting }))
}

// certificates are the options of a server and of its clients.
func certificates(t *testing.T) (serving, trusting string) {
	t.Helper()
	ca := testcert.New(t)
	cert := ca.Server(t)
	return "?cert=file:" + cert.CertFile + "&key=file:" + cert.KeyFile, "?ca=file:" + ca.File
}

// TestOverSSH runs in channels: an SSH channel has neither an abort nor a cut.
func TestOverSSH(t *testing.T) {
	t.Parallel() // most of it is waiting
	dir := t.TempDir()
	key := func(name string) ssh.PublicKey {
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
		for file, text := range map[string][]byte{name: pem.EncodeToMemory(block), name + ".pub": ssh.MarshalAuthorizedKey(signer.PublicKey())} {
			if err := os.WriteFile(filepath.Join(dir, file), text, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return signer.PublicKey()
	}
	host, _ := key("host"), key("user")
	socktest.TestTransport(t, at("lc+ssh", lcCaps,
		func() string {
			return "lc+ssh://127.0.0.1:0?hostkey=file:" + filepath.Join(dir, "host") + "&authorized=file:" + filepath.Join(dir, "user.pub")
		},
		func(b string) string {
			return "ssh://ops@" + b + "?key=file:" + filepath.Join(dir, "user") + "&hostkey=" + url.QueryEscape(ssh.FingerprintSHA256(host)) + ",lc+tcp://any:1"
		}))
}

// TestOverPipes: nothing is given there but bytes and an end.
func TestOverPipes(t *testing.T) {
	t.Parallel() // most of it is waiting
	pair := func() (a, b *pipes, err error) {
		r1, w1, err := os.Pipe()
		if err != nil {
			return nil, nil, err
		}
		r2, w2, err := os.Pipe()
		if err != nil {
			return nil, nil, err
		}
		return &pipes{r1, w2}, &pipes{r2, w1}, nil
	}
	socktest.TestTransport(t, socktest.Transport{
		Name: "lc+pipes", Caps: lcCaps, AckedBy: anysock.AckedPeer,
		Pair: func(ctx context.Context, opts anysock.Options) (x, y *anysock.Conn, err error) {
			a, b, err := pair()
			if err != nil {
				return nil, nil, err
			}
			return over(ctx, a, b, opts)
		},
		CutPair: func(ctx context.Context, opts anysock.Options) (x, y *anysock.Conn, cut func() error, err error) {
			a, b, err := pair()
			if err != nil {
				return nil, nil, nil, err
			}
			x, y, err = over(ctx, a, b, opts)
			return x, y, func() error { return errors.Join(a.w.Close(), b.w.Close()) }, err
		},
	})
}

// pipes is a connection of two pipes.
type pipes struct{ r, w *os.File }

func (p *pipes) Read(b []byte) (int, error)         { return p.r.Read(b) }
func (p *pipes) Write(b []byte) (int, error)        { return p.w.Write(b) }
func (p *pipes) CloseWrite() error                  { return p.w.Close() }
func (p *pipes) Close() error                       { return errors.Join(p.r.Close(), ignoreClosed(p.w.Close())) }
func (p *pipes) LocalAddr() net.Addr                { return pipeAddr{} }
func (p *pipes) RemoteAddr() net.Addr               { return pipeAddr{} }
func (p *pipes) SetReadDeadline(t time.Time) error  { return p.r.SetReadDeadline(t) }
func (p *pipes) SetWriteDeadline(t time.Time) error { return p.w.SetWriteDeadline(t) }
func (p *pipes) SetDeadline(t time.Time) error {
	return errors.Join(p.SetReadDeadline(t), p.SetWriteDeadline(t))
}

func ignoreClosed(err error) error {
	if errors.Is(err, os.ErrClosed) {
		return nil
	}
	return err
}

type pipeAddr struct{}

func (pipeAddr) Network() string { return "pipe" }
func (pipeAddr) String() string  { return "pipes" }
