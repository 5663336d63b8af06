package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/anysock/anysock"
)

// This file holds the verb caps: what a connection to an address can do, and
// which of its layers that comes from. Nothing is dialed.

// wholeLifecycle is what a connection needs so that each of its endings reaches
// the peer and is told apart from the others.
const wholeLifecycle = anysock.CapHalfClose | anysock.CapAbort | anysock.CapCutDetect | anysock.CapDeadline | anysock.CapCloseAck

// A capsRecord is what caps says, for programs.
type capsRecord struct {
	Address string              `json:"address"`
	Layers  []anysock.LayerCaps `json:"layers"` // hops are counted from 1 here
	Caps    anysock.Caps        `json:"caps"`
	Missing anysock.Caps        `json:"missing"` // of the whole lifecycle
	// With is the same address with the lifecycle protocol over it, if that
	// adds something of what is missing; Adds is what.
	With string       `json:"with,omitempty"`
	Adds anysock.Caps `json:"with_adds,omitzero"`
}

func newCapsCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "caps [--json] ADDR",
		Short:   "Say what a connection to an address can do",
		GroupID: groupLearn,
		Long: `caps lists the layers of an address from the base of the first hop up, and what each
adds to the capabilities of the connection or takes away. Nothing is dialed.

  halfclose   we can end our direction and still read
  abort       the peer can tell an abort from an end
  cutdetect   a carrier that breaks is an error, never an end
  deadline    a passed deadline leaves the connection usable
  closeack    it is known when our bytes were acknowledged
  peerid      the peer has proven who it is
  bindsource  the local address can be chosen

The first five make up the whole lifecycle. Where some are missing, the lifecycle
protocol lc may add them, if both ends speak it. An address can demand what it needs:
tls://db:5432?require=abort,halfclose.`,
		Example: `  anysock caps tls+unix:/run/o.sock
  anysock caps ssh://ops@bastion:22,tls://db:5432
  anysock caps --json lc+wss://edge:443/x`,
		Args:              arguments(1, "ADDR, the address,"),
		ValidArgsFunction: completeAddresses(1),
		RunE: func(_ *cobra.Command, args []string) error {
			return a.caps(args[0])
		},
	}
	cmd.Flags().BoolVar(&a.json, "json", a.json, "write one JSON object")
	return cmd
}

func (a *app) caps(text string) error {
	addr, err := parseAddress(text)
	if err != nil {
		return err
	}
	r, err := capsOf(addr)
	if err != nil {
		return err
	}
	if a.json {
		return json.NewEncoder(a.stdout).Encode(r)
	}
	return r.print(a.stdout)
}

func capsOf(addr anysock.Address) (capsRecord, error) {
	layers, err := anysock.AddressLayers(addr)
	if err != nil {
		return capsRecord{}, err
	}
	for i := range layers {
		layers[i].Hop++
	}
	r := capsRecord{Address: addr.String(), Layers: layers, Caps: layers[len(layers)-1].Caps}
	r.Missing = wholeLifecycle &^ r.Caps
	r.With, r.Adds = withLifecycle(addr, r.Missing)
	return r, nil
}

// withLifecycle puts lc over the last hop, if that is possible and adds
// something of what is missing.
func withLifecycle(addr anysock.Address, missing anysock.Caps) (string, anysock.Caps) {
	if missing == 0 {
		return "", 0
	}
	var hops []string
	for _, h := range addr.Hops() {
		hops = append(hops, h.String())
	}
	hops[len(hops)-1] = "lc+" + hops[len(hops)-1]
	with, err := parseAddress(strings.Join(hops, ","))
	if err != nil {
		return "", 0
	}
	caps, err := anysock.AddressCaps(with)
	if err != nil || caps&missing == 0 {
		return "", 0
	}
	return with.String(), caps & missing
}

// print is for people.
func (r capsRecord) print(out io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n\n", r.Address)
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	names := capNames()
	fmt.Fprintf(t, "hop\tlayer\t%s\n", strings.Join(names, "\t"))
	for _, l := range r.Layers {
		layer := l.Scheme
		switch {
		case l.Through:
			layer += ", through it"
		case l.Negotiated:
			layer += ", negotiated"
		}
		fmt.Fprintf(t, "%d\t%s", l.Hop, layer)
		for i := range names {
			fmt.Fprint(t, "\t", capCell(l, 1<<i))
		}
		fmt.Fprintln(t)
	}
	fmt.Fprint(t, "\tin all")
	for i := range names {
		fmt.Fprint(t, "\t", yesNo(r.Caps.Has(1<<i)))
	}
	fmt.Fprint(t, "\n")
	_ = t.Flush() // a strings.Builder takes everything
	fmt.Fprint(&b, "\n", r.verdict())
	_, err := io.WriteString(out, trimLines(b.String()))
	return err
}

// verdict is the last lines: what is missing, and what to try.
func (r capsRecord) verdict() string {
	if r.Missing == 0 {
		return "nothing is missing for the whole lifecycle\n"
	}
	s := "missing for the whole lifecycle: " + spaced(r.Missing) + "\n"
	if r.With == "" {
		return s
	}
	s += "  try: " + r.With + ", at both ends, adds " + spaced(r.Adds)
	if left := r.Missing &^ r.Adds; left != 0 {
		s += "; " + spaced(left) + " stays missing"
	}
	return s + "\n"
}

// capCell says what a layer does to one capability.
func capCell(l anysock.LayerCaps, c anysock.Caps) string {
	switch {
	case l.Adds.Has(c):
		return "adds"
	case l.Removes.Has(c):
		return "removes"
	}
	return yesNo(l.Caps.Has(c))
}

func yesNo(yes bool) string {
	if yes {
		return "yes"
	}
	return "no"
}

// capNames are the words of all capabilities, in the order of their bits.
func capNames() []string {
	var names []string
	for c := anysock.Caps(1); ; c <<= 1 {
		name := c.String()
		if _, err := anysock.ParseCaps(name); err != nil || name == "none" {
			return names
		}
		names = append(names, name)
	}
}

// spaced is Caps.String for a sentence.
func spaced(c anysock.Caps) string { return strings.ReplaceAll(c.String(), ",", ", ") }

// trimLines takes spaces off the ends of lines.
func trimLines(s string) string {
	lines := strings.Split(s, "\n")
	for i, line := range lines {
		lines[i] = strings.TrimRight(line, " ")
	}
	return strings.Join(lines, "\n")
}
