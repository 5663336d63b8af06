package anysock

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// This file computes what a chain can do, layer by layer, and holds an address
// to what it requires.

// capsAlong computes each layer's Caps from the first hop's base up, and
// stores them. Behind a hop the base is the stream through that hop.
func capsAlong(hops []plannedHop) {
	var caps Caps
	for n, p := range hops {
		last := len(p.transports) - 1
		for i := last; i >= 0; i-- {
			if f := p.transports[i].Caps; f != nil && (i < last || n == 0) {
				caps = f(caps, p.targets[i])
			}
			p.targets[i].Caps = caps
		}
	}
}

// caps is what the connection to the hop can do.
func (p *plannedHop) caps() Caps { return p.targets[0].Caps }

// lcScheme is the lifecycle protocol's layer, which adds what a carrier lacks.
const lcScheme = "lc"

// negotiable are the layers that can ask the peer whether it speaks lc, in
// their own handshake.
var negotiable = []string{"ws", "tls", "quic"}

// require checks what the hops' require options ask for. Where something is
// missing at the end of the chain, and the top layer there can ask the peer for
// lc, lc is put over it: the handshake fails if the peer does not agree.
func (a Address) require(hops []plannedHop) error {
	for n := range hops {
		p := &hops[n]
		base := p.targets[len(p.targets)-1]
		if !base.Has("require") {
			continue
		}
		want, err := ParseCaps(base.String("require", ""))
		if err != nil {
			return err // was checked before
		}
		missing := want &^ p.caps()
		if missing == 0 {
			continue
		}
		if n == len(hops)-1 && p.putLC(hops, missing) {
			continue
		}
		hint := "no layer adds it: leave it out of require, or choose another transport"
		if lc := transportFor(lcScheme); lc == nil || missing&^lc.Caps(p.caps(), Target{}) == 0 {
			if !slices.ContainsFunc(p.hop.Layers, func(l Layer) bool { return l.Scheme == lcScheme }) {
				hint = "put the lifecycle protocol over it, at both ends: " + lcScheme + "+" + strings.Join(p.hop.words, "+") + ":…"
			}
		}
		return &Error{
			Op: "parse", Addr: a.String(), Kind: KindUnsupported, Hint: hint,
			Err: fmt.Errorf("required is %s, but %s has no %s: %w", want, strings.Join(p.hop.words, "+"), missing, errors.ErrUnsupported),
		}
	}
	return nil
}

// putLC puts an lc layer over the last hop, if that can be asked for and adds
// all that is missing.
func (p *plannedHop) putLC(hops []plannedHop, missing Caps) bool {
	lc := transportFor(lcScheme)
	if lc == nil || lc.Caps == nil || !slices.Contains(negotiable, p.hop.Layers[0].Scheme) {
		return false
	}
	if missing&^lc.Caps(p.caps(), Target{}) != 0 {
		return false
	}
	p.hop.Layers = append([]Layer{{Scheme: lcScheme, off: p.hop.Layers[0].off}}, p.hop.Layers...)
	p.transports = append([]*Transport{lc}, p.transports...)
	p.targets = append([]Target{{options: map[string][]string{}}}, p.targets...)
	for i := range p.targets {
		p.targets[i].Hop, p.targets[i].Layer = p.hop, i
	}
	capsAlong(hops)
	return true
}

// AddressCaps is what a connection to, or accepted at, the address can do,
// computed along all of its hops and layers. The error is Check's, or
// KindUnsupported where the address requires what it cannot have.
func AddressCaps(a Address) (Caps, error) {
	hops, err := a.plan(forAny)
	if err != nil {
		return 0, err
	}
	return hops[len(hops)-1].caps(), nil
}

// LayerCaps is what one layer of an address does to the capabilities of the
// connection below it.
type LayerCaps struct {
	Hop     int    `json:"hop"` // counted from 0
	Scheme  string `json:"layer"`
	Adds    Caps   `json:"adds"`
	Removes Caps   `json:"removes"`
	Caps    Caps   `json:"caps"` // of the connection up to here
	// Through says that the layer is that of a proxy or another hop: Caps is
	// what a connection through it can do.
	Through bool `json:"through,omitempty"`
	// Negotiated says that the layer is not written in the address but needed
	// for what that requires.
	Negotiated bool `json:"negotiated,omitempty"`
}

// AddressLayers lists the layers of an address in the order in which they are
// made: hop by hop, each from its base up. The error is AddressCaps's.
func AddressLayers(a Address) ([]LayerCaps, error) {
	hops, err := a.plan(forAny)
	if err != nil {
		return nil, err
	}
	var out []LayerCaps
	var below Caps
	written := a.Hops()
	for n, p := range hops {
		for i := len(p.targets) - 1; i >= 0; i-- {
			caps := p.targets[i].Caps
			out = append(out, LayerCaps{
				Hop: n, Scheme: p.hop.Layers[i].Scheme, Caps: caps, Adds: caps &^ below, Removes: below &^ caps,
				Through:    i == 0 && n < len(hops)-1,
				Negotiated: i == 0 && len(p.hop.Layers) > len(written[n].Layers),
			})
			below = caps
		}
	}
	return out, nil
}
