package load

import (
	"encoding/json"
	"fmt"
	"runtime"
	"strconv"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// This file holds what a run has measured, as it is written and read again.

// ResultFormat is the version of Result's JSON; another one is not compared.
const ResultFormat = 1

// A Result is what a run has measured.
type Result struct {
	Format  int    `json:"format"` // ResultFormat
	Address string `json:"address"`
	Work    Work   `json:"work"`
	// Engine is what drove the connections: goroutines, or loops (epoll).
	Engine string `json:"engine"`

	Started time.Time `json:"started"` // when counting began
	// Partial says why the run ended before its bound; empty if it did not.
	Partial string `json:"partial,omitempty"`
	// Seconds is the time that was counted: the duration, or until the last
	// answer or byte where Requests or Bytes end the work.
	Seconds float64 `json:"seconds"`

	// Requests began in that time and were answered, some perhaps after it.
	// RequestsPerSecond is how many answers came in that time, of requests that
	// may have begun before.
	Requests          int64   `json:"requests"`
	RequestsPerSecond float64 `json:"requests_per_second"`
	// BytesSent and BytesReceived are payload, without what layers add.
	BytesSent              int64   `json:"bytes_sent"`
	BytesReceived          int64   `json:"bytes_received"`
	BytesSentPerSecond     float64 `json:"bytes_sent_per_second"`
	BytesReceivedPerSecond float64 `json:"bytes_received_per_second"`
	// Acknowledged says that of the bytes sent in bulk those are counted that
	// the next hop has acknowledged; else those that Write has taken.
	Acknowledged bool `json:"acknowledged,omitempty"`
	// Verified says that what came back was compared with what was due. Down
	// from a server that does not send the lines of RFC 864, it is not.
	Verified bool `json:"verified"`

	// Unanswered requests had no answer when their connection timed out or the
	// run ended. They are in Latency with the time that they had waited; they
	// are not in Requests. Unsent ones, of an open loop, are among them: due,
	// and not even sent.
	Unanswered int64 `json:"unanswered"`
	Unsent     int64 `json:"unsent"`
	// Failures, by kind.
	Failures []Failure `json:"failures"`
	// Endings counts connections by how they ended (anysock.How).
	Endings map[string]int64 `json:"endings"`

	// Latency is from the start of a request to its whole answer: from when it
	// was due in an open loop, else from when it was sent; in mode connect
	// from the start of connecting. Absent in bulk.
	Latency *Distribution `json:"latency_ns,omitempty"`
	// Connect is how long connections took to be made, hops and handshakes
	// included.
	Connect *Distribution `json:"connect_ns,omitempty"`
	// Lag is how much later than due requests of an open loop were sent. It is
	// part of Latency.
	Lag *Distribution `json:"lag_ns,omitempty"`

	// CPU is what this process itself has used, absent where that is not
	// known.
	CPU *CPU   `json:"cpu,omitempty"`
	Go  string `json:"go"`
	OS  string `json:"os"`
	// Arch is the processor's architecture.
	Arch string `json:"arch"`
	// Cores is how many this process may use at once.
	Cores int `json:"cores"`
}

// A Failure is a kind of failure and how often there was one.
type Failure struct {
	// Kind is an anysock.Kind (reset, truncated, lost, timeout, refused, ...),
	// KindEnded or KindWrongBytes.
	Kind     string `json:"kind"`
	Count    int64  `json:"count"`    // connections that failed, or could not be made
	Requests int64  `json:"requests"` // that were left without an answer by that
	First    string `json:"first"`    // the first one's error
	Err      error  `json:"-"`
}

// A CPU is processor time, in seconds, while work was counted.
type CPU struct {
	User   float64 `json:"user_seconds"`
	System float64 `json:"system_seconds"`
}

// Total is both.
func (c *CPU) Total() float64 { return c.User + c.System }

// Percentiles are those that a Distribution tells.
var Percentiles = []float64{50, 75, 90, 95, 99, 99.9, 99.99, 99.999}

// A Distribution is a histogram. Its values are exact to three digits.
type Distribution struct {
	h *hdrhistogram.Histogram
}

func newDistribution(h *hdrhistogram.Histogram) *Distribution {
	if h == nil || h.TotalCount() == 0 {
		return nil
	}
	return &Distribution{h}
}

// Count is how many values there are.
func (d *Distribution) Count() int64 { return d.h.TotalCount() }

// Min is the least value.
func (d *Distribution) Min() time.Duration { return time.Duration(d.h.Min()) }

// Mean is the arithmetic mean.
func (d *Distribution) Mean() time.Duration { return time.Duration(d.h.Mean()) }

// Max is the greatest value.
func (d *Distribution) Max() time.Duration { return time.Duration(d.h.Max()) }

// At is the value at a percentile, 0 to 100.
func (d *Distribution) At(percentile float64) time.Duration {
	return time.Duration(d.h.ValueAtPercentile(percentile))
}

// distributionRecord is a Distribution in JSON. Only the histogram is read
// again, because everything else follows from it.
type distributionRecord struct {
	Count       int64            `json:"count"`
	Min         int64            `json:"min"`
	Mean        float64          `json:"mean"`
	Stddev      float64          `json:"stddev"`
	Max         int64            `json:"max"`
	Percentiles map[string]int64 `json:"percentiles"`
	// Histogram is HdrHistogram's V2 compressed form in base64.
	Histogram string `json:"histogram"`
}

// MarshalJSON writes the percentiles, and the whole histogram.
func (d *Distribution) MarshalJSON() ([]byte, error) {
	encoded, err := d.h.EncodeV2()
	if err != nil {
		return nil, err
	}
	r := distributionRecord{
		Count: d.h.TotalCount(), Min: d.h.Min(), Mean: d.h.Mean(), Stddev: d.h.StdDev(), Max: d.h.Max(),
		Percentiles: map[string]int64{}, Histogram: string(encoded),
	}
	for _, p := range Percentiles {
		r.Percentiles[strconv.FormatFloat(p, 'f', -1, 64)] = d.h.ValueAtPercentile(p)
	}
	return json.Marshal(r)
}

// UnmarshalJSON reads the histogram.
func (d *Distribution) UnmarshalJSON(b []byte) error {
	var r distributionRecord
	if err := json.Unmarshal(b, &r); err != nil {
		return err
	}
	h, err := hdrhistogram.Decode([]byte(r.Histogram))
	if err != nil {
		return fmt.Errorf("histogram: %w", err)
	}
	d.h = h
	return nil
}

// host fills in what the run ran on.
func (r *Result) host() {
	r.Go, r.OS, r.Arch, r.Cores = runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.GOMAXPROCS(0)
}
