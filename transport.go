package anysock

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
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
	// Caps is what a connection can do, given what the one below it can: 0 for
	// a base. Of a hop it is what the stream through it can do; the base that is
	// reached so adds nothing.
	Caps func(below Caps, t Target) Caps

	// Prepare looks at the options once, when Dial or Listen is called and before
	// anything is dialed or bound: files, and what makes no sense together. What
	// it returns is Target.Prepared in every later call for this address. An
	// error ends Dial or Listen; it is KindAddress if it has no kind.
	Prepare func(t Target, listening bool) (any, error)

	// Dial makes a stream; ctx bounds it. The Dialer carries the caller's
	// wishes; the Target's options go before them.
	Dial func(ctx context.Context, d *Dialer, t Target) (net.Conn, error)
	// Listen makes a listener whose SetDeadline bounds Accept.
	Listen func(ctx context.Context, lc *ListenConfig, t Target) (DeadlineListener, error)

	// Client and Server perform the layer's handshake over below, each on its
	// side. On an error the caller aborts below.
	Client func(ctx context.Context, below *Conn, t Target) (net.Conn, error)
	Server func(ctx context.Context, below *Conn, t Target) (net.Conn, error)
	// ServeMany goes before Server where one connection carries several
	// streams, such as the channels of ssh: it performs the handshake, which
	// ctx bounds, and returns what accepts the streams. Closing that ends
	// accepting and leaves the streams it has handed over; an error of its
	// Accept says that no more will come. After the handshake below belongs to
	// the layer.
	ServeMany func(ctx context.Context, below *Conn, t Target) (net.Listener, error)

	// Through asks the hop at the other end of below for a stream to next,
	// whose last layer is what the hop must reach. The result may be below
	// itself.
	Through func(ctx context.Context, below *Conn, t Target, next Hop) (net.Conn, error)
	// ListenThrough asks the hop for a listener at its own side, at the address
	// of next. dial makes a connection to the hop, as often as it is called.
	ListenThrough func(ctx context.Context, dial func(context.Context) (*Conn, error), t, next Target) (DeadlineListener, error)
	// BehindOptions are the options that this hop adds to the base behind it.
	BehindOptions []OptionSpec
}

// doesNothing reports a transport without a part to play.
func (t *Transport) doesNothing() bool {
	return t.Dial == nil && t.Listen == nil && t.Client == nil && t.Server == nil &&
		t.ServeMany == nil && t.Through == nil && t.ListenThrough == nil
}

// serves reports whether the layer has a server side.
func (t *Transport) serves() bool { return t.Server != nil || t.ServeMany != nil }

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
	OptionCaps                       // names of capabilities, separated by commas
)

// An OptionSpec is one address option of a Transport.
type OptionSpec struct {
	Name         string
	Type         OptionType
	Dial, Listen bool // where it means something
	Repeat       bool // may be given several times, if its name is one that the grammar lets repeat
	Help         string
	// Check judges a value beyond its type; nil takes all. Its error goes on
	// after "the value of NAME".
	Check func(value string) error
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
	case OptionCaps:
		_, err = ParseCaps(value)
	}
	if err != nil {
		return fmt.Errorf("%s", [...]string{
			"must not be empty", "must be a whole number", "must be 0 or 1",
			"must be a duration such as 10s or 250ms", "must be an octal mode such as 0660", "",
			"must be names of " + strings.Join(capNames, ", ") + ", separated by commas",
		}[o.Type])
	}
	if o.Check != nil {
		return o.Check(value)
	}
	return nil
}

// A Target is one layer of a hop as its Transport sees it.
type Target struct {
	Hop   Hop
	Layer int // index into Hop.Layers
	// Caps is what the finished stream of this layer can do.
	Caps Caps
	// Prepared is what the transport's Prepare returned; nil without one.
	Prepared any

	options map[string][]string
}

// Above is the scheme of the layer directly over this one in the hop, "" if it
// is the top.
func (t Target) Above() string {
	if t.Layer == 0 {
		return ""
	}
	return t.Hop.Layers[t.Layer-1].Scheme
}

// maxSecret bounds the file that a secret is read from, in bytes.
const maxSecret = 64 << 10

// Secret is what an option whose value is env:NAME or file:PATH stands for,
// without a line end at its end; "" if the address does not give the option.
// The error says what is missing and never what was found.
func (t Target) Secret(name string) (string, error) {
	ref := t.String(name, "")
	if variable, ok := strings.CutPrefix(ref, "env:"); ok {
		v, ok := os.LookupEnv(variable)
		if !ok {
			return "", fmt.Errorf("option %s: the variable %s is not set", name, variable)
		}
		return strings.TrimRight(v, "\r\n"), nil
	}
	path, ok := strings.CutPrefix(ref, "file:")
	if !ok {
		if ref == "" {
			return "", nil
		}
		return "", fmt.Errorf("option %s: write env:NAME or file:PATH", name)
	}
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("option %s: %w", name, err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
	switch {
	case err != nil:
		return "", fmt.Errorf("option %s: %w", name, err)
	case len(b) > maxSecret:
		return "", fmt.Errorf("option %s: %s is longer than %d bytes", name, path, maxSecret)
	}
	return strings.TrimRight(string(b), "\r\n"), nil
}

// Has reports whether the address gives the option to this layer.
func (t Target) Has(name string) bool { return len(t.options[name]) > 0 }

// drop forgets options.
func (t Target) drop(names ...string) {
	for _, name := range names {
		delete(t.options, name)
	}
}

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
	if t.doesNothing() {
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
	_, err := a.plan(forAny)
	return err
}

// A plannedHop is a hop with its transports and each layer's options.
type plannedHop struct {
	hop        Hop
	transports []*Transport
	targets    []Target
}

// A purpose is what an address is planned for.
type purpose int

const (
	forAny purpose = iota
	forDialing
	forListening
)

func (p purpose) String() string { return [...]string{"this", "dialing", "listening"}[p] }

func (p purpose) takes(o OptionSpec) bool {
	return p == forAny || p == forDialing && o.Dial || p == forListening && o.Listen
}

// plan finds transports and options, and what the chain can do; it puts lc on
// top where that is needed for what the address requires. Whoever listens
// through hops dials them.
func (a Address) plan(p purpose) ([]plannedHop, error) {
	hops, err := a.layOut(p)
	if err != nil {
		return nil, err
	}
	capsAlong(hops)
	return hops, a.require(hops)
}

// behindHops are the bases that another hop can be asked for.
var behindHops = []string{"tcp", "tcp4", "tcp6", "unix", "original"}

// layOut finds transports and options.
func (a Address) layOut(purpose purpose) ([]plannedHop, error) {
	if a.IsZero() {
		return nil, &AddressError{Msg: "the address is empty", Hint: "write host:port, or a URL such as tcp://localhost:3005"}
	}
	var hops []plannedHop
	var prev *plannedHop
	all := a.Hops()
	for n, h := range all {
		p := plannedHop{hop: h}
		for i, l := range h.Layers {
			t := transportFor(l.Scheme)
			if t == nil {
				return nil, a.errorAt(l.off, "no transport for "+l.Scheme+" is registered", "import the package that provides it; registered are "+strings.Join(Schemes(), ", "))
			}
			p.transports = append(p.transports, t)
			p.targets = append(p.targets, Target{Hop: h, Layer: i, options: map[string][]string{}})
		}
		if base := h.Layers[len(h.Layers)-1]; n > 0 && !slices.Contains(behindHops, base.Scheme) {
			return nil, a.errorAt(base.off, base.Scheme+" cannot be reached through another hop", "behind a hop the last word is one of "+strings.Join(behindHops, ", "))
		}
		here := purpose
		if purpose == forListening && n < len(all)-1 {
			here = forDialing
		}
		for _, o := range h.Options {
			if err := a.assign(prev, &p, o, here); err != nil {
				return nil, err
			}
		}
		hops = append(hops, p)
		prev = &hops[n]
	}
	return hops, nil
}

// lifecycleOptions are those of every Conn. The base of each hop takes them,
// whatever transport it is.
var lifecycleOptions = []OptionSpec{
	{Name: "closetimeout", Type: OptionDuration, Dial: true, Listen: true, Help: "bound of the disconnect after close (default 30s)"},
	{Name: "draintimeout", Type: OptionDuration, Dial: true, Listen: true, Help: "disconnect: wait for the peer's end (default 5s)"},
	{Name: "drainbytes", Type: OptionInt, Dial: true, Listen: true, Help: "disconnect: discard at most (default 1048576)"},
	{Name: "require", Type: OptionCaps, Dial: true, Listen: true, Help: "capabilities that the connection must have, as in abort,halfclose"},
}

// options is what layer i of the hop knows. Behind another hop (prev) the base
// makes no socket of its own: the lifecycle's are left, and what that hop adds.
func (p *plannedHop) options(i int, prev *plannedHop) []OptionSpec {
	if i < len(p.transports)-1 {
		return p.transports[i].Options
	}
	if prev != nil {
		return append(slices.Clone(prev.transports[0].BehindOptions), lifecycleOptions...)
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

// assign gives one option to the layer that knows it; prev is the hop before.
func (a Address) assign(prev, p *plannedHop, o AddressOption, purpose purpose) error {
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
		for _, s := range p.options(i, prev) {
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
		if prev != nil && slices.ContainsFunc(p.transports[len(p.transports)-1].Options, func(s OptionSpec) bool { return s.Name == name }) {
			return a.errorAt(o.off, "option "+o.Name+" means nothing behind another hop", "give it to the first hop, which makes the socket")
		}
		return a.errorAt(o.off, "unknown option "+o.Name, hint)
	case len(found) > 1:
		l := p.hop.Layers[found[0]].Scheme
		return a.errorAt(o.off, "option "+o.Name+" is ambiguous: more than one layer knows it", "name the layer: "+l+"."+name+", or "+l+".1."+name+" where a layer repeats")
	case !purpose.takes(spec):
		return a.errorAt(o.off, "option "+o.Name+" means nothing for "+purpose.String(), "leave it out")
	}
	if err := spec.check(o.Value); err != nil {
		return a.errorAt(o.valueOff, "the value of "+o.Name+" "+err.Error(), "")
	}
	opts := p.targets[found[0]].options
	if len(opts[name]) > 0 && !spec.Repeat {
		return a.errorAt(o.off, "the option "+o.Name+" is given twice", "remove one of the two")
	}
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
