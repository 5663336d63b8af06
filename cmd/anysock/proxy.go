package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/internal/printable"
	"github.com/anysock/anysock/proxy"
	"github.com/anysock/anysock/relay"
)

// This file holds the verb proxy.

// defaultProxyAddress is where a proxy listens if no address is given: others
// than this machine reach it only if somebody says so.
const defaultProxyAddress = "tcp://127.0.0.1:1080"

// A proxyOptions is what the options of proxy say.
type proxyOptions struct {
	server       serverOptions
	users        string
	rules        []proxy.Rule // --allow and --deny, in their order
	policy       string
	via          string
	handshake    time.Duration
	perClient    perClientLimit
	rate         perClientLimit
	bindAddress  string
	bindTimeout  time.Duration
	hashPassword string
}

func newProxyCommand(a *app) *cobra.Command {
	var o proxyOptions
	cmd := &cobra.Command{
		Use:     "proxy [OPTIONS] [ADDR]",
		Short:   "Serve SOCKS4, SOCKS4a, SOCKS5 and HTTP CONNECT on one port",
		GroupID: groupConnect,
		Long: `proxy connects clients to the targets they ask for. SOCKS4, SOCKS4a, SOCKS5 and HTTP
CONNECT are told apart by what the client says first. What ends on one side ends in the
same way on the other, as with relay. SOCKS5 and SOCKS4 also have BIND: a server outside
calls back, once.

It listens on ` + defaultProxyAddress + ` unless ADDR says otherwise. Where others than
this machine can reach it, it wants to know who may use it: --users, or --allow with
from=. Passwords and requests travel as they are: over a network that others read, listen
on a tls address.

Rules are tried in the order they are given, --allow and --deny alike, and the first that
matches decides. A rule is conditions separated by spaces, each with values separated by
commas, or the word all:

  user=alice,bob        who has logged in
  from=10.0.0.0/8       the client's network or address
  to=db,192.168.0.0/16  the target's name, network or address; db is also x.db
  port=80,8000-8999     the target's port
  command=bind          connect or bind

If no rule matches, a request is denied if there is any --allow, and granted if there is
none; --default says it. Networks count for the address that is connected to, after the
name was resolved. Loopback, link-local and metadata addresses, multicast and the proxy
itself are refused to clients from elsewhere, unless a rule names them: to=127.0.0.1 does,
to=0.0.0.0/0 does not. A BIND at which anybody may call needs --allow command=bind.

--users names a file (file:PATH) or a variable (env:NAME) with a line NAME:HASH for each
user, the hash being bcrypt's. --hash-password NAME makes such a line from the password
on standard input; so does 'htpasswd -nB NAME'. SOCKS4 has no password, and is refused
where one is asked for.

One line is printed for every connection that has ended, on a terminal or with -v; with
--json one object, on standard output. SIGINT or SIGTERM drains: connections that wait
are still accepted, the listener is closed, and what runs may finish for --drain; then,
or with a second signal, both sides are reset.`,
		Example: `  anysock proxy
  curl --proxy socks5h://127.0.0.1:1080 https://example.com/
  anysock proxy --hash-password alice >> users
  anysock proxy --users file:users 'tls://:1080?cert=file:c.pem&key=file:k.pem'
  anysock proxy --deny to=10.0.0.0/8 --allow 'from=192.168.0.0/16 port=80,443' tcp://:1080`,
		Args:              arguments(0, "the address"),
		ValidArgsFunction: completeAddresses(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			addr := defaultProxyAddress
			if len(args) > 0 {
				addr = args[0]
			}
			o.perClient.set = cmd.Flags().Changed("max-conns-per-client")
			o.rate.set = cmd.Flags().Changed("max-rate-per-client")
			if o.hashPassword != "" {
				return a.hashPassword(o.hashPassword)
			}
			return a.proxy(addr, o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.users, "users", "", "ask for a user and a password: file:PATH or env:NAME")
	f.Var(&ruleValue{&o.rules, true}, "allow", "a rule of requests to grant; may be repeated")
	f.Var(&ruleValue{&o.rules, false}, "deny", "a rule of requests to refuse; may be repeated")
	f.StringVar(&o.policy, "default", proxy.PolicyAuto.String(), "requests that no rule matches: allow, deny, or auto, which is deny if there is an --allow")
	f.StringVar(&o.via, "via", "", "reach every target through these hops, such as socks5://other:1080; names are resolved there, so that rules about networks match none")
	f.DurationVar(&o.handshake, "handshake", proxy.DefaultHandshake, "time for everything before data: request, login, connecting")
	f.IntVar(&o.perClient.n, "max-conns-per-client", proxy.DefaultMaxConnsPerClient, "connections at once of one client address, others are reset; 0 is no limit; the default is not for clients on this machine")
	f.IntVar(&o.rate.n, "max-rate-per-client", proxy.DefaultRatePerClient, "new connections a second of one client address, ten seconds' worth at once, others are reset; 0 is no limit; the default is not for clients on this machine")
	f.StringVar(&o.bindAddress, "bind-address", "", "where callers of BIND are waited for; by default where the client has reached the proxy")
	f.DurationVar(&o.bindTimeout, "bind-timeout", proxy.DefaultBindTimeout, "time for the caller of a BIND to come")
	f.StringVar(&o.hashPassword, "hash-password", "", "read a password and print the line of --users for this name, and nothing else")
	_ = cmd.RegisterFlagCompletionFunc("default", cobra.FixedCompletions([]string{"auto", "allow", "deny"}, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("users", cobra.FixedCompletions([]string{"file:", "env:"}, cobra.ShellCompDirectiveNoSpace))
	for _, rule := range []string{"allow", "deny"} {
		_ = cmd.RegisterFlagCompletionFunc(rule, cobra.FixedCompletions([]string{"user=", "from=", "to=", "port=", "command=", "all"}, cobra.ShellCompDirectiveNoSpace|cobra.ShellCompDirectiveNoFileComp))
	}
	o.server.options(cmd)
	a.outputOptions(cmd)
	return cmd
}

// A ruleValue is --allow or --deny, which fill one list.
type ruleValue struct {
	rules *[]proxy.Rule
	allow bool
}

func (v *ruleValue) String() string { return "" }
func (v *ruleValue) Type() string   { return "RULE" }

func (v *ruleValue) Set(text string) error {
	r, err := proxy.ParseRule(v.allow, text)
	if err == nil {
		*v.rules = append(*v.rules, r)
	}
	return err
}

// check reads what is text, and says what makes no sense.
func (o *proxyOptions) check(s *proxy.Server) error {
	if o.handshake <= 0 || o.bindTimeout <= 0 {
		return &usageError{msg: "--handshake and --bind-timeout must be more than 0"}
	}
	switch o.policy {
	case "auto":
	case "allow":
		s.Rules.Default = proxy.PolicyAllow
	case "deny":
		s.Rules.Default = proxy.PolicyDeny
	default:
		return &usageError{msg: fmt.Sprintf("--default=%s: it is allow, deny or auto", o.policy)}
	}
	if o.bindAddress != "" {
		ip, err := netip.ParseAddr(o.bindAddress)
		if err != nil {
			return &usageError{msg: fmt.Sprintf("--bind-address %q is no IP address", o.bindAddress)}
		}
		s.BindAddress = ip
	}
	if o.via != "" {
		via, err := parseAddress(o.via)
		if err != nil {
			return err
		}
		// What follows it will be a target.
		_, err = anysock.ParseAddress(via.String() + ",tcp://target:1")
		if e := new(anysock.AddressError); errors.As(err, &e) {
			return &usageError{msg: "--via " + via.String() + ": " + e.Msg, hint: e.Hint}
		}
		s.Via = via
	}
	if o.users != "" {
		users, err := proxy.LoadUsers(o.users)
		if err != nil {
			return &usageError{msg: "--users: " + strings.TrimPrefix(err.Error(), "users: ")}
		}
		s.Users = users
	}
	return errors.Join(o.server.check(), positive("max-conns-per-client", o.perClient.n), positive("max-rate-per-client", o.rate.n))
}

func (a *app) proxy(address string, o proxyOptions) error {
	addr, err := parseAddress(address)
	if err != nil {
		return err
	}
	var last lastRelayed
	s := proxy.Server{
		Rules:  proxy.Rules{List: o.rules},
		Dialer: anysock.Dialer{Group: &a.group, Trace: a.trace()}, Options: relay.Options{Idle: o.server.idle},
		// 0 is no limit here, and the default there.
		MaxConns: none(o.server.maxConns), MaxConnsPerClient: o.perClient.limit(), RatePerClient: o.rate.limit(),
		Handshake: o.handshake, BindTimeout: o.bindTimeout, Drain: none(o.server.drain),
		OnEnd: func(rec proxy.Record) {
			if rec.How == anysock.Refused && rec.By == relay.Self {
				rec.Record.Err = &failure{err: rec.Err, status: exitHop} // the hop is we
			}
			last.set(rec.Record)
			a.record(a.endLevel(), "end", rec.String(), rec.How, rec)
		},
	}
	if err := o.check(&s); err != nil {
		return err
	}
	if asked := askedAddr(addr); asked != nil {
		// Before anybody can connect; what a name stands for is known later.
		if err := s.Check(asked); err != nil {
			return proxyCheckError(err)
		}
	}
	if usesStdout(addr) {
		a.records = a.stderr
	}
	sig := a.watch()
	lc := anysock.ListenConfig{Group: &a.group, Trace: a.trace()}
	ln, err := lc.ListenAddress(sig.drain, addr)
	if err != nil {
		return err
	}
	defer ln.Close()
	if err := s.Check(ln.Addr()); err != nil {
		return proxyCheckError(err)
	}
	broken := a.drainOnBrokenRecords(sig)
	a.tellBound(addr, ln)

	stop := a.watchExhausted(ln)
	err = s.Serve(sig.drain, ln)
	stop()
	switch {
	case sig.drain.Err() != nil:
		err = nil
		if n := s.Stats().Active; n > 0 {
			a.tellDrain(sig, n, o.server.drain)
		}
	case errors.Is(err, net.ErrClosed):
		// The listener had one connection (stdio:), and is through.
		_, err = s.Shutdown(sig.abort)
		return errors.Join(err, last.failure(), broken())
	case err != nil:
		// Accepting failed for good.
		a.tellDrain(sig, s.Stats().Active, o.server.drain)
	}
	done, serr := s.Shutdown(sig.abort)
	if done.Cut > 0 {
		return errors.Join(err, cutError(done.Cut, o.server.drain, sig))
	}
	return errors.Join(err, serr, broken())
}

// askedAddr is where a tcp address will listen, if it says so by a number or by
// none at all; else nil.
func askedAddr(addr anysock.Address) net.Addr {
	hops := addr.Hops()
	layers := hops[0].Layers
	if len(hops) > 1 || !strings.HasPrefix(layers[len(layers)-1].Scheme, "tcp") {
		return nil
	}
	if host := hops[0].Host; host == "" || host == "*" {
		return &net.TCPAddr{IP: net.IPv6unspecified}
	} else if ip := net.ParseIP(host); ip != nil {
		return &net.TCPAddr{IP: ip}
	}
	return nil
}

// none makes 0 what the library calls none.
func none[T int | time.Duration](v T) T {
	if v == 0 {
		return -1
	}
	return v
}

// A perClientLimit leaves the default to the library, which does not count
// clients on this machine then.
type perClientLimit struct {
	n   int
	set bool
}

func (l perClientLimit) limit() int {
	if !l.set {
		return 0
	}
	return none(l.n)
}

// proxyCheckError is what Server.Check says, as a mistake on the command line.
func proxyCheckError(err error) error {
	var e *anysock.Error
	if !errors.As(err, &e) || e.Kind != anysock.KindState {
		return err
	}
	hint := e.Hint
	if hint != "" {
		hint = "listen on " + defaultProxyAddress + ", or ask for passwords with --users, or say which clients are allowed with --allow from=10.0.0.0/8"
	}
	return &usageError{msg: fmt.Sprintf("proxy on %s: %v", e.Addr, e.Err), hint: hint}
}

// maxPasswordLine bounds what hashPassword reads.
const maxPasswordLine = 4096

// hashPassword prints the line of a users file for a name and a password that
// comes from standard input, never from the command line, where others see it.
func (a *app) hashPassword(name string) error {
	password, err := a.readPassword(name)
	if err != nil {
		return err
	}
	line, err := proxy.HashPassword(name, password)
	if err != nil {
		return &usageError{msg: "--hash-password: " + err.Error()}
	}
	if _, err := fmt.Fprintln(a.stdout, line); err != nil {
		return &outputError{err}
	}
	return nil
}

// readPassword reads a line; on a terminal it asks for it, and does not show
// it.
func (a *app) readPassword(name string) (string, error) {
	if f, ok := a.stdin.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		fmt.Fprintf(a.stderr, "password of %s: ", printable.Text(name))
		b, err := term.ReadPassword(int(f.Fd()))
		fmt.Fprintln(a.stderr)
		if err != nil {
			return "", &inputError{err}
		}
		return string(b), nil
	}
	line, err := bufio.NewReader(io.LimitReader(a.stdin, maxPasswordLine)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", &inputError{err}
	}
	return strings.TrimRight(line, "\r\n"), nil
}
