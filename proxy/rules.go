// This file holds the rules that say who may reach what, and how they are
// asked.

package proxy

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Rules say which requests a Server grants. The first rule that matches
// decides; if none does, Default. The zero value grants everything that is not
// internal.
//
// A rule about addresses is asked about the address that is about to be
// connected to, after the name was resolved, for each one that is tried. The
// answer is not looked up again afterwards: a resolver that changes its answer
// gains nothing. An address that carries an IPv4 address (IPv4-mapped,
// IPv4-compatible, NAT64's 64:ff9b::/96, 6to4) counts as itself and as that.
//
// Internal targets are refused to clients that are not on this machine: the
// loopback and link-local networks, the addresses at which clouds keep their
// metadata, broadcast and multicast, and the server's own listeners. A rule
// allows one of them only if it names it by an address or a network that is
// internal itself: 127.0.0.1 or 169.254.0.0/16 does, 0.0.0.0/0 does not; for
// the server's own listeners it must be the address. The unspecified addresses
// (0.0.0.0/8, ::) are no targets at all.
type Rules struct {
	List    []Rule
	Default Policy
}

// A Policy is what happens to a request that no rule matches.
type Policy int

// The policies.
const (
	PolicyAuto  Policy = iota // deny if some rule allows anything, else allow
	PolicyAllow               //
	PolicyDeny
)

// String is "auto", "allow" or "deny".
func (p Policy) String() string { return [...]string{"auto", "allow", "deny"}[p] }

// A Rule allows or denies the requests that it matches: those for which every
// condition that is given holds. A condition with several values holds if one
// of them does. A rule without conditions matches everything.
type Rule struct {
	Allow bool
	// Users are names of users who have logged in. What a SOCKS4 client says
	// of itself is no such name.
	Users []string
	// From are the clients' networks.
	From []netip.Prefix
	// To are the targets' networks and Names their names; one of either will
	// do. A name matches itself and every name that ends in a dot and it.
	// For BIND the target is who may call.
	To    []netip.Prefix
	Names []string
	// Ports are the targets' ports.
	Ports []PortRange
	// Command is "connect" or "bind"; "" is both, with one exception: a BIND
	// at which anybody may call needs a rule that says bind.
	Command string
}

// A PortRange is the ports from First to Last.
type PortRange struct{ First, Last uint16 }

// A DeniedError is a request that the rules do not allow; errors.As finds it
// in a Record's Err.
type DeniedError struct {
	Target string // the address or the name
	Why    string
}

func (e *DeniedError) Error() string { return e.Target + " is not allowed: " + e.Why }

// A question is one request as the rules see it.
type question struct {
	client  client
	user    string
	name    string     // "" if the target was given as an address
	ip      netip.Addr // invalid while the name is not resolved
	port    uint16
	command command
	own     bool // the target is one of the server's own listeners
}

// denied is the answer that names the target.
func (q question) denied(format string, args ...any) error {
	target := q.name
	if q.ip.IsValid() {
		target = netip.AddrPortFrom(q.ip, q.port).String()
	}
	return &DeniedError{Target: target, Why: fmt.Sprintf(format, args...)}
}

// ask says whether a request to an address is allowed; the error is a
// *DeniedError.
func (r *Rules) ask(q question) error {
	forms := formsOf(q.ip)
	if slices.ContainsFunc(forms, isUnspecified) {
		return q.denied("it is no target")
	}
	what, own := "", q.own && !q.client.local
	if !q.client.local {
		what = internalKind(forms)
	}
	for i, rule := range r.List {
		if !rule.matches(q, forms) {
			continue
		}
		if rule.Allow && (what != "" && !rule.names(forms) || own && !rule.namesExactly(forms)) {
			continue
		}
		if !rule.Allow {
			return q.denied("rule %d denies it", i+1)
		}
		return nil
	}
	switch {
	case what != "":
		return q.denied("it is %s, and no rule names it", what)
	case own:
		return q.denied("it is this proxy, and no rule names its address")
	case r.byDefault() == PolicyDeny:
		return q.denied("no rule allows it")
	}
	return nil
}

// askName is ask before the name is resolved: it denies what no address can
// make right, so that nothing is looked up for that.
//
// final says that it will not be resolved here: then rules about addresses do
// not match it, and what they would allow is not allowed.
func (r *Rules) askName(q question, final bool) error {
	for i, rule := range r.List {
		switch {
		case !final && rule.byAddress(q):
			return nil // it depends
		case !rule.matches(q, nil):
		case rule.Allow:
			return nil
		default:
			return q.denied("rule %d denies it", i+1)
		}
	}
	if r.byDefault() == PolicyDeny {
		return q.denied("no rule allows it")
	}
	return nil
}

// askAnybody says whether the client may wait for a caller that it does not
// name.
func (r *Rules) askAnybody(q question) error {
	for i, rule := range r.List {
		if len(rule.To) > 0 || len(rule.Names) > 0 || !rule.matches(q, nil) {
			continue
		}
		if !rule.Allow {
			return &DeniedError{"anybody's call", fmt.Sprintf("rule %d denies it", i+1)}
		}
		if rule.Command != "" {
			return nil
		}
	}
	return &DeniedError{"anybody's call", "a BIND must name who may call, unless a rule with command=bind allows it"}
}

// byDefault is Default with Auto resolved.
func (r *Rules) byDefault() Policy {
	switch {
	case r.Default != PolicyAuto:
		return r.Default
	case slices.ContainsFunc(r.List, func(rule Rule) bool { return rule.Allow }):
		return PolicyDeny
	}
	return PolicyAllow
}

// byAddress reports whether the rule may match q or not, depending on the
// address of its name.
func (r *Rule) byAddress(q question) bool {
	if len(r.To) == 0 || r.matchesName(q.name) {
		return false
	}
	rest := *r
	rest.To, rest.Names = nil, nil
	return rest.matches(q, nil)
}

// matches: forms are those of the target's address.
func (r *Rule) matches(q question, forms []netip.Addr) bool {
	if len(r.Users) > 0 && (q.user == "" || !slices.Contains(r.Users, q.user)) {
		return false
	}
	if len(r.From) > 0 && !containsAny(r.From, formsOf(q.client.ip)) {
		return false
	}
	if len(r.To)+len(r.Names) > 0 && !containsAny(r.To, forms) && !r.matchesName(q.name) {
		return false
	}
	if len(r.Ports) > 0 && !slices.ContainsFunc(r.Ports, func(p PortRange) bool { return p.First <= q.port && q.port <= p.Last }) {
		return false
	}
	switch r.Command {
	case "connect":
		return q.command == commandConnect
	case "bind":
		return q.command == commandBind
	}
	return true
}

// matchesName: names are compared without regard to case, and to a dot at
// their end.
func (r *Rule) matchesName(name string) bool {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	return name != "" && slices.ContainsFunc(r.Names, func(n string) bool {
		n = strings.ToLower(strings.Trim(n, "."))
		return name == n || strings.HasSuffix(name, "."+n)
	})
}

// names reports whether the rule names an internal target: by a network that
// is internal as a whole, or by the very address.
func (r *Rule) names(forms []netip.Addr) bool {
	return slices.ContainsFunc(r.To, func(p netip.Prefix) bool {
		return (p.IsSingleIP() || isInternalPrefix(p)) && containsAny([]netip.Prefix{p}, forms)
	})
}

// namesExactly reports whether the rule names the very address.
func (r *Rule) namesExactly(forms []netip.Addr) bool {
	return slices.ContainsFunc(r.To, func(p netip.Prefix) bool {
		return p.IsSingleIP() && containsAny([]netip.Prefix{p}, forms)
	})
}

func containsAny(prefixes []netip.Prefix, ips []netip.Addr) bool {
	return slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return slices.ContainsFunc(ips, p.Contains) })
}

// check finds rules that make no sense.
func (r *Rules) check(users bool) error {
	for i, rule := range r.List {
		switch rule.Command {
		case "", "connect", "bind":
		default:
			return fmt.Errorf("rule %d: there is no command %s: write connect or bind", i+1, quoted(rule.Command))
		}
		if len(rule.Users) > 0 && !users {
			return fmt.Errorf("rule %d names users, and there are none", i+1)
		}
		for _, p := range slices.Concat(rule.From, rule.To) {
			if !p.IsValid() {
				return fmt.Errorf("rule %d: a network is not valid", i+1)
			}
		}
	}
	return nil
}

// areOpen reports whether a client of any address may be granted something
// without having logged in.
func (r *Rules) areOpen() bool {
	if r.byDefault() == PolicyAllow {
		return true
	}
	return slices.ContainsFunc(r.List, func(rule Rule) bool { return rule.Allow && len(rule.From) == 0 })
}

var errNumericName = errors.New("it is no host name, and no IP address as they are written today")

// checkHost refuses the names that some resolvers take for an address: a last
// label that is a number, as in 127.1, 2130706433 and 0x7f.1 (inet_aton(3);
// the URL standard's "ends in a number").
func checkHost(name string) error {
	trimmed := strings.TrimSuffix(name, ".")
	last := trimmed[strings.LastIndexByte(trimmed, '.')+1:]
	digits := last
	if len(last) >= 2 && last[0] == '0' && (last[1] == 'x' || last[1] == 'X') {
		digits = strings.Trim(strings.ToLower(last[2:]), "abcdef0123456789")
		if digits == "" {
			return errNumericName
		}
	}
	if strings.Trim(digits, "0123456789") == "" {
		return errNumericName // an empty label is none either
	}
	return nil
}
