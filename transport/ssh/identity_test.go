package ssh

import (
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"net"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/anysock/anysock"
	xssh "golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

// anonymous is a hop without a key.
func (r rig) anonymous(at net.Addr, options ...string) string {
	return "ssh://ops@" + at.String() + "?" + strings.Join(append([]string{"hostkey=" + url.QueryEscape(r.host.fingerprint())}, options...), "&")
}

// emptyHome has no keys and no agent.
func emptyHome(t *testing.T) string {
	t.Helper()
	home := t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("SSH_AUTH_SOCK", "")
	return home
}

// locked is the rig's key with a passphrase.
func locked(t *testing.T, passphrase string) testKey {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := xssh.MarshalPrivateKeyWithPassphrase(private, "test", []byte(passphrase))
	if err != nil {
		t.Fatal(err)
	}
	return keyFrom(t, private, block)
}

func TestIdentityPassphrase(t *testing.T) {
	r := newRig(t)
	r.user = locked(t, "open sesame")
	b := newBastion(t, r)
	target := "," + echoing(t)
	at := b.ln.Addr()
	t.Setenv("PASSPHRASE", "open sesame\n")
	says(t, dialed(t, r.hop(at, "key-pass=env:PASSPHRASE")+target), "x")
	fails(t, r.hop(at)+target, anysock.KindAddress, r.user.private, "has a passphrase", "key-pass=env:NAME")
	t.Setenv("PASSPHRASE", "close sesame")
	text := fails(t, r.hop(at, "key-pass=env:PASSPHRASE")+target, anysock.KindAddress, "option key")
	if strings.Contains(text, "sesame") {
		t.Errorf("the error tells the passphrase: %s", text)
	}
	// The grammar keeps it out of the address.
	var ae *anysock.AddressError
	if _, err := anysock.ParseAddress(r.hop(at, "key-pass=sesame")); !errors.As(err, &ae) || strings.Contains(err.Error(), "sesame") {
		t.Errorf("a passphrase in the address: %v", err)
	}
}

// Without a key in the address the agent's are offered, and then those of the
// user's directory.
func TestIdentityDefaults(t *testing.T) {
	r := newRig(t)
	b := newBastion(t, r)
	target := "," + echoing(t)
	at := b.ln.Addr()
	home := emptyHome(t)
	fails(t, r.anonymous(at)+target, anysock.KindAuth, "does not let ops in", "nothing", "key=file:PATH")

	other := newKey(t)
	sock := runAgent(t, other.private)
	t.Setenv("SSH_AUTH_SOCK", sock)
	fails(t, r.anonymous(at)+target, anysock.KindAuth, "offered: agent (ssh-ed25519 "+other.fingerprint())
	t.Setenv("SSH_AUTH_SOCK", runAgent(t, other.private, r.user.private))
	says(t, dialed(t, r.anonymous(at)+target), "agent")
	fails(t, r.anonymous(at, "agent=0")+target, anysock.KindAuth, "nothing")

	t.Setenv("SSH_AUTH_SOCK", filepath.Join(home, "gone"))
	fails(t, r.anonymous(at, "agent=1")+target, anysock.KindAuth, "SSH_AUTH_SOCK", "agent=0")
	copyFile(t, r.user.private, filepath.Join(home, ".ssh", "id_ed25519"))
	says(t, dialed(t, r.anonymous(at)+target), "file")
	// A key in the address is the only one.
	fails(t, r.anonymous(at, "key=file:"+other.private)+target, anysock.KindAuth, other.fingerprint())
}

// runAgent is the socket of an agent with these keys.
func runAgent(t *testing.T, keys ...string) string {
	t.Helper()
	ring := agent.NewKeyring()
	for _, path := range keys {
		b, err := readSmall(path)
		if err != nil {
			t.Fatal(err)
		}
		private, err := xssh.ParseRawPrivateKey(b)
		if err != nil {
			t.Fatal(err)
		}
		if err := ring.Add(agent.AddedKey{PrivateKey: private}); err != nil {
			t.Fatal(err)
		}
	}
	sock := filepath.Join(t.TempDir(), "agent")
	l, err := net.Listen("unix", sock)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				_ = agent.ServeAgent(ring, c)
				c.Close()
			})
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait() })
	return sock
}

// A password is sent only when the address has one, also in a dialogue.
func TestIdentityPassword(t *testing.T) {
	emptyHome(t)
	r := newRig(t)
	right := func(password string) (*xssh.Permissions, error) {
		if password != "hunter2" {
			return nil, errors.New("wrong")
		}
		return nil, nil
	}
	asks := newBastion(t, r, func(b *bastion) {
		b.config.PasswordCallback = func(_ xssh.ConnMetadata, p []byte) (*xssh.Permissions, error) { return right(string(p)) }
	})
	talks := newBastion(t, r, func(b *bastion) {
		b.config.KeyboardInteractiveCallback = func(_ xssh.ConnMetadata, ask xssh.KeyboardInteractiveChallenge) (*xssh.Permissions, error) {
			answers, err := ask("", "", []string{"Password: "}, []bool{false})
			if err != nil {
				return nil, err
			}
			return right(answers[0])
		}
	})
	target := "," + echoing(t)
	for _, b := range []*bastion{asks, talks} {
		at := b.ln.Addr()
		t.Setenv("PASSWORD", "hunter2")
		says(t, dialed(t, r.anonymous(at, "pass=env:PASSWORD")+target), "x")
		fails(t, r.anonymous(at)+target, anysock.KindAuth, "nothing")
		t.Setenv("PASSWORD", "hunter3")
		text := fails(t, r.anonymous(at, "pass=env:PASSWORD")+target, anysock.KindAuth, "the password")
		if strings.Contains(text, "hunter3") {
			t.Errorf("the error tells the password: %s", text)
		}
	}
	fails(t, r.anonymous(asks.ln.Addr(), "pass=env:PASSWORD_THAT_IS_NOT_SET")+target, anysock.KindAddress, "not set")
}

func TestIdentityOptions(t *testing.T) {
	r := newRig(t)
	notKey := filepath.Join(t.TempDir(), "file")
	write(t, notKey, "text")
	at := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1}
	for option, word := range map[string]string{
		"key=" + notKey:            "file:PATH",
		"key=file:" + notKey:       notKey,
		"key=file:/nonexistent/id": "/nonexistent/id",
	} {
		fails(t, r.anonymous(at, option)+",tcp://h:1", anysock.KindAddress, word)
	}
}
