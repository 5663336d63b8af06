// This file holds what a hop proves to the server: keys and a password.

package ssh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"

	"github.com/anysock/anysock"
	xssh "golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

// An identity is what may be offered.
type identity struct {
	server   string
	signers  []namedSigner // from files
	agent    bool
	must     bool // the agent was asked for, so it must be there
	password string
	pass     bool // there is one, however short
}

// A namedSigner is a key and where it comes from.
type namedSigner struct {
	xssh.Signer
	from string
}

func (s namedSigner) String() string {
	return s.from + " (" + s.PublicKey().Type() + " " + xssh.FingerprintSHA256(s.PublicKey()) + ")"
}

// defaultKeys are the files under ~/.ssh, in the order of ssh(1).
var defaultKeys = []string{"id_ed25519", "id_ecdsa", "id_rsa"}

// newIdentity reads the options and the files.
func newIdentity(t anysock.Target, server string) (identity, error) {
	id := identity{server: server, agent: t.Bool("agent", !t.Has("key")), must: t.Bool("agent", false), pass: t.Has("pass")}
	var err error
	if id.password, err = t.Secret("pass"); err != nil {
		return id, addressError(server, err, "")
	}
	passphrase, err := t.Secret("key-pass")
	if err != nil {
		return id, addressError(server, err, "")
	}
	if !t.Has("key") {
		id.addDefaults(passphrase)
		return id, nil
	}
	for _, ref := range t.Strings("key") {
		path, err := fileOption("key", ref)
		if err != nil {
			return id, addressError(server, err, "")
		}
		signer, err := readKey(path, passphrase)
		var locked *xssh.PassphraseMissingError
		switch {
		case errors.As(err, &locked):
			return id, addressError(server, fmt.Errorf("option key: %s has a passphrase", path), "give it by key-pass=env:NAME or key-pass=file:PATH, or leave the key to the agent")
		case err != nil:
			return id, addressError(server, fmt.Errorf("option key: %w", err), "")
		}
		id.signers = append(id.signers, signer)
	}
	return id, nil
}

// addDefaults reads the user's own keys. What is not there, has a passphrase,
// or cannot be read is left out, as ssh(1) does in batch mode.
func (id *identity) addDefaults(passphrase string) {
	home, err := os.UserHomeDir()
	if err != nil {
		return
	}
	for _, name := range defaultKeys {
		if signer, err := readKey(filepath.Join(home, ".ssh", name), passphrase); err == nil {
			id.signers = append(id.signers, signer)
		}
	}
}

// readKey reads a private key in any form that ssh-keygen writes.
func readKey(path, passphrase string) (namedSigner, error) {
	b, err := readSmall(path)
	if err != nil {
		return namedSigner{}, err
	}
	signer, err := xssh.ParsePrivateKey(b)
	var locked *xssh.PassphraseMissingError
	if errors.As(err, &locked) && passphrase != "" {
		signer, err = xssh.ParsePrivateKeyWithPassphrase(b, []byte(passphrase))
	}
	if err != nil {
		return namedSigner{}, fmt.Errorf("%s: %w", path, err)
	}
	return namedSigner{signer, path}, nil
}

// readSmall reads a file of at most maxKeyFile bytes.
func readSmall(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	if err == nil && len(b) > maxKeyFile {
		err = fmt.Errorf("%s is longer than %d bytes", path, maxKeyFile)
	}
	return b, err
}

// methods are the ways to log in. tried says afterwards what the server was
// offered; done releases the agent.
func (id *identity) methods(ctx context.Context) (methods []xssh.AuthMethod, tried func() []string, done func(), err error) {
	var names []string
	done = func() {}
	signers := make([]xssh.Signer, 0, len(id.signers))
	note := func(s namedSigner) {
		names = append(names, s.String())
		signers = append(signers, s.Signer)
	}
	if id.agent {
		keys, release, err := agentKeys(ctx)
		switch {
		case err == nil:
			done = release
		case id.must:
			return nil, nil, nil, &anysock.Error{
				Op: anysock.OpHandshake, Addr: "ssh:" + id.server, Kind: anysock.KindAuth, Err: err,
				Hint: "see 'ssh-add -l', or do without it: agent=0",
			}
		default:
			names = append(names, "nothing of the agent ("+err.Error()+")")
		}
		for _, s := range keys {
			note(s)
		}
	}
	for _, s := range id.signers {
		note(s)
	}
	if len(signers) > 0 {
		methods = append(methods, xssh.PublicKeys(signers...))
	}
	if id.pass {
		names = append(names, "the password")
		methods = append(methods, xssh.Password(id.password), xssh.KeyboardInteractive(id.answer))
	}
	return methods, func() []string { return names }, done, nil
}

// answer gives the password to a server that asks for it in a dialogue (RFC
// 4256), as many do: to one hidden question, and to nothing else.
func (id *identity) answer(_, _ string, questions []string, echos []bool) ([]string, error) {
	switch {
	case len(questions) == 0:
		return nil, nil
	case len(questions) == 1 && !echos[0]:
		return []string{id.password}, nil
	}
	return nil, errors.New("the server asks for more than a password")
}

// agentKeys are the keys of the agent, and what releases it.
func agentKeys(ctx context.Context) ([]namedSigner, func(), error) {
	path := os.Getenv("SSH_AUTH_SOCK")
	if path == "" {
		return nil, nil, errors.New("SSH_AUTH_SOCK is not set")
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return nil, nil, fmt.Errorf("SSH_AUTH_SOCK: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	done := func() {
		stop()
		conn.Close()
	}
	signers, err := agent.NewClient(conn).Signers()
	if err != nil {
		done()
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	keys := make([]namedSigner, len(signers))
	for i, s := range signers {
		keys[i] = namedSigner{s, "agent"}
	}
	return keys, done, nil
}
