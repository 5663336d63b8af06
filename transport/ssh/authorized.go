// This file holds who is let in: the keys of a file in the form of
// authorized_keys (sshd(8)). An option of a key that is not understood here
// keeps the key out: it may be what was to restrict it.

package ssh

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	xssh "golang.org/x/crypto/ssh"
)

// authorizedKeys are those of a file, which is read again when it has changed.
type authorizedKeys struct {
	path string

	mu   sync.Mutex
	info os.FileInfo
	keys map[string]keyRule // by the key's wire form
	err  error              // of the last reading
}

// A keyRule is what an authorized key may do.
type keyRule struct {
	line    int
	from    []string   // patterns of the client's address; nil is any
	open    []openRule // destinations; nil is any
	expires time.Time  // zero is never
	why     string     // the key is not usable: the reason
	noPorts bool       // no channels: what restrict and no-port-forwarding say
}

// An openRule is one permitopen.
type openRule struct{ host, port string }

// newAuthorizedKeys reads the file. A line that is no key, or a file without a
// key that is let in, is an error.
func newAuthorizedKeys(path string) (*authorizedKeys, error) {
	a := &authorizedKeys{path: path}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.refresh()
	if a.err != nil {
		return nil, a.err
	}
	usable := 0
	var why string
	for _, rule := range a.keys {
		if rule.why == "" {
			usable++
		} else {
			why = fmt.Sprintf(": %s:%d: %s", path, rule.line, rule.why)
		}
	}
	if usable == 0 {
		return nil, fmt.Errorf("%s has no key that can be let in%s", path, why)
	}
	return a, nil
}

// refresh reads the file if it is not what was read last; mu is held. A file
// that cannot be read lets nobody in.
func (a *authorizedKeys) refresh() {
	info, err := os.Stat(a.path)
	if err == nil && a.info != nil && os.SameFile(info, a.info) && info.Size() == a.info.Size() && info.ModTime().Equal(a.info.ModTime()) {
		return
	}
	a.info = info
	var b []byte
	if err == nil {
		b, err = readSmall(a.path)
	}
	if err == nil {
		a.keys, err = parseAuthorized(b)
		if err != nil {
			err = fmt.Errorf("%s:%w", a.path, err)
		}
	}
	if a.err = err; err != nil {
		a.keys = nil
		slog.Error("ssh: authorized keys cannot be read: nobody is let in", "error", err)
		return
	}
	for _, rule := range a.keys {
		if rule.why != "" {
			slog.Warn("ssh: an authorized key is not let in", "file", a.path, "line", rule.line, "reason", rule.why)
		}
	}
}

// lookup is the rule of a key, or why it is not let in.
func (a *authorizedKeys) lookup(key xssh.PublicKey, client net.Addr, now time.Time) (keyRule, error) {
	a.mu.Lock()
	a.refresh()
	rule, ok := a.keys[string(key.Marshal())]
	a.mu.Unlock()
	switch {
	case !ok:
		return rule, errors.New("the key is not authorized")
	case rule.why != "":
		return rule, errors.New(rule.why)
	case rule.noPorts:
		return rule, errors.New("the key may not open channels")
	case !rule.expires.IsZero() && !now.Before(rule.expires):
		return rule, errors.New("the key has expired")
	case rule.from != nil && !matchFrom(rule.from, client):
		return rule, errors.New("the key is not authorized for this client's address")
	}
	return rule, nil
}

// parseAuthorized reads the file's keys. The error begins with the line.
func parseAuthorized(b []byte) (map[string]keyRule, error) {
	keys := make(map[string]keyRule)
	for i, line := range bytes.Split(b, []byte("\n")) {
		line = bytes.TrimSpace(line)
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		key, _, options, _, err := xssh.ParseAuthorizedKey(line)
		if err != nil {
			return nil, fmt.Errorf("%d: no public key", i+1)
		}
		rule := parseRule(options)
		rule.line = i + 1
		// The first line of a key counts, as with sshd.
		if _, again := keys[string(key.Marshal())]; !again {
			keys[string(key.Marshal())] = rule
		}
	}
	return keys, nil
}

// parseRule reads a key's options.
func parseRule(options []string) keyRule {
	var rule keyRule
	refuse := func(format string, args ...any) { rule.why = fmt.Sprintf(format, args...) }
	for _, option := range options {
		name, value, has := strings.Cut(option, "=")
		name = strings.ToLower(name)
		if has {
			var ok bool
			if value, ok = unquote(value); !ok {
				refuse("the value of its option %q is not in quotes", name)
				continue
			}
		}
		switch name {
		case "agent-forwarding", "no-agent-forwarding", "pty", "no-pty", "user-rc", "no-user-rc", "x11-forwarding", "no-x11-forwarding":
			// About what nobody gets here.
		case "restrict", "no-port-forwarding":
			rule.noPorts = true
		case "port-forwarding":
			rule.noPorts = false
		case "from":
			rule.from = strings.Split(value, ",")
			if bad, ok := badPattern(rule.from); ok {
				refuse("its option from has %q, which is no address, network or pattern of one; host names are not looked up", bad)
			}
		case "permitopen":
			open, err := parseOpen(value)
			if err != nil {
				refuse("its option permitopen: %v", err)
			}
			rule.open = append(rule.open, open)
		case "expiry-time":
			t, err := parseExpiry(value)
			if err != nil {
				refuse("its option expiry-time %q is no time", value)
			}
			rule.expires = t
		default:
			refuse("its option %q is not supported", name)
		}
	}
	return rule
}

// unquote takes the quotes off an option's value; \" stands for a quote.
func unquote(s string) (string, bool) {
	if len(s) < 2 || s[0] != '"' || s[len(s)-1] != '"' {
		return "", false
	}
	return strings.ReplaceAll(s[1:len(s)-1], `\"`, `"`), true
}

// parseOpen reads HOST:PORT of permitopen; either may be "*".
func parseOpen(s string) (openRule, error) {
	host, port, err := net.SplitHostPort(s)
	if err != nil || host == "" {
		return openRule{}, fmt.Errorf("%q is not HOST:PORT", s)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil && port != "*" {
		return openRule{}, fmt.Errorf("%q has no port", s)
	}
	return openRule{strings.ToLower(host), port}, nil
}

// permits reports whether the rule lets a client name the destination. Names
// are compared as they are written. A Unix socket needs a rule without
// permitopen, as OpenSSH has it.
func (r keyRule) permits(to destination) bool {
	if r.open == nil {
		return true
	}
	host, port, err := net.SplitHostPort(to.addr.name)
	if to.channel != channelTCP || err != nil {
		return false
	}
	return slices.ContainsFunc(r.open, func(o openRule) bool {
		return (o.host == "*" || o.host == strings.ToLower(host)) && (o.port == "*" || o.port == port)
	})
}

// parseExpiry reads YYYYMMDD[HHMM[SS]], with Z in UTC, else in local time.
func parseExpiry(s string) (time.Time, error) {
	where := time.Local
	if t, ok := strings.CutSuffix(s, "Z"); ok {
		s, where = t, time.UTC
	}
	for _, layout := range []string{"20060102", "200601021504", "20060102150405"} {
		if len(s) == len(layout) {
			return time.ParseInLocation(layout, s, where)
		}
	}
	return time.Time{}, errors.New("no time")
}

// badPattern is the first of from's patterns that can match no address, if there
// is one.
func badPattern(patterns []string) (string, bool) {
	for _, p := range patterns {
		q := strings.TrimPrefix(p, "!")
		_, netErr := netip.ParsePrefix(q)
		if netErr == nil || q != "" && strings.Trim(q, "0123456789abcdefABCDEF.:*?") == "" && strings.ContainsAny(q, ".:*") {
			continue
		}
		return p, true
	}
	return "", false
}

// matchFrom reports whether one of the patterns matches the client's address
// and none that begins with "!" does (PATTERNS in ssh_config(5), and CIDR
// networks). A client without an address matches nothing.
func matchFrom(patterns []string, client net.Addr) bool {
	tcp, ok := client.(*net.TCPAddr)
	if !ok {
		return false
	}
	ip := tcp.AddrPort().Addr().Unmap().WithZone("")
	matched := false
	for _, p := range patterns {
		q, not := strings.CutPrefix(p, "!")
		if !matchAddress(q, ip) {
			continue
		}
		if not {
			return false
		}
		matched = true
	}
	return matched
}

func matchAddress(pattern string, ip netip.Addr) bool {
	if network, err := netip.ParsePrefix(pattern); err == nil {
		return network.Contains(ip)
	}
	return matchWildcard(strings.ToLower(pattern), ip.String())
}

// matchWildcard compares s with a pattern of "*" and "?". It looks back to the
// last star only, so it takes at most len(pattern) × len(s) steps.
func matchWildcard(pattern, s string) bool {
	p, i, star, mark := 0, 0, -1, 0
	for i < len(s) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, mark = p, i
			p++
		case p < len(pattern) && (pattern[p] == '?' || pattern[p] == s[i]):
			p++
			i++
		case star >= 0:
			mark++
			p, i = star+1, mark
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}
