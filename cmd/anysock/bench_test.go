package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/internal/load"
)

func TestSizeValue(t *testing.T) {
	for text, want := range map[string]int64{
		"0": 0, "250": 250, "64K": 64 << 10, "64k": 64 << 10, "64KiB": 64 << 10, "64KB": 64 << 10, "1M": 1 << 20, "10G": 10 << 30, "3GiB": 3 << 30,
		"4194304G": 1 << 52,
	} {
		var v sizeValue
		if err := v.Set(text); err != nil || int64(v) != want {
			t.Errorf("%q is %d, %v; want %d", text, v, err, want)
		}
	}
	for _, text := range []string{"", "K", "B", "250B", "1T", "-1", "1.5M", "0x10", "64 K", "99999999999G", "9223372036854775807"} {
		var v sizeValue
		if err := v.Set(text); err == nil {
			t.Errorf("%q is %d", text, v)
		}
	}
}

func TestFiguresForPeople(t *testing.T) {
	for want, got := range map[string]string{
		"0ns":        shortTime(0),
		"999ns":      shortTime(999),
		"1.00µs":     shortTime(1000),
		"41.2µs":     shortTime(41_234),
		"10.0ms":     shortTime(9_999_000),
		"412µs":      shortTime(412_345),
		"1.23s":      shortTime(1_234_567_890),
		"3600s":      shortTime(time.Hour),
		"0 B/s":      perSecond(0),
		"999 B/s":    perSecond(999),
		"1.00 kB/s":  perSecond(1000),
		"78.1 MB/s":  perSecond(78.1e6),
		"2.35 GB/s":  perSecond(2.354e9),
		"250 B":      bytesText(250),
		"64 KiB":     bytesText(64 << 10),
		"1000 B":     bytesText(1000),
		"16 MiB":     bytesText(16 << 20),
		"0":          grouped(0),
		"999":        grouped(999),
		"1,000":      grouped(1000),
		"-1,234,567": grouped(-1_234_567),
		"1 core":     plural[int64](1, "core"),
		"2,000 x's":  plural(2000.0, "x'"),
		"0.5 xs":     plural(0.5, "x"),
	} {
		if got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

// The line while it runs: what it says in each phase.
func TestLiveText(t *testing.T) {
	echo := load.Work{Mode: load.Echo, Connections: 10_000, Duration: load.Span(10 * time.Second), Warmup: load.Span(2 * time.Second)}
	counted := echo
	counted.Duration, counted.Requests = 0, 1_000_000
	up := echo
	up.Mode = load.Up
	for _, test := range []struct {
		work load.Work
		p    load.Progress
		want string
	}{
		{echo, load.Progress{Phase: load.PhaseConnect, Connections: 1234}, "connecting: 1,234 of 10,000"},
		{echo, load.Progress{Phase: load.PhaseWarmup, Elapsed: time.Second}, "warming up: 1s of 2s"},
		{echo, load.Progress{Phase: load.PhaseMeasure, Elapsed: 4 * time.Second, Requests: 723111, PerSecond: 182343.6}, "4s of 10s: 182,344 messages/s, 723,111 answered"},
		{echo, load.Progress{Phase: load.PhaseMeasure, Elapsed: time.Second, Requests: 1, PerSecond: 1, Failures: 2}, "1s of 10s: 1 messages/s, 1 answered, 2 failures"},
		{counted, load.Progress{Phase: load.PhaseMeasure, Elapsed: 61 * time.Second, Requests: 5000, PerSecond: 50}, "61s: 50 messages/s, 5,000 of 1,000,000"},
		{up, load.Progress{Phase: load.PhaseMeasure, Elapsed: time.Second, Bytes: 5, PerSecond: 2.5e9}, "1s of 10s: 2.50 GB/s"},
		{up, load.Progress{Phase: load.PhaseFinish}, "finishing"},
	} {
		if got := liveText(test.work, test.p); got != test.want {
			t.Errorf("%q, want %q", got, test.want)
		}
	}
}

// A line that is shorter than the one before wipes it out, and the last one is
// removed.
func TestLiveLine(t *testing.T) {
	for plainTerminal, want := range map[bool]string{
		false: "\rlong line\x1b[K\rshort\x1b[K\r\x1b[K\r",
		true:  "\rlong line\rshort    \r     \r",
	} {
		var b strings.Builder
		l := &liveLine{out: &b, plain: plainTerminal}
		l.show("long line")
		l.show("short")
		l.clear()
		if b.String() != want {
			t.Errorf("%q, want %q", b.String(), want)
		}
	}
	var none *liveLine
	if none.clear(); none.progress() != nil {
		t.Error("where nobody sees it there is a line")
	}
}

// What a result with failures means for the status: wrong bytes come first,
// then what came most.
func TestBenchOutcome(t *testing.T) {
	kind := func(k anysock.Kind, n int64) load.Failure {
		return load.Failure{Kind: k.String(), Count: n, First: "x", Err: &anysock.Error{Kind: k, Hint: "h"}}
	}
	wrong := load.Failure{Kind: load.KindWrongBytes, Count: 1, First: "x", Err: &load.WrongBytesError{}}
	ended := load.Failure{Kind: load.KindEnded, Count: 1, First: "x", Err: &load.EndedError{}}
	for _, test := range []struct {
		r      load.Result
		status int
		says   string
	}{
		{load.Result{Requests: 5}, exitOK, ""},
		{load.Result{Failures: []load.Failure{kind(anysock.KindReset, 2)}}, exitAborted, "bench: failures: 2 reset; the first: x"},
		{load.Result{Failures: []load.Failure{kind(anysock.KindReset, 2), kind(anysock.KindTimeout, 3000)}}, exitLost, "bench: failures: 2 reset, 3,000 timeout; the first: x"},
		{load.Result{Failures: []load.Failure{kind(anysock.KindReset, 2), wrong}}, exitVerify, ""},
		{load.Result{Failures: []load.Failure{wrong, kind(anysock.KindReset, 2)}}, exitVerify, ""},
		{load.Result{Failures: []load.Failure{ended}}, exitAborted, ""},
		{load.Result{Failures: []load.Failure{kind(anysock.KindRefused, 1)}}, exitRefused, ""},
		{load.Result{Requests: 7, Unanswered: 3}, exitLost, "bench: 3 of 10 messages were not answered in time"},
		{load.Result{Requests: 7, Unanswered: 3, Partial: "interrupted"}, exitOK, ""},
	} {
		err := benchOutcome(&test.r)
		if got := exitOf(err); got != test.status {
			t.Errorf("%v: status %d, want %d", err, got, test.status)
		}
		if test.says != "" && err.Error() != test.says {
			t.Errorf("%q, want %q", err, test.says)
		}
	}
}

// A file of records is searched for the one result in it.
func TestReadResult(t *testing.T) {
	write := func(text string) string {
		path := filepath.Join(t.TempDir(), "r.json")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	r, err := readResult(write(`{"event":"other","seconds":3}` + "\n" + `{"time":"x","event":"bench","seconds":2.5}` + "\n"))
	if err != nil || r.Seconds != 2.5 {
		t.Errorf("%+v, %v", r, err)
	}
	for text, says := range map[string]string{
		``:                                       "it holds none",
		`{"event":"other"}`:                      "it holds none",
		`{"event":"bench"}{"event":"bench"}`:     "it holds more than one",
		`hello`:                                  "invalid character",
		`{"event":"bench","latency_ns":{"x":1}}`: "histogram",
	} {
		var usage *usageError
		if _, err := readResult(write(text)); !errors.As(err, &usage) || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", text, err)
		}
	}
}
