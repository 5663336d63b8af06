package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/internal/load"
	"github.com/anysock/anysock/internal/printable"
)

// This file holds what bench says: the line while it runs, the summary, the
// comparison of two results.

// A liveLine is a line on the terminal that is written over and over.
type liveLine struct {
	out   io.Writer
	work  load.Work
	plain bool // the terminal cannot clear a line
	width int  // of what is shown
}

// newLiveLine is the line of a run; nil where nobody would see it.
func (a *app) newLiveLine(work load.Work) *liveLine {
	if !a.terminal || a.json || a.traceOn || a.verbose >= 2 {
		return nil
	}
	return &liveLine{out: a.stderr, work: work, plain: a.env("TERM") == "dumb"}
}

// progress is the function that shows how far the run is.
func (l *liveLine) progress() func(load.Progress) {
	if l == nil {
		return nil
	}
	return func(p load.Progress) { l.show(liveText(l.work, p)) }
}

func (l *liveLine) show(text string) {
	blank := max(l.width-len(text), 0) // what was longer is wiped out
	if l.plain {
		fmt.Fprintf(l.out, "\r%s%s", text, strings.Repeat(" ", blank))
	} else {
		fmt.Fprintf(l.out, "\r%s\x1b[K", text)
	}
	l.width = len(text)
}

// clear removes the line.
func (l *liveLine) clear() {
	if l == nil || l.width == 0 {
		return
	}
	l.show("")
	fmt.Fprint(l.out, "\r")
}

// liveText is the line's text, in ASCII.
func liveText(w load.Work, p load.Progress) string {
	rate := grouped(int64(math.Round(p.PerSecond))) + " " + plain(w.Mode) + "s/s"
	if w.Mode.Bulk() {
		rate = perSecond(p.PerSecond)
	}
	of := ""
	switch p.Phase {
	case load.PhaseConnect:
		return fmt.Sprintf("connecting: %s of %s", grouped(int64(p.Connections)), grouped(int64(w.Connections)))
	case load.PhaseFinish:
		return "finishing"
	case load.PhaseWarmup:
		return fmt.Sprintf("warming up: %s of %s", wholeSeconds(p.Elapsed), wholeSeconds(time.Duration(w.Warmup)))
	case load.PhaseMeasure:
		if w.Duration > 0 {
			of = " of " + wholeSeconds(time.Duration(w.Duration))
		}
	}
	text := wholeSeconds(p.Elapsed) + of + ": " + rate
	switch {
	case w.Requests > 0:
		text += fmt.Sprintf(", %s of %s", grouped(p.Requests), grouped(w.Requests))
	case !w.Mode.Bulk():
		text += fmt.Sprintf(", %s answered", grouped(p.Requests))
	}
	if p.Failures > 0 {
		text += ", " + plural(p.Failures, "failure")
	}
	return text
}

func wholeSeconds(d time.Duration) string { return strconv.Itoa(int(math.Round(d.Seconds()))) + "s" }

// plain is the word for a request of a mode.
func plain(m load.Mode) string {
	if m == load.Connect {
		return "connection"
	}
	return "message"
}

// benchSummary is a result for people.
func benchSummary(r *load.Result) string {
	var b strings.Builder
	w := r.Work
	fmt.Fprintf(&b, "%s  %s\n", printable.Text(r.Address), workText(w))
	if r.Partial != "" {
		fmt.Fprintf(&b, "  partial: %s after %.3gs\n", r.Partial, r.Seconds)
	}
	if w.Mode.Bulk() {
		b.WriteString(bulkText(r))
	} else {
		fmt.Fprintf(&b, "  %s %ss/s, %s each way; %s answered in %.4gs, every byte compared\n",
			grouped(int64(math.Round(r.RequestsPerSecond))), plain(w.Mode), perSecond(r.BytesSentPerSecond), grouped(r.Requests), r.Seconds)
	}
	b.WriteString(latencyTable(r))
	if r.Unanswered > 0 {
		fmt.Fprintf(&b, "  %s not answered", plural(r.Unanswered, plain(w.Mode)))
		if r.Unsent > 0 {
			fmt.Fprintf(&b, ", %s of them never sent", grouped(r.Unsent))
		}
		b.WriteString("; the latency has them with the time that they had waited\n")
	}
	for _, f := range r.Failures {
		fmt.Fprintf(&b, "  failed: %s %s", grouped(f.Count), f.Kind)
		if f.Requests > 0 {
			fmt.Fprintf(&b, ", %s lost by it", plural(f.Requests, plain(w.Mode)))
		}
		fmt.Fprintf(&b, "; the first: %s\n", printable.Text(f.First))
	}
	var endings []string
	for _, how := range slices.Sorted(maps.Keys(r.Endings)) {
		endings = append(endings, grouped(r.Endings[how])+" "+how)
	}
	if len(endings) > 0 {
		fmt.Fprintf(&b, "  connections ended: %s\n", strings.Join(endings, ", "))
	}
	b.WriteString(costText(r))
	return b.String()
}

// workText describes a work in a line.
func workText(w load.Work) string {
	on := plural(int64(w.Connections), "connection")
	switch w.Mode {
	case load.Up:
		return fmt.Sprintf("bulk up, %s, %s at once", on, bytesText(w.Size))
	case load.Down:
		return "bulk down, " + on
	case load.Both:
		return fmt.Sprintf("bulk both ways, %s, %s at once", on, bytesText(w.Size))
	}
	loop := "closed loop"
	if w.Rate > 0 {
		loop = fmt.Sprintf("open loop of %s a second", plural(w.Rate, plain(w.Mode)))
	}
	if w.Mode == load.Connect {
		return fmt.Sprintf("a connection for each message of %s, %s, %s at once", bytesText(w.Size), loop, on)
	}
	text := fmt.Sprintf("echo of %s, %s, %s", bytesText(w.Size), loop, on)
	if w.Depth > 0 {
		text += fmt.Sprintf(", depth %d", w.Depth)
	}
	return text
}

func bulkText(r *load.Result) string {
	var parts []string
	if r.Work.Mode != load.Down {
		how := "taken by the kernel"
		if r.Acknowledged {
			how = "acknowledged"
		}
		parts = append(parts, fmt.Sprintf("%s up, %s bytes %s", perSecond(r.BytesSentPerSecond), grouped(r.BytesSent), how))
	}
	if r.Work.Mode != load.Up {
		how := "compared"
		if !r.Verified {
			how = "not compared: they are not the lines of RFC 864"
		}
		parts = append(parts, fmt.Sprintf("%s down, %s bytes %s", perSecond(r.BytesReceivedPerSecond), grouped(r.BytesReceived), how))
	}
	return fmt.Sprintf("  %s; in %.4gs\n", strings.Join(parts, "; "), r.Seconds)
}

// shownPercentiles are the columns of the table.
var shownPercentiles = []float64{50, 90, 99, 99.9, 99.99}

// latencyTable shows the distributions.
func latencyTable(r *load.Result) string {
	var b strings.Builder
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(t, "\t min\t")
	for _, p := range shownPercentiles {
		fmt.Fprintf(t, "p%s\t", strconv.FormatFloat(p, 'f', -1, 64))
	}
	fmt.Fprint(t, "max\t\n")
	rows := 0
	for _, row := range []struct {
		name string
		d    *load.Distribution
	}{{"latency", r.Latency}, {"sent late by", r.Lag}, {"connecting", r.Connect}} {
		if row.d == nil {
			continue
		}
		rows++
		fmt.Fprintf(t, "%s\t%s\t", row.name, shortTime(row.d.Min()))
		for _, p := range shownPercentiles {
			fmt.Fprintf(t, "%s\t", shortTime(row.d.At(p)))
		}
		fmt.Fprintf(t, "%s\t\n", shortTime(row.d.Max()))
	}
	_ = t.Flush() // a strings.Builder takes everything
	if rows == 0 {
		return ""
	}
	return indented(b.String())
}

// indented is a table without spaces at the ends of its lines; the padding
// indents it.
func indented(table string) string {
	lines := strings.Split(strings.TrimRight(table, "\n"), "\n")
	for i, line := range lines {
		lines[i] = strings.TrimRight(line, " ")
	}
	return strings.Join(lines, "\n") + "\n"
}

// busyCores is from which part of the cores on the load itself may be what
// limits it.
const busyCores = 0.95

// costText is what the load itself has used.
func costText(r *load.Result) string {
	if r.CPU == nil || r.Seconds <= 0 {
		return ""
	}
	used := r.CPU.Total() / r.Seconds
	text := fmt.Sprintf("  the load itself used %.2f of %s", used, plural(int64(r.Cores), "core"))
	switch {
	case r.Work.Mode.Bulk() && r.BytesSent+r.BytesReceived > 0:
		text += fmt.Sprintf(", %.2fs for a GB", r.CPU.Total()/float64(r.BytesSent+r.BytesReceived)*1e9)
	case r.Requests > 0:
		text += fmt.Sprintf(", %s for a %s", shortTime(time.Duration(r.CPU.Total()/float64(r.Requests)*1e9)), plain(r.Work.Mode))
	}
	if used > busyCores*float64(r.Cores) {
		text += ": it may be what limits the rate"
	}
	return text + "\n"
}

// shortTime is a time in three digits: 41.2µs, 1.23ms.
func shortTime(d time.Duration) string {
	var (
		unit time.Duration
		name string
	)
	switch {
	case d >= time.Second:
		unit, name = time.Second, "s"
	case d >= time.Millisecond:
		unit, name = time.Millisecond, "ms"
	case d >= time.Microsecond:
		unit, name = time.Microsecond, "µs"
	default:
		return strconv.Itoa(int(d)) + "ns"
	}
	return threeDigits(float64(d)/float64(unit)) + name
}

// threeDigits is a number below 1000 in three digits.
func threeDigits(v float64) string {
	switch {
	case v >= 99.95:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case v >= 9.995:
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return strconv.FormatFloat(v, 'f', 2, 64)
}

// perSecond is a rate of bytes, decimal as rates are.
func perSecond(v float64) string {
	for _, unit := range []struct {
		size float64
		name string
	}{{1e9, "GB/s"}, {1e6, "MB/s"}, {1e3, "kB/s"}} {
		if v >= unit.size {
			return threeDigits(v/unit.size) + " " + unit.name
		}
	}
	return strconv.FormatFloat(math.Round(v), 'f', -1, 64) + " B/s"
}

// bytesText is a size as it was probably meant.
func bytesText(n int) string {
	switch {
	case n >= 1<<20 && n%(1<<20) == 0:
		return strconv.Itoa(n>>20) + " MiB"
	case n >= 1<<10 && n%(1<<10) == 0:
		return strconv.Itoa(n>>10) + " KiB"
	}
	return strconv.Itoa(n) + " B"
}

// grouped is a number with a comma after each three digits.
func grouped(n int64) string {
	digits := strconv.FormatInt(n, 10)
	sign := ""
	if n < 0 {
		sign, digits = "-", digits[1:]
	}
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return sign + digits
}

// plural is count for any number.
func plural[T int64 | float64](n T, what string) string {
	if n == 1 {
		return "1 " + what
	}
	if T(int64(n)) == n {
		return grouped(int64(n)) + " " + what + "s"
	}
	return strconv.FormatFloat(float64(n), 'f', -1, 64) + " " + what + "s"
}

// maxResultFile bounds what --compare reads of a file.
const maxResultFile = 64 << 20

// readResult reads the result that bench --json has written to a file.
func readResult(path string) (*load.Result, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, &failure{err: fmt.Errorf("read %s: %w", printable.Text(path), cause(err)), status: exitSetup}
	}
	defer f.Close()
	var found *load.Result
	dec := json.NewDecoder(io.LimitReader(f, maxResultFile))
	for {
		var r struct {
			Event string `json:"event"`
			load.Result
		}
		err := dec.Decode(&r)
		switch {
		case errors.Is(err, io.EOF) && found != nil:
			return found, nil
		case errors.Is(err, io.EOF):
			return nil, notAResult(path, "it holds none")
		case err != nil:
			return nil, notAResult(path, err.Error())
		case r.Event != "bench":
		case found != nil:
			return nil, notAResult(path, "it holds more than one")
		default:
			found = &r.Result
		}
	}
}

func notAResult(path, why string) error {
	return &usageError{msg: fmt.Sprintf("%s is not a result of bench: %s", printable.Text(path), why), hint: "anysock bench --json ADDR > " + printable.Text(path)}
}

// compareBench compares two results.
func (a *app) compareBench(before, after string) error {
	o, err := readResult(before)
	if err != nil {
		return err
	}
	n, err := readResult(after)
	if err != nil {
		return err
	}
	c, err := load.Compare(o, n)
	if err != nil {
		return &usageError{msg: "bench: " + err.Error(), hint: "run the newer one with the options of the older"}
	}
	if a.json {
		a.record(levelNotice, "comparison", "", anysock.NotEnded, struct {
			Old string `json:"old"`
			New string `json:"new"`
			*load.Comparison
		}{before, after, c})
		return nil
	}
	if _, err := a.stdout.Write([]byte(comparisonText(o, c))); err != nil {
		return &outputError{err}
	}
	return nil
}

// figureNames are the figures of a comparison, for people.
var figureNames = strings.NewReplacer("latency_ns.", "", "connect_ns.", "connecting ", "lag_ns.", "sent late by ",
	"bytes_sent_per_second", "up", "bytes_received_per_second", "down", "requests_per_second", "rate",
	"cpu_per_", "load's CPU for a ")

// comparisonText is a comparison for people.
func comparisonText(o *load.Result, c *load.Comparison) string {
	var b strings.Builder
	fmt.Fprintln(&b, workText(o.Work))
	var table strings.Builder
	t := tabwriter.NewWriter(&table, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(t, "\told\tnew\tdifference\t\n")
	for _, d := range c.Differences {
		change := "" // counts speak for themselves
		if d.Percent != nil && d.Unit != "" {
			change = strconv.FormatFloat(*d.Percent, 'f', 1, 64) + " %"
			if *d.Percent > 0 {
				change = "+" + change
			}
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t\n", figureNames.Replace(d.Name), figure(d.Old, d.Unit), figure(d.New, d.Unit), change)
	}
	_ = t.Flush() // a strings.Builder takes everything
	b.WriteString(indented(table.String()))
	for _, note := range c.Notes {
		fmt.Fprintf(&b, "  not the same: %s\n", printable.Text(note))
	}
	return b.String()
}

// figure is a figure with its unit.
func figure(v float64, unit string) string {
	switch unit {
	case "ns":
		return shortTime(time.Duration(v))
	case "B/s":
		return perSecond(v)
	case "1/s":
		return grouped(int64(math.Round(v))) + "/s"
	}
	return grouped(int64(v))
}
