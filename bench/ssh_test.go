package bench

// This file compares the throughput of a stream through SSH: Conn at both ends,
// and the channel of golang.org/x/crypto/ssh without anything of ours.

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"flag"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/bench/internal/stats"
	_ "github.com/anysock/anysock/transport/ssh"
	"golang.org/x/crypto/ssh"
)

const (
	sshWrite  = 64 << 10
	sshWarmup = 32 << 20 // bytes
)

var sshMegabytes = flag.Int("ssh-megabytes", 64, "how much BenchmarkSSH moves for each side in a slice, in MiB")

// sshKeys are a host's key and a user's.
type sshKeys struct {
	host, user         ssh.Signer
	hostFile, userFile string // private keys
	authorized         string
}

func newSSHKeys(tb testing.TB) sshKeys {
	tb.Helper()
	dir := tb.TempDir()
	var k sshKeys
	k.host, k.hostFile = newSSHKey(tb, filepath.Join(dir, "host"))
	k.user, k.userFile = newSSHKey(tb, filepath.Join(dir, "user"))
	k.authorized = filepath.Join(dir, "authorized")
	if err := os.WriteFile(k.authorized, ssh.MarshalAuthorizedKey(k.user.PublicKey()), 0o600); err != nil {
		tb.Fatal(err)
	}
	return k
}

func newSSHKey(tb testing.TB, path string) (ssh.Signer, string) {
	tb.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		tb.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err == nil {
		err = os.WriteFile(path, pem.EncodeToMemory(block), 0o600)
	}
	if err != nil {
		tb.Fatal(err)
	}
	return signer, path
}

// An sshSlot moves bytes from one end to the other and waits until they are
// there.
type sshSlot struct {
	from, to net.Conn
	closers  []io.Closer
	elapsed  *[]float64 // seconds of each slice
}

func (s *sshSlot) slice(tb testing.TB) sample {
	start := time.Now()
	before, err := processTime()
	if err != nil {
		tb.Skip("the processor time of a process is not known here: ", err)
	}
	s.move(tb, int64(*sshMegabytes)<<20)
	after, err := processTime()
	if err != nil {
		tb.Fatal(err)
	}
	*s.elapsed = append(*s.elapsed, time.Since(start).Seconds())
	return sample{cpu: after - before, work: float64(*sshMegabytes)}
}

func (s *sshSlot) move(tb testing.TB, n int64) {
	tb.Helper()
	written := make(chan error, 1)
	go func() {
		buf := make([]byte, sshWrite)
		var err error
		for left := n; left > 0 && err == nil; left -= sshWrite {
			_, err = s.from.Write(buf)
		}
		written <- err
	}()
	buf := make([]byte, sshWrite)
	for left := n; left > 0; {
		m, err := s.to.Read(buf)
		if err != nil {
			tb.Fatal(err)
		}
		left -= int64(m)
	}
	if err := <-written; err != nil {
		tb.Fatal(err)
	}
}

func (s *sshSlot) stop() {
	for _, c := range s.closers {
		_ = c.Close()
	}
}

// sshConn is Conn through a listener of ours.
func sshConn(k sshKeys, elapsed *[]float64) side {
	return side{"Conn", func(tb testing.TB) slot {
		ctx := context.Background()
		l, err := anysock.Listen(ctx, "ssh://127.0.0.1:0?hostkey=file:"+k.hostFile+"&authorized=file:"+k.authorized)
		if err != nil {
			tb.Fatal(err)
		}
		from, err := anysock.Dial(ctx, "ssh://bench@"+l.Addr().String()+"?key=file:"+k.userFile+
			"&hostkey="+url.QueryEscape(ssh.FingerprintSHA256(k.host.PublicKey()))+",tcp://any:1")
		if err != nil {
			tb.Fatal(err)
		}
		to, err := l.AcceptContext(ctx)
		if err != nil {
			tb.Fatal(err)
		}
		s := &sshSlot{from: from, to: to, closers: []io.Closer{from, to, l}, elapsed: elapsed}
		s.move(tb, sshWarmup)
		return s
	}}
}

// sshBare is the library's channel at both ends.
func sshBare(k sshKeys, name string, elapsed *[]float64) side {
	return side{name, func(tb testing.TB) slot {
		l, err := listenConfig().Listen(context.Background(), "tcp", "127.0.0.1:0")
		if err != nil {
			tb.Fatal(err)
		}
		accepted := make(chan ssh.Channel, 1)
		go serveBareSSH(k, l, accepted)
		client, err := ssh.Dial("tcp", l.Addr().String(), &ssh.ClientConfig{
			User: "bench", Auth: []ssh.AuthMethod{ssh.PublicKeys(k.user)}, HostKeyCallback: ssh.FixedHostKey(k.host.PublicKey()),
		})
		if err != nil {
			tb.Fatal(err)
		}
		from, err := client.Dial("tcp", "any:1")
		if err != nil {
			tb.Fatal(err)
		}
		to := <-accepted
		s := &sshSlot{from: from, to: bareChannel{to, from}, closers: []io.Closer{client, l}, elapsed: elapsed}
		s.move(tb, sshWarmup)
		return s
	}}
}

// serveBareSSH accepts one connection and one channel; it ends with the
// connection.
func serveBareSSH(k sshKeys, l net.Listener, accepted chan<- ssh.Channel) {
	c, err := l.Accept()
	if err != nil {
		return
	}
	config := &ssh.ServerConfig{PublicKeyCallback: func(ssh.ConnMetadata, ssh.PublicKey) (*ssh.Permissions, error) { return nil, nil }}
	config.AddHostKey(k.host)
	_, channels, reqs, err := ssh.NewServerConn(c, config)
	if err != nil {
		return
	}
	go ssh.DiscardRequests(reqs)
	for nc := range channels {
		ch, reqs, err := nc.Accept()
		if err != nil {
			return
		}
		go ssh.DiscardRequests(reqs)
		accepted <- ch
	}
}

// A bareChannel has the library's Read, and the addresses of another.
type bareChannel struct {
	ssh.Channel
	net.Conn
}

func (b bareChannel) Read(p []byte) (int, error)  { return b.Channel.Read(p) }
func (b bareChannel) Write(p []byte) (int, error) { return b.Channel.Write(p) }
func (b bareChannel) Close() error                { return b.Channel.Close() }

// BenchmarkSSH: the target is at most 10 % over the library. Run it with
// -pairs=6 for a minute's answer.
func BenchmarkSSH(b *testing.B) {
	k := newSSHKeys(b)
	var ours, theirs, again, other []float64
	subject := &comparison{base: sshBare(k, "x/crypto/ssh", &theirs), subject: sshConn(k, &ours)}
	noise := &comparison{base: sshBare(k, "x/crypto/ssh", &other), subject: sshBare(k, "x/crypto/ssh again", &again)}
	for range b.N {
		comparePairs(b, subject, noise)
	}
	report{
		title: "SSH: throughput of one stream", unit: "ms per MiB", scale: 1000, target: 1.10,
		methods: fmt.Sprintf("Both ends in one process on loopback, writes of 64 KiB. Elapsed, the ratio of the medians: %.3f; of the noise: %.3f.",
			stats.Median(ours)/stats.Median(theirs), stats.Median(again)/stats.Median(other)),
	}.publish(b, subject, noise)
}
