package bench

// This file measures two sides in alternating pairs, and says what the ratio
// of their costs is and how well that is known.

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anysock/anysock/bench/internal/stats"
)

var (
	pairCount = flag.Int("pairs", 20, "how many alternating pairs a comparison takes (at least 6)")
	markdown  = flag.String("markdown", "", "append the tables to this file")
)

// slicesPerSlot is into how many parts each slot is cut. The two slots of a pair run
// slice by slice in turn, so that what disturbs for longer than a slice
// disturbs both.
const slicesPerSlot = 8

// A sample is what some work cost.
type sample struct {
	cpu    time.Duration // of the worker process
	work   float64       // in the comparison's unit
	allocs uint64        // objects
}

// cost is seconds of processor time for one unit of work.
func (s sample) cost() float64 { return s.cpu.Seconds() / s.work }

func (s sample) plus(o sample) sample {
	return sample{s.cpu + o.cpu, s.work + o.work, s.allocs + o.allocs}
}

// A side is one of two things to compare.
type side struct {
	name  string
	start func(tb testing.TB) slot // in a new process, warmed up
}

// A slot is a side at work, once in every pair.
type slot interface {
	slice(tb testing.TB) sample
	stop()
}

// A comparison is of subject with base; what it found is added pair by pair.
type comparison struct {
	base, subject side
	bases         []sample
	subjects      []sample
}

// runPair runs one slot of each; turned puts the subject first.
func (c *comparison) runPair(tb testing.TB, turned bool) {
	var slots [2]slot
	var sums [2]sample
	for i, s := range []side{c.base, c.subject} {
		slots[i] = s.start(tb)
		defer slots[i].stop()
	}
	for i := range 2 * slicesPerSlot {
		which := (i + 1) / 2 % 2 // 0 1 1 0 and so on: a drift hits both alike
		if turned {
			which = 1 - which
		}
		sums[which] = sums[which].plus(slots[which].slice(tb))
	}
	c.bases, c.subjects = append(c.bases, sums[0]), append(c.subjects, sums[1])
}

// comparePairs runs all comparisons side by side, one pair of each in turn.
func comparePairs(tb testing.TB, comparisons ...*comparison) {
	if *pairCount < stats.MinValues {
		tb.Fatalf("-pairs=%d: a 95 %% interval takes at least %d", *pairCount, stats.MinValues)
	}
	for i := range *pairCount {
		for _, c := range comparisons {
			c.runPair(tb, i%2 == 1)
			if testing.Verbose() {
				fmt.Printf("pair %d: %s %.4g s, %s %.4g s per unit of work\n", i+1,
					c.base.name, c.bases[i].cost(), c.subject.name, c.subjects[i].cost())
			}
		}
	}
}

// ratios are the subject's costs in units of the base's.
func (c *comparison) ratios() []float64 {
	r := make([]float64, len(c.bases))
	for i := range r {
		r[i] = c.subjects[i].cost() / c.bases[i].cost()
	}
	return r
}

// mapped is f of every sample.
func mapped(samples []sample, f func(sample) float64) []float64 {
	v := make([]float64, len(samples))
	for i, s := range samples {
		v[i] = f(s)
	}
	return v
}

// A report is the result of some comparisons, for people.
type report struct {
	title   string
	unit    string  // of a cost, as "µs per echo"
	scale   float64 // a cost in seconds per unit of work, in that unit
	allocs  bool    // whether allocations per unit of work say anything
	target  float64 // of the first comparison's median
	methods string  // what else to know about the set-up
}

// table has a row for each comparison.
func (r report) table(comparisons []*comparison) string {
	var b strings.Builder
	fmt.Fprintf(&b, "### %s\n\n", r.title)
	head, rule := "| compared | ratio, median | 95 % interval | all ratios | CPU, "+r.unit+" |", "|---|---|---|---|---|"
	if r.allocs {
		head, rule = head+" allocations |", rule+"---|"
	}
	fmt.Fprintf(&b, "%s\n%s\n", head, rule)
	for _, c := range comparisons {
		ratios := c.ratios()
		low, high := stats.Interval(ratios)
		fmt.Fprintf(&b, "| %s / %s | %.3f | %.3f to %.3f | %.3f to %.3f | %.3f / %.3f |",
			c.subject.name, c.base.name, stats.Median(ratios), low, high, slices.Min(ratios), slices.Max(ratios),
			r.scale*stats.Median(mapped(c.subjects, sample.cost)), r.scale*stats.Median(mapped(c.bases, sample.cost)))
		if r.allocs {
			fmt.Fprintf(&b, " %.2f / %.2f |", stats.Median(mapped(c.subjects, allocsPerWork)), stats.Median(mapped(c.bases, allocsPerWork)))
		}
		b.WriteByte('\n')
	}
	first := comparisons[0]
	verdict := "reached"
	if stats.Median(first.ratios()) > r.target {
		verdict = "missed"
	}
	fmt.Fprintf(&b, "\n%d alternating pairs in one run; the median is to be at most %.2f: %s. The second row shows the noise. %s\n",
		len(first.bases), r.target, verdict, r.methods)
	fmt.Fprintf(&b, "%s, %s/%s, %d processors%s.\n\n", runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), kernel())
	return b.String()
}

func allocsPerWork(s sample) float64 { return float64(s.allocs) / s.work }

// kernel is its version, for the report; empty where uname(1) is missing.
func kernel() string {
	out, err := exec.Command("uname", "-r").Output()
	if err != nil {
		return ""
	}
	return ", kernel " + strings.TrimSpace(string(out))
}

// publish prints the table, appends it to -markdown, and puts the first
// comparison on the benchmark's own line.
func (r report) publish(b *testing.B, comparisons ...*comparison) {
	text := r.table(comparisons)
	fmt.Print("\n" + text)
	if *markdown != "" {
		if err := appendFile(*markdown, text); err != nil {
			b.Error(err)
		}
	}
	first := comparisons[0].ratios()
	low, high := stats.Interval(first)
	b.ReportMetric(stats.Median(first), "ratio")
	b.ReportMetric(low, "ratio-low")
	b.ReportMetric(high, "ratio-high")
	b.ReportMetric(0, "ns/op") // the time of a whole run says nothing
}

func appendFile(name, text string) error {
	f, err := os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

// A fakeSlot notes that it ran.
type fakeSlot struct {
	name  string
	cpu   time.Duration
	order *[]string
}

func (s fakeSlot) slice(testing.TB) sample {
	*s.order = append(*s.order, s.name)
	return sample{cpu: s.cpu, work: 2}
}

func (s fakeSlot) stop() { *s.order = append(*s.order, "-") }

func TestPairsAlternateAndReport(t *testing.T) {
	var order []string
	fake := func(name string, cpu time.Duration) side {
		return side{name, func(testing.TB) slot { return fakeSlot{name, cpu, &order} }}
	}
	c := &comparison{base: fake("a", time.Second), subject: fake("b", 3*time.Second)}
	comparePairs(t, c)
	const pair, turned = "abba", "baab"
	want := strings.Repeat(pair, slicesPerSlot/2) + "--" + strings.Repeat(turned, slicesPerSlot/2) + "--"
	if got := strings.Join(order[:len(want)], ""); got != want {
		t.Errorf("the first two pairs ran in the order %s, want %s", got, want)
	}
	if len(c.bases) != *pairCount || len(c.subjects) != *pairCount {
		t.Errorf("%d and %d slots, want %d each", len(c.bases), len(c.subjects), *pairCount)
	}
	text := report{title: "T", unit: "s per piece", scale: 1, allocs: true, target: 2.9}.table([]*comparison{c})
	for _, want := range []string{"| b / a | 3.000 | 3.000 to 3.000 |", "| 1.500 / 0.500 | 0.00 / 0.00 |", "at most 2.90: missed"} {
		if !strings.Contains(text, want) {
			t.Errorf("the report lacks %q:\n%s", want, text)
		}
	}
}
