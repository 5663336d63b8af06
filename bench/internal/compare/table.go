//go:build linux

package compare

// This file writes results as Markdown tables.

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/anysock/anysock/bench/internal/stats"
)

// figure writes a number with three significant digits and no exponent.
func figure(v float64) string {
	digits := 2
	for limit := 10.0; v >= limit && digits > 0; limit *= 10 {
		digits--
	}
	text := strconv.FormatFloat(v, 'f', digits, 64)
	if whole, _, fraction := strings.Cut(text, "."); !fraction && len(whole) > 4 {
		for i := len(whole) - 3; i > 0; i -= 3 {
			whole = whole[:i] + "," + whole[i:]
		}
		return whole
	}
	return text
}

// find is the row of that name; nil if it is not there or measured nothing.
func find(rows []Row, name string) *Row {
	i := slices.IndexFunc(rows, func(r Row) bool { return r.Candidate == name })
	if i < 0 || rows[i].Err != nil || len(rows[i].Samples) == 0 {
		return nil
	}
	return &rows[i]
}

// A Ratio is how two candidates compare, round by round.
type Ratio struct{ Median, Low, High float64 }

func (r Ratio) String() string { return fmt.Sprintf("%.2f (%.2f to %.2f)", r.Median, r.Low, r.High) }

// Compare is the subject's metric in units of the base's.
func Compare(subject, base *Row, m Metric) Ratio {
	ratios := stats.Ratios(subject.values(m), base.values(m))
	low, high := stats.Interval(ratios)
	return Ratio{stats.Median(ratios), low, high}
}

// Table is a work's results. The columns "against" are ratios to the base.
func Table(w Work, rows []Row, base string) string {
	var b strings.Builder
	perSecond, scale := w.Unit+"s/s", 1e6
	cpu := "CPU, µs per " + w.Unit
	if w.Mode == bulk {
		perSecond, cpu, scale = "GB/s", "CPU, s per GB", 1
	}
	head := []string{"", cpu, "against " + base, perSecond, "against " + base}
	if w.Mode != bulk {
		head = append(head, "p50, µs", "against "+base, "p99, µs", "against "+base)
	}
	head = append(head, "load busy")
	title := w.Title
	if w.Threads > 1 {
		title += fmt.Sprintf("; %d threads on both cores", w.Threads)
	}
	fmt.Fprintf(&b, "### %s\n\n| %s |\n|%s\n", title, strings.Join(head, " | "), strings.Repeat("---|", len(head)))
	reference := find(rows, base)
	var missing []string
	for i := range rows {
		r := &rows[i]
		if r.Err != nil || len(r.Samples) == 0 {
			missing = append(missing, leftOut(r.Candidate, r.Err))
			continue
		}
		against := func(m Metric) string {
			if reference == nil || r.Samples[0].ServerCPU == 0 {
				return "–"
			}
			if r == reference {
				return "1"
			}
			return Compare(r, reference, m).String()
		}
		median := func(m Metric, scale float64) string { return figure(scale * stats.Median(r.values(m))) }
		cells := []string{r.Candidate, median(CPU, scale), against(CPU), median(Rate, 1), against(Rate)}
		if r.Samples[0].ServerCPU == 0 { // the load alone
			cells[1] = "–"
		}
		if w.Mode != bulk {
			cells = append(cells, median(P50, 1e6), against(P50), median(P99, 1e6), against(P99))
		}
		cells = append(cells, fmt.Sprintf("%.0f %%", 100*stats.Median(r.values(LoadBusy))))
		fmt.Fprintf(&b, "| %s |\n", strings.Join(cells, " | "))
	}
	b.WriteByte('\n')
	writeLeftOut(&b, missing)
	return b.String()
}

// IdleTable is what idle connections cost.
func IdleTable(title string, rows []IdleRow) string {
	var b strings.Builder
	fmt.Fprintf(&b, "### %s\n\n| | process without connections, MB | connections | bytes per connection |"+
		" from point to point | descriptors per connection |\n|---|---|---|---|---|---|\n", title)
	var missing []string
	for _, r := range rows {
		if r.Err != nil || !r.complete() {
			missing = append(missing, leftOut(r.Candidate, r.Err))
			continue
		}
		resident, descriptors := r.Overall()
		var steps []string
		for j := 2; j < len(r.Points); j++ {
			step, _ := r.PerConnection(j-1, j)
			steps = append(steps, figure(step))
		}
		last := r.Points[len(r.Points)-1].Connections
		fmt.Fprintf(&b, "| %s | %s | %d to %d | %s | %s | %s |\n", r.Candidate, figure(float64(r.Points[0].Resident)/1e6),
			r.Points[1].Connections, last, figure(resident), strings.Join(steps, ", "), figure(descriptors))
	}
	b.WriteByte('\n')
	writeLeftOut(&b, missing)
	return b.String()
}

func leftOut(candidate string, err error) string {
	switch {
	case err == nil:
		err = errors.New("measured nothing")
	case errors.Is(err, errBuild): // the compiler's words are for the log
		err = errBuild
	}
	return fmt.Sprintf("%s: %v", candidate, err)
}

func writeLeftOut(b *strings.Builder, missing []string) {
	if len(missing) > 0 {
		fmt.Fprintf(b, "Left out: %s.\n\n", strings.Join(missing, "; "))
	}
}
