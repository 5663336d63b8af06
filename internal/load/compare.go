package load

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"
)

// This file holds the comparison of two results.

// A Comparison says how a result differs from an older one of the same work.
type Comparison struct {
	Differences []Difference `json:"differences"`
	// Notes say what else is not the same and may be why: the address, the
	// engine, the machine.
	Notes []string `json:"notes"`
}

// A Difference is one figure of two results.
type Difference struct {
	Name string  `json:"name"` // as in Result's JSON, "latency_ns.p99"
	Unit string  `json:"unit"` // "1/s", "B/s", "ns", "s" or "" for a count
	Old  float64 `json:"old"`
	New  float64 `json:"new"`
	// Percent is (New-Old)/Old in percent, absent if Old is 0.
	Percent *float64 `json:"percent,omitempty"`
}

// An UnlikeError says that two results are not of the same work.
type UnlikeError struct {
	What     string // the option that differs
	Old, New string
}

func (e *UnlikeError) Error() string {
	return fmt.Sprintf("these are different works: %s is %s in one and %s in the other", e.What, e.Old, e.New)
}

// Compare compares two results of the same work: mode, connections, depth,
// size and rate must be the same. The address and the time it took need not.
// The error is an *UnlikeError.
func Compare(before, after *Result) (*Comparison, error) {
	o, n := before.Work, after.Work
	number := func(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }
	for _, d := range []UnlikeError{
		{"format", strconv.Itoa(before.Format), strconv.Itoa(after.Format)},
		{"mode", string(o.Mode), string(n.Mode)},
		{"connections", strconv.Itoa(o.Connections), strconv.Itoa(n.Connections)},
		{"depth", strconv.Itoa(o.Depth), strconv.Itoa(n.Depth)},
		{"size", strconv.Itoa(o.Size), strconv.Itoa(n.Size)},
		{"rate", number(o.Rate), number(n.Rate)},
	} {
		if d.Old != d.New {
			return nil, &d
		}
	}
	c := &Comparison{Notes: notes(before, after)}
	add := func(name, unit string, a, b float64) {
		d := Difference{Name: name, Unit: unit, Old: a, New: b}
		if a != 0 {
			p := (b - a) / a * 100
			d.Percent = &p
		}
		c.Differences = append(c.Differences, d)
	}
	if o.Mode.Bulk() {
		if o.Mode != Down {
			add("bytes_sent_per_second", "B/s", before.BytesSentPerSecond, after.BytesSentPerSecond)
		}
		if o.Mode != Up {
			add("bytes_received_per_second", "B/s", before.BytesReceivedPerSecond, after.BytesReceivedPerSecond)
		}
	} else {
		add("requests_per_second", "1/s", before.RequestsPerSecond, after.RequestsPerSecond)
	}
	for _, h := range []struct {
		name          string
		before, after *Distribution
		percentiles   []float64
	}{
		// Fewer than a Distribution has: what a single run can tell.
		{"latency_ns", before.Latency, after.Latency, []float64{50, 90, 99, 99.9}},
		{"lag_ns", before.Lag, after.Lag, []float64{50, 99}},
		{"connect_ns", before.Connect, after.Connect, []float64{50}},
	} {
		if h.before == nil || h.after == nil {
			continue
		}
		for _, p := range h.percentiles {
			add(h.name+".p"+number(p), "ns", float64(h.before.At(p)), float64(h.after.At(p)))
		}
		add(h.name+".max", "ns", float64(h.before.Max()), float64(h.after.Max()))
	}
	if a, b := before.cost(), after.cost(); a > 0 && b > 0 {
		add(costName(o.Mode), "ns", a, b)
	}
	add("unanswered", "", float64(before.Unanswered), float64(after.Unanswered))
	add("failures", "", float64(before.Failed()), float64(after.Failed()))
	return c, nil
}

// cost is the processor time that the load itself took, in nanoseconds for
// each request, or each kilobyte in bulk; 0 if that is not known.
func (r *Result) cost() float64 {
	units := float64(r.Requests)
	if r.Work.Mode.Bulk() {
		units = float64(r.BytesSent+r.BytesReceived) / 1000
	}
	if r.CPU == nil || units == 0 {
		return 0
	}
	return r.CPU.Total() * float64(time.Second) / units
}

func costName(m Mode) string {
	if m.Bulk() {
		return "cpu_per_kilobyte"
	}
	return "cpu_per_request"
}

// Failed is how many failures there were, of any kind.
func (r *Result) Failed() int64 {
	var n int64
	for _, f := range r.Failures {
		n += f.Count
	}
	return n
}

// notes lists what differs beside the figures.
func notes(before, after *Result) []string {
	list := []string{} // an empty one in JSON, not null
	for _, d := range []struct{ what, before, after string }{
		{"address", before.Address, after.Address},
		{"engine", before.Engine, after.Engine},
		{"system", before.OS + "/" + before.Arch, after.OS + "/" + after.Arch},
		{"cores", strconv.Itoa(before.Cores), strconv.Itoa(after.Cores)},
		{"Go", before.Go, after.Go},
		{"warm-up", before.Work.Warmup.String(), after.Work.Warmup.String()},
	} {
		if d.before != d.after {
			list = append(list, fmt.Sprintf("%s: %s, then %s", d.what, d.before, d.after))
		}
	}
	if a, b := before.Seconds, after.Seconds; math.Max(a, b) > 2*math.Min(a, b) {
		list = append(list, fmt.Sprintf("time: %.3gs, then %.3gs", a, b))
	}
	for _, r := range []struct {
		which string
		res   *Result
	}{{"the first", before}, {"the second", after}} {
		if r.res.Partial != "" {
			list = append(list, fmt.Sprintf("%s is partial: %s", r.which, r.res.Partial))
		}
		if !r.res.Verified {
			list = append(list, r.which+" is not verified")
		}
	}
	return slices.Clip(list)
}
