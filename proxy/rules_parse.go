// This file reads rules as they are written on a command line.

package proxy

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// ParseRule reads a rule: conditions separated by spaces, each a word, "=" and
// values separated by commas; "all" alone is a rule without conditions.
//
//	user=alice,bob        who has logged in
//	from=10.0.0.0/8       the client's network or address
//	to=db,192.168.0.0/16  the target's name, network or address; db is also x.db
//	port=80,8000-8999     the target's port
//	command=bind          connect or bind
//
// The error says which word is wrong.
func ParseRule(allow bool, text string) (Rule, error) {
	r := Rule{Allow: allow}
	words := strings.Fields(text)
	if len(words) == 0 {
		return Rule{}, fmt.Errorf("the rule is empty: write all for every request")
	}
	if len(words) == 1 && words[0] == "all" {
		return r, nil
	}
	seen := map[string]bool{}
	for _, word := range words {
		key, values, ok := strings.Cut(word, "=")
		if !ok {
			return Rule{}, fmt.Errorf("rule %s: %s is no condition: write user=, from=, to=, port= or command=", quoted(text), quoted(word))
		}
		if seen[key] {
			return Rule{}, fmt.Errorf("rule %s: %s= is there twice: separate its values by commas", quoted(text), key)
		}
		seen[key] = true
		for _, v := range strings.Split(values, ",") {
			if v == "" {
				return Rule{}, fmt.Errorf("rule %s: a value of %s= is empty", quoted(text), key)
			}
			if err := r.add(key, v); err != nil {
				return Rule{}, fmt.Errorf("rule %s: %w", quoted(text), err)
			}
		}
	}
	return r, nil
}

// add adds one value to a condition.
func (r *Rule) add(key, v string) error {
	switch key {
	case "user":
		r.Users = append(r.Users, v)
	case "from":
		p, err := parsePrefix(v)
		if err != nil {
			return err
		}
		r.From = append(r.From, p)
	case "to":
		if p, err := parsePrefix(v); err == nil {
			r.To = append(r.To, p)
			break
		}
		name := strings.Trim(v, ".")
		e, err := hostEndpoint(name, 0)
		if err == nil && e.name != "" {
			err = checkHost(e.name)
		}
		if err != nil {
			return fmt.Errorf("%s is no name, no address and no network such as 10.0.0.0/8", quoted(v))
		}
		r.Names = append(r.Names, strings.ToLower(name))
	case "port":
		p, err := parsePorts(v)
		if err != nil {
			return err
		}
		r.Ports = append(r.Ports, p)
	case "command":
		if v != "connect" && v != "bind" || r.Command != "" {
			return fmt.Errorf("command= is connect or bind; leave it out for both")
		}
		r.Command = v
	default:
		return fmt.Errorf("there is no condition %s: write user=, from=, to=, port= or command=", quoted(key))
	}
	return nil
}

// parsePrefix reads a network, or an address as the network of it alone.
func parsePrefix(s string) (netip.Prefix, error) {
	if ip, err := netip.ParseAddr(s); err == nil && ip.Zone() == "" {
		return foldPrefix(netip.PrefixFrom(ip, ip.BitLen())), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("%s is no network: write 10.0.0.0/8 or 10.1.2.3", quoted(s))
	}
	if p.Masked() != p {
		return netip.Prefix{}, fmt.Errorf("%s has bits beyond its length: write %s", quoted(s), p.Masked())
	}
	return foldPrefix(p), nil
}

// parsePorts reads 80 or 8000-8999.
func parsePorts(s string) (PortRange, error) {
	first, last, ok := strings.Cut(s, "-")
	if !ok {
		last = first
	}
	a, err1 := strconv.ParseUint(first, 10, 16)
	b, err2 := strconv.ParseUint(last, 10, 16)
	if err1 != nil || err2 != nil || a > b || a == 0 {
		return PortRange{}, fmt.Errorf("%s is no port: write 443 or 8000-8999", quoted(s))
	}
	return PortRange{uint16(a), uint16(b)}, nil
}
