package anysock

import (
	"context"
	"fmt"
	"net"
	"slices"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A Transport serves one scheme word of the address grammar. It plays one or
// more of three parts, each a function that is nil if it does not:
//
//   - a base (tcp, unix, mem) makes and accepts streams: Dial, Listen;
//   - a layer (tls, ws, lc) turns the stream below it into another: Client,
//     Server;
//   - a hop (socks5, ssh) reaches the next address through the connection to
//     itself: Through.
//
// A stream is a net.Conn. What more it can do, it says by Caps and by these
// optional methods, whose meaning is that of Conn's: CloseWrite, Abort,
// Unacked, WaitAcked (bounded by the write deadline), Unread. Its Close
// releases it at once and closes what is below; graceful closing is Conn's
// work. A read that finds the carrier cut must say so (io.ErrUnexpectedEOF,
// an errno, or an Error with KindTruncated or KindReset), never io.EOF.
type Transport struct {
	// Scheme is the word; it must be one of the grammar's fixed list.
	Scheme string
	// Options are the address options that this layer knows.
	Options []OptionSpec
	// Caps is what a connection can do, given what the one below it can; the
	// argument is 0 for a base.
	Caps func(below Caps) Caps

	// Dial makes a stream; ctx bounds it. The Dialer carries the caller's
	// wishes; the Target's options go before them.
	Dial func(ctx context.Context, d *Dialer, t Target) (net.Conn, error)
	// Listen makes a listener whose SetDeadline bounds Accept.
	Listen func(ctx context.Context, lc *ListenConfig, t Target) (DeadlineListener, error)

	// Client and Server perform the layer's handshake over below, each on its
	// side. On an error the caller aborts below.
	Client func(ctx context.Context, below *Conn, t Target) (net.Conn, error)
	Server func(ctx context.Context, below *Conn, t Target) (net.Conn, error)

	// Through asks the hop at the other end of below for a stream to next,
	// whose last layer is what the hop must reach.
	Through func(ctx context.Context, below *Conn, t Target, next Hop) (net.Conn, error)
}

// A DeadlineListener is a net.Listener whose Accept can be cut short, and goes
// on afterwards.
type DeadlineListener interface {
	net.Listener
	SetDeadline(time.Time) error
}

// OptionType is the form of an option's value.
type OptionType int

// The forms.
const (
	OptionString   OptionType = iota // any text but the empty one
	OptionInt                        // a decimal number, not negative
	OptionBool                       // 0, 1, true or false
	OptionDuration                   // as time.ParseDuration: 10s, 250ms
	OptionMode                       // an octal file mode: 0660
	OptionText                       // any text
)

// An OptionSpec is one address option of a Transport.
type OptionSpec struct {
	Name         string
	Type         OptionType
	Dial, Listen bool // where it means something
	Help         string
}

func (o OptionSpec) check(value string) error {
	var err error
	switch o.Type {
	case OptionInt:
		_, err = strconv.ParseUint(value, 10, 31)
	case OptionBool:
		_, err = strconv.ParseBool(value)
	case OptionDuration:
		var d time.Duration
		if d, err = time.ParseDuration(value); err == nil && d < 0 {
			err = strconv.ErrRange
		}
	case OptionMode:
		_, err = strconv.ParseUint(value, 8, 9)
	case OptionString:
		if value == "" {
			err = strconv.ErrSyntax
		}
	}
	if err != nil {
		return fmt.Errorf("%s", [...]string{
			"must not be empty", "must be a whole number", "must be 0 or 1",
			"must be a duration such as 10s or 250ms", "must be an octal mode such as 0660",
		}[o.Type])
	}
	return nil
}

// A Target is one layer of a hop as its Transport sees it.
type Target struct {
	Hop   Hop
	Layer int // index into Hop.Layers
	// Caps is what the finished stream of this layer can do.
	Caps    Caps
	options map[string][]string
}

// Has reports whether the address gives the option to this layer.
func (t Target) Has(name string) bool { return len(t.options[name]) > 0 }

// Strings is every value of an option that may repeat.
func (t Target) Strings(name string) []string { return t.options[name] }

// String is the option's value, or def.
func (t Target) String(name, def string) string {
	if v := t.options[name]; len(v) > 0 {
		return v[0]
	}
	return def
}

// Int is the option's value, or def. Values have been checked by the time a
// Transport sees them, so these getters do not fail.
func (t Target) Int(name string, def int) int {
	if v, err := strconv.ParseInt(t.String(name, ""), 10, 64); err == nil {
		return int(v)
	}
	return def
}

// Mode is the option's value as an octal number, or def.
func (t Target) Mode(name string, def uint32) uint32 {
	if v, err := strconv.ParseUint(t.String(name, ""), 8, 32); err == nil {
		return uint32(v)
	}
	return def
}

// Bool is the option's value, or def.
func (t Target) Bool(name string, def bool) bool {
	if v, err := strconv.ParseBool(t.String(name, "")); err == nil {
		return v
	}
	return def
}

// Duration is the option's value, or def.
func (t Target) Duration(name string, def time.Duration) time.Duration {
	if v, err := time.ParseDuration(t.String(name, "")); err == nil {
		return v
	}
	return def
}

var registry struct {
	sync.RWMutex
	byScheme map[string]*Transport
}

// Register adds a transport; packages call it from init. A scheme word that
// the grammar lacks, one registered twice, or a transport without a part to
// play is a programming error and panics.
func Register(t Transport) {
	if _, ok := schemeWord(t.Scheme); !ok {
		panic("anysock: Register: " + t.Scheme + " is no scheme word")
	}
	if t.Dial == nil && t.Listen == nil && t.Client == nil && t.Server == nil && t.Through == nil {
		panic("anysock: Register: " + t.Scheme + " does nothing")
	}
	registry.Lock()
	defer registry.Unlock()
	if registry.byScheme == nil {
		registry.byScheme = make(map[string]*Transport)
	}
	if registry.byScheme[t.Scheme] != nil {
		panic("anysock: Register: " + t.Scheme + " twice")
	}
	registry.byScheme[t.Scheme] = &t
}

func transportFor(scheme string) *Transport {
	registry.RLock()
	defer registry.RUnlock()
	return registry.byScheme[scheme]
}

// Schemes lists the scheme words that are registered, sorted.
func Schemes() []string {
	registry.RLock()
	defer registry.RUnlock()
	var s []string
	for w := range registry.byScheme {
		s = append(s, w)
	}
	sort.Strings(s)
	return s
}

// Check reports whether every scheme of the address is registered and every
// option is known to exactly one layer and well-formed. The error is an
// *AddressError that points at the character.
func (a Address) Check() error {
	_, err := a.plan(func(OptionSpec) bool { return true }, "")
	return err
}

// A plannedHop is a hop with its transports and each layer's options.
type plannedHop struct {
	hop        Hop
	transports []*Transport
	targets    []Target
}

// plan finds transports and options. usable says which options make sense for
// the purpose, which is "dialing" or "listening" in the message.
func (a Address) plan(usable func(OptionSpec) bool, purpose string) ([]plannedHop, error) {
	if a.IsZero() {
		return nil, &AddressError{Msg: "the address is empty", Hint: "write host:port, or a URL such as tcp://localhost:3005"}
	}
	var hops []plannedHop
	for _, h := range a.Hops() {
		p := plannedHop{hop: h}
		for i, l := range h.Layers {
			t := transportFor(l.Scheme)
			if t == nil {
				return nil, a.errorAt(l.off, "no transport for "+l.Scheme+" is registered", "import the package that provides it; registered are "+strings.Join(Schemes(), ", "))
			}
			p.transports = append(p.transports, t)
			p.targets = append(p.targets, Target{Hop: h, Layer: i, options: map[string][]string{}})
		}
		for _, o := range h.Options {
			if err := a.assign(&p, o, usable, purpose, len(hops) > 0); err != nil {
				return nil, err
			}
		}
		hops = append(hops, p)
	}
	return hops, nil
}

// lifecycleOptions are those of every Conn. The base of each hop takes them,
// whatever transport it is.
var lifecycleOptions = []OptionSpec{
	{Name: "closetimeout", Type: OptionDuration, Dial: true, Listen: true, Help: "bound of the disconnect after close (default 30s)"},
	{Name: "draintimeout", Type: OptionDuration, Dial: true, Listen: true, Help: "disconnect: wait for the peer's end (default 5s)"},
	{Name: "drainbytes", Type: OptionInt, Dial: true, Listen: true, Help: "disconnect: discard at most (default 1048576)"},
}

// options is what layer i of the hop knows. Behind another hop the base makes
// no socket of its own, and only the lifecycle's are left.
func (p *plannedHop) options(i int, behind bool) []OptionSpec {
	if i < len(p.transports)-1 {
		return p.transports[i].Options
	}
	if behind {
		return lifecycleOptions
	}
	own := p.transports[i].Options
	all := slices.Clone(own)
	for _, l := range lifecycleOptions {
		if !slices.ContainsFunc(own, func(o OptionSpec) bool { return o.Name == l.Name }) {
			all = append(all, l)
		}
	}
	return all
}

// assign gives one option to the layer that knows it; behind says that the
// hop is reached through another.
func (a Address) assign(p *plannedHop, o AddressOption, usable func(OptionSpec) bool, purpose string, behind bool) error {
	scheme, nth, name := splitOption(o.Name, p.hop.Layers)
	var found []int
	var spec OptionSpec
	seen := map[string]int{}
	known := map[string]bool{}
	for i, l := range p.hop.Layers {
		seen[l.Scheme]++
		if scheme != "" && (l.Scheme != scheme || nth > 0 && seen[l.Scheme] != nth) {
			continue
		}
		for _, s := range p.options(i, behind) {
			known[s.Name] = true
			if s.Name == name {
				found = append(found, i)
				spec = s
			}
		}
	}
	switch {
	case len(found) == 0:
		hint := "the options here are " + strings.Join(sortedKeys(known), ", ")
		if len(known) == 0 {
			hint = "there are no options here"
		}
		if behind && slices.ContainsFunc(p.transports[len(p.transports)-1].Options, func(s OptionSpec) bool { return s.Name == name }) {
			return a.errorAt(o.off, "option "+o.Name+" means nothing behind another hop", "give it to the first hop, which makes the socket")
		}
		return a.errorAt(o.off, "unknown option "+o.Name, hint)
	case len(found) > 1:
		l := p.hop.Layers[found[0]].Scheme
		return a.errorAt(o.off, "option "+o.Name+" is ambiguous: more than one layer knows it", "name the layer: "+l+"."+name+", or "+l+".1."+name+" where a layer repeats")
	case !usable(spec):
		return a.errorAt(o.off, "option "+o.Name+" means nothing for "+purpose, "leave it out")
	}
	if err := spec.check(o.Value); err != nil {
		return a.errorAt(o.valueOff, "the value of "+o.Name+" "+err.Error(), "")
	}
	opts := p.targets[found[0]].options
	opts[name] = append(opts[name], o.Value)
	return nil
}

// splitOption takes tls.min or tls.1.min apart; the scheme must be one of the
// hop's layers, else the whole is the name.
func splitOption(full string, layers []Layer) (scheme string, nth int, name string) {
	first, rest, ok := strings.Cut(full, ".")
	if !ok || !slices.ContainsFunc(layers, func(l Layer) bool { return l.Scheme == first }) {
		return "", 0, full
	}
	if num, after, ok := strings.Cut(rest, "."); ok {
		if n, err := strconv.Atoi(num); err == nil && n > 0 {
			return first, n, after
		}
	}
	return first, 0, rest
}

func sortedKeys(m map[string]bool) []string {
	var s []string
	for k := range m {
		s = append(s, k)
	}
	sort.Strings(s)
	return s
}

// capsAlong computes each layer's Caps from the base up, and stores them.
func capsAlong(hops []plannedHop) Caps {
	var caps Caps
	for _, p := range hops {
		for i := len(p.transports) - 1; i >= 0; i-- {
			if f := p.transports[i].Caps; f != nil {
				caps = f(caps)
			}
			p.targets[i].Caps = caps
		}
	}
	return caps
}

// AddressCaps is what a connection to, or accepted at, the address can do,
// computed along all of its hops and layers. The error is Check's.
func AddressCaps(a Address) (Caps, error) {
	hops, err := a.plan(func(OptionSpec) bool { return true }, "")
	if err != nil {
		return 0, err
	}
	return capsAlong(hops), nil
}
