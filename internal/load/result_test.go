package load

import (
	"encoding/json"
	"errors"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"
)

// What is written is read again, histograms included, and the fields are those
// that docs/BENCH.md lists.
func TestResultInJSON(t *testing.T) {
	w := Work{Mode: Echo, Connections: 2, Size: 100, Rate: 5000, Requests: 100, Timeout: testTimeout}
	r := mustRun(t, dialing(w, "echo:"))
	r.Failures = []Failure{{Kind: "reset", Count: 2, Requests: 3, First: "x", Err: errors.New("x")}}
	b, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var back Result
	if err := json.Unmarshal(b, &back); err != nil {
		t.Fatal(err)
	}
	for _, p := range Percentiles {
		if got, want := back.Latency.At(p), r.Latency.At(p); got != want || want <= 0 {
			t.Errorf("p%g became %s, was %s", p, got, want)
		}
	}
	if back.Lag.Count() != 100 || back.Connect.Count() != 2 || back.Latency.Mean() != r.Latency.Mean() || back.Latency.Min() != r.Latency.Min() {
		t.Errorf("%+v", back)
	}
	if again, err := json.Marshal(&back); err != nil || string(again) != string(b) {
		t.Errorf("%s\nbecame %s, %v", b, again, err)
	}

	var fields map[string]any
	if err := json.Unmarshal(b, &fields); err != nil {
		t.Fatal(err)
	}
	latency, _ := fields["latency_ns"].(map[string]any)
	percentiles, _ := latency["percentiles"].(map[string]any)
	if len(percentiles) != len(Percentiles) || percentiles["99.9"] == nil || !strings.HasPrefix(latency["histogram"].(string), "HISTFAAA") {
		t.Errorf("%v", latency)
	}
	for _, name := range []string{
		"format", "address", "work", "engine", "started", "seconds", "requests", "requests_per_second", "bytes_sent",
		"bytes_received", "bytes_sent_per_second", "bytes_received_per_second", "verified", "unanswered", "unsent",
		"failures", "endings", "connect_ns", "lag_ns", "go", "os", "arch", "cores",
	} {
		if _, ok := fields[name]; !ok {
			t.Errorf("there is no field %s", name)
		}
	}
	for _, bad := range []string{`{"latency_ns":{"histogram":"x"}}`, `{"latency_ns":{}}`, `{"latency_ns":{"histogram":"HISTFAAA"}}`, `{"latency_ns":7}`} {
		if err := json.Unmarshal([]byte(bad), new(Result)); err == nil {
			t.Errorf("%s is read", bad)
		}
	}
}

// The document lists every field.
func TestFieldsAreDocumented(t *testing.T) {
	text, err := os.ReadFile("../../docs/BENCH.md")
	if err != nil {
		t.Fatal(err)
	}
	var check func(reflect.Type)
	check = func(of reflect.Type) {
		for f := range of.Fields() {
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			if name != "-" && !strings.Contains(string(text), "`"+name+"`") && !strings.HasPrefix(name, "bytes_") {
				t.Errorf("%s of %s is not in docs/BENCH.md", name, of)
			}
			inner := f.Type
			for inner.Kind() == reflect.Pointer || inner.Kind() == reflect.Slice {
				inner = inner.Elem()
			}
			if inner.Kind() == reflect.Struct && inner.PkgPath() == of.PkgPath() && inner != reflect.TypeFor[Distribution]() {
				check(inner)
			}
		}
	}
	for _, of := range []reflect.Type{reflect.TypeFor[Result](), reflect.TypeFor[distributionRecord](), reflect.TypeFor[Comparison](), reflect.TypeFor[Difference]()} {
		check(of)
	}
}

// fake is a result with one latency.
func fake(w Work, rate float64, latency time.Duration) *Result {
	h := newHistogram()
	record(h, int64(latency), 100)
	return &Result{Format: ResultFormat, Work: w, Seconds: 1, Requests: 100, RequestsPerSecond: rate, Latency: newDistribution(h), Verified: true}
}

func TestCompare(t *testing.T) {
	w := Work{Mode: Echo, Connections: 2, Depth: 1, Size: 100, Duration: Span(time.Second), Timeout: 1}
	before, after := fake(w, 1000, time.Millisecond), fake(w, 1250, 500*time.Microsecond)
	before.CPU, after.CPU = &CPU{User: 1}, &CPU{User: 0.5, System: 1}
	after.Failures = []Failure{{Kind: "reset", Count: 3}}
	after.Address, after.Work.Duration = "unix:/x", 2*after.Work.Duration
	after.Partial = "interrupted"
	c, err := Compare(before, after)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]float64{ // in percent
		"requests_per_second": 25, "latency_ns.p50": -50, "latency_ns.p90": -50, "latency_ns.p99": -50, "latency_ns.p99.9": -50,
		"latency_ns.max": -50, "cpu_per_request": 50,
	}
	for _, d := range c.Differences {
		p, ok := want[d.Name]
		switch {
		case d.Name == "failures":
			if d.Old != 0 || d.New != 3 || d.Percent != nil {
				t.Errorf("%+v", d)
			}
		case d.Name == "unanswered":
			if d.Old != 0 || d.New != 0 || d.Percent != nil {
				t.Errorf("%+v", d)
			}
		case !ok || d.Percent == nil || *d.Percent < p-0.2 || *d.Percent > p+0.2:
			t.Errorf("%+v, want %g %%", d, p)
		}
		delete(want, d.Name)
	}
	if len(want) > 0 {
		t.Errorf("missing: %v", want)
	}
	if len(c.Notes) != 2 || c.Notes[0] != "address: , then unix:/x" || c.Notes[1] != "the second is partial: interrupted" {
		t.Errorf("%q", c.Notes)
	}

	for what, change := range map[string]func(*Result){
		"mode":        func(r *Result) { r.Work.Mode = Connect },
		"connections": func(r *Result) { r.Work.Connections++ },
		"depth":       func(r *Result) { r.Work.Depth++ },
		"size":        func(r *Result) { r.Work.Size++ },
		"rate":        func(r *Result) { r.Work.Rate++ },
		"format":      func(r *Result) { r.Format++ },
	} {
		other := fake(w, 1, 1)
		change(other)
		var e *UnlikeError
		if _, err := Compare(before, other); !errors.As(err, &e) || e.What != what {
			t.Errorf("another %s: %v", what, err)
		}
	}
}

// Bulk has bytes to compare, each way that the mode has.
func TestCompareBulk(t *testing.T) {
	for mode, want := range map[Mode]string{
		Up: "bytes_sent_per_second", Down: "bytes_received_per_second", Both: "bytes_sent_per_second bytes_received_per_second",
	} {
		r := &Result{Work: Work{Mode: mode}, BytesSentPerSecond: 5, BytesReceivedPerSecond: 5}
		c, err := Compare(r, r)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, d := range c.Differences {
			if d.Unit == "B/s" {
				names = append(names, d.Name)
			}
		}
		if got := strings.Join(names, " "); got != want {
			t.Errorf("%s compares %s, want %s", mode, got, want)
		}
	}
}
