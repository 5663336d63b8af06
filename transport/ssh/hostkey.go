// This file holds the check of the server's host key.

package ssh

import (
	"bufio"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/anysock/anysock"
	xssh "golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

// hostKeys are the keys that the server may have.
type hostKeys struct {
	server   string
	insecure bool
	pins     []string             // fingerprints as ssh-keygen -l shows them; nil is by known_hosts
	known    xssh.HostKeyCallback // nil if there is no file
	files    []string             // that known was read from, and one that a key can be added to if there is none
	wanted   []knownhosts.KnownKey
}

// skipVerify is the word that turns the check off.
const skipVerify = "skip-verify"

// systemKnownHosts is that of ssh(1).
const systemKnownHosts = "/etc/ssh/ssh_known_hosts"

// newHostKeys reads the options and the files.
func newHostKeys(t anysock.Target, server string) (hostKeys, error) {
	k := hostKeys{server: server, pins: t.Strings("hostkey")}
	if word := t.String("insecure", ""); word != "" {
		switch {
		case word != skipVerify:
			return k, addressError(server, errors.New("the value of insecure is not "+skipVerify), "write insecure="+skipVerify+", or leave it out")
		case k.pins != nil || t.Has("knownhosts"):
			return k, addressError(server, errors.New("insecure contradicts hostkey and knownhosts"), "leave insecure out")
		}
		k.insecure = true
		return k, nil
	}
	if k.pins != nil {
		for _, pin := range k.pins {
			sum, ok := strings.CutPrefix(pin, "SHA256:")
			if b, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(sum, "=")); !ok || err != nil || len(b) != 32 {
				return k, addressError(server, errors.New("the value of hostkey is no fingerprint"), "write hostkey=SHA256:… as 'ssh-keygen -lf KEY' shows it")
			}
		}
		if t.Has("knownhosts") {
			return k, addressError(server, errors.New("hostkey and knownhosts contradict each other"), "leave one of them out")
		}
		return k, nil
	}
	return k, k.readKnown(t)
}

// readKnown reads the files of known hosts. Those that are there by default
// may be missing.
func (k *hostKeys) readKnown(t anysock.Target) error {
	if path, err := fileOption("knownhosts", t.String("knownhosts", "")); err != nil {
		return addressError(k.server, err, "")
	} else if path != "" {
		k.files = []string{path}
	} else {
		if home, err := os.UserHomeDir(); err == nil {
			k.files = append(k.files, filepath.Join(home, ".ssh", "known_hosts"))
		}
		k.files = append(k.files, systemKnownHosts)
		there := slices.DeleteFunc(slices.Clone(k.files), func(path string) bool {
			_, err := os.Stat(path)
			return err != nil
		})
		if len(there) == 0 {
			return nil
		}
		k.files = there
	}
	known, err := knownhosts.New(k.files...)
	if err != nil {
		return addressError(k.server, fmt.Errorf("option knownhosts: %w", err), "correct the file, name another by knownhosts=file:PATH, or pin the key by hostkey=SHA256:…")
	}
	k.known = known
	// What the file has for the server is in the error for a key that nobody has.
	nobody, err := xssh.NewPublicKey(make(ed25519.PublicKey, ed25519.PublicKeySize))
	if err != nil {
		return addressError(k.server, err, "")
	}
	var keyErr *knownhosts.KeyError
	if errors.As(known(k.lookup(), noAddr, nobody), &keyErr) {
		k.wanted = keyErr.Want
	}
	return nil
}

// noAddr stands for the server's address: keys are looked up by name.
var noAddr = &net.TCPAddr{IP: net.IPv4zero}

// lookup is the server's name in the form that the library wants.
func (k *hostKeys) lookup() string {
	if _, _, err := net.SplitHostPort(k.server); err != nil {
		return net.JoinHostPort(k.server, "22") // a path
	}
	return k.server
}

// fileOption is the path of file:PATH; "" if value is.
func fileOption(name, value string) (string, error) {
	if value == "" {
		return "", nil
	}
	path, ok := strings.CutPrefix(value, "file:")
	if !ok || path == "" {
		return "", fmt.Errorf("the value of %s must be file:PATH", name)
	}
	return path, nil
}

// certAlgorithms are those of host certificates.
var certAlgorithms = []string{
	xssh.CertAlgoED25519v01, xssh.CertAlgoECDSA256v01, xssh.CertAlgoECDSA384v01, xssh.CertAlgoECDSA521v01,
	xssh.CertAlgoRSASHA512v01, xssh.CertAlgoRSASHA256v01,
}

// algorithms are what we offer for the host key: only what known_hosts has for
// the server, so that it shows the key that is known and not another one. nil
// is the library's default.
func (k *hostKeys) algorithms() []string {
	var algorithms []string
	add := func(names ...string) {
		for _, name := range names {
			if !slices.Contains(algorithms, name) {
				algorithms = append(algorithms, name)
			}
		}
	}
	for _, key := range k.wanted {
		switch typ := key.Key.Type(); {
		case isAuthority(key):
			add(certAlgorithms...)
		case typ == xssh.KeyAlgoRSA:
			add(xssh.KeyAlgoRSASHA512, xssh.KeyAlgoRSASHA256)
		default:
			add(typ)
		}
	}
	return algorithms
}

// isAuthority reports a line that begins with @cert-authority: the library does
// not say.
func isAuthority(key knownhosts.KnownKey) bool {
	f, err := os.Open(key.Filename)
	if err != nil {
		return false
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		if n == key.Line {
			return strings.HasPrefix(strings.TrimSpace(lines.Text()), "@cert-authority")
		}
	}
	return false
}

// algorithmHint is what to try when the server has none of them.
func (k *hostKeys) algorithmHint() string {
	if len(k.wanted) == 0 {
		return ""
	}
	return "known_hosts has other sorts of keys for " + k.server + " than it shows now: if it got new ones, remove the old: ssh-keygen -R '" + knownhosts.Normalize(k.lookup()) + "'"
}

// check judges the server's key.
func (k *hostKeys) check(key xssh.PublicKey) error {
	sum := xssh.FingerprintSHA256(key)
	fail := func(err error, hint string) error {
		return &anysock.Error{Op: anysock.OpHandshake, Addr: "ssh:" + k.server, Kind: anysock.KindAuth, Err: err, Hint: hint}
	}
	if k.insecure {
		slog.Warn("ssh: the server's host key is not verified", "server", k.server, "key", key.Type(), "fingerprint", sum)
		return nil
	}
	if k.pins != nil {
		if slices.ContainsFunc(k.pins, func(pin string) bool { return strings.TrimRight(pin, "=") == sum }) {
			return nil
		}
		return fail(fmt.Errorf("the host key is %s %s, and not the one that hostkey names", key.Type(), sum),
			"somebody may be in between; if the server has a new key, change hostkey")
	}
	err := error(&knownhosts.KeyError{})
	if k.known != nil {
		err = k.known(k.lookup(), noAddr, key)
	}
	var keyErr *knownhosts.KeyError
	var revoked *knownhosts.RevokedError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &revoked):
		return fail(fmt.Errorf("the host key %s %s is revoked (%s:%d)", key.Type(), sum, revoked.Revoked.Filename, revoked.Revoked.Line), "do not connect: the key is in the wrong hands")
	case !errors.As(err, &keyErr):
		return fail(fmt.Errorf("the host key %s %s: %w", key.Type(), sum, err), "")
	case len(keyErr.Want) == 0:
		return fail(fmt.Errorf("the host key is not known: %s %s", key.Type(), sum),
			"if this is the server's fingerprint, add its key: "+k.scan()+"; or pin it: hostkey="+sum)
	}
	want := keyErr.Want[0]
	return fail(fmt.Errorf("the host key has changed: it is %s %s, and %s:%d has %s %s", key.Type(), sum, want.Filename, want.Line, want.Key.Type(), xssh.FingerprintSHA256(want.Key)),
		"somebody may be in between; if the server has a new key, remove the old one: ssh-keygen -R '"+knownhosts.Normalize(k.lookup())+"' -f "+want.Filename)
}

// scan is the command that adds the server's keys.
func (k *hostKeys) scan() string {
	host, port, err := net.SplitHostPort(k.server)
	file := systemKnownHosts
	if len(k.files) > 0 {
		file = k.files[0]
	}
	if err != nil {
		return "write it to " + file
	}
	return "ssh-keyscan -p " + port + " " + host + " >> " + file
}
