package load

import (
	"encoding/json"
	"errors"
	"math"
	"testing"
	"time"
)

func TestWorkCheck(t *testing.T) {
	good := Work{Mode: Echo, Connections: 1, Depth: 1, Size: 1, Duration: Span(time.Second), Timeout: Span(time.Second)}
	for name, test := range map[string]struct {
		change func(*Work)
		field  string
	}{
		"as it is":                 {func(*Work) {}, ""},
		"requests alone":           {func(w *Work) { w.Duration, w.Requests = 0, 1 }, ""},
		"open loop without depth":  {func(w *Work) { w.Depth, w.Rate = 0, 1 }, ""},
		"bulk":                     {func(w *Work) { w.Mode, w.Bytes = Up, 1 }, ""},
		"the most":                 {func(w *Work) { w.Connections, w.Depth, w.Size = 1<<8, MaxDepth, MaxSize }, ""},
		"mode":                     {func(w *Work) { w.Mode = "sideways" }, "mode"},
		"no connection":            {func(w *Work) { w.Connections = 0 }, "connections"},
		"too many connections":     {func(w *Work) { w.Connections = MaxConnections + 1 }, "connections"},
		"no size":                  {func(w *Work) { w.Size = 0 }, "size"},
		"too large":                {func(w *Work) { w.Size = MaxSize + 1 }, "size"},
		"negative rate":            {func(w *Work) { w.Rate = -1 }, "rate"},
		"no number":                {func(w *Work) { w.Rate = math.NaN() }, "rate"},
		"too fast":                 {func(w *Work) { w.Rate = 2 * MaxRate }, "rate"},
		"a rate in bulk":           {func(w *Work) { w.Mode, w.Rate = Both, 1 }, "rate"},
		"depth in bulk":            {func(w *Work) { w.Mode, w.Depth = Down, 2 }, "depth"},
		"depth of calls":           {func(w *Work) { w.Mode, w.Depth = Connect, 2 }, "depth"},
		"no depth":                 {func(w *Work) { w.Depth = 0 }, "depth"},
		"too deep":                 {func(w *Work) { w.Depth = MaxDepth + 1 }, "depth"},
		"too much in all":          {func(w *Work) { w.Connections, w.Depth = MaxConnections, 17 }, "depth"},
		"negative warm-up":         {func(w *Work) { w.Warmup = -1 }, "warmup"},
		"negative duration":        {func(w *Work) { w.Duration = -1 }, "duration"},
		"no duration":              {func(w *Work) { w.Duration = 0 }, "duration"},
		"too long":                 {func(w *Work) { w.Duration = Span(MaxSpan) }, "duration"},
		"so long that it wraps":    {func(w *Work) { w.Warmup, w.Duration = math.MaxInt64, math.MaxInt64 }, "duration"},
		"no timeout":               {func(w *Work) { w.Timeout = 0 }, "timeout"},
		"negative requests":        {func(w *Work) { w.Requests = -1 }, "requests"},
		"negative bytes":           {func(w *Work) { w.Mode, w.Bytes = Up, -1 }, "bytes"},
		"requests in bulk":         {func(w *Work) { w.Mode, w.Requests = Up, 1 }, "requests"},
		"bytes where there's none": {func(w *Work) { w.Bytes = 1 }, "bytes"},
	} {
		w := good
		test.change(&w)
		err := w.Check()
		var e *WorkError
		switch {
		case test.field == "" && err != nil, test.field != "" && (!errors.As(err, &e) || e.Field != test.field):
			t.Errorf("%s: %v", name, err)
		case e != nil && (e.Msg == "" || e.Error() == ""):
			t.Errorf("%s: says nothing", name)
		}
	}
}

func TestSpanInJSON(t *testing.T) {
	for _, d := range []time.Duration{0, 1, time.Second, 90 * time.Millisecond, MaxSpan, 12345678901} {
		b, err := json.Marshal(Span(d))
		if err != nil {
			t.Fatal(err)
		}
		var back Span
		if err := json.Unmarshal(b, &back); err != nil || back != Span(d) {
			t.Errorf("%s: %s became %s, %v", d, b, back, err)
		}
	}
	var s Span
	for _, bad := range []string{`1e300`, `"x"`} {
		if err := json.Unmarshal([]byte(bad), &s); err == nil {
			t.Errorf("%s became %s", bad, s)
		}
	}
}
