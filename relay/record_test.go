package relay_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/relay"
)

func sample() relay.Record {
	at := time.Date(2026, 11, 21, 9, 30, 0, 0, time.UTC)
	return relay.Record{
		How: anysock.AbortedByPeer, By: relay.Outbound, Target: "unix:/run/o.sock",
		Inbound: relay.LegRecord{
			Network: "tcp", Local: "127.0.0.1:3005", Peer: "127.0.0.1:40000",
			How: anysock.AbortedByPeer, EndedBy: anysock.Us, Received: 250, Sent: 10,
		},
		Outbound: relay.LegRecord{
			Network: "unix", Local: "@", Peer: "/run/o.sock",
			How: anysock.AbortedByPeer, EndedBy: anysock.Peer, Received: 10, Sent: 250, Error: "read unix:/run/o.sock: connection reset by peer",
		},
		ToOutbound: relay.Direction{Bytes: 250, FirstByte: at.Add(2 * time.Millisecond), Ended: at.Add(4 * time.Millisecond)},
		ToInbound:  relay.Direction{Bytes: 10},
		Accepted:   at, Connected: at.Add(time.Millisecond), Done: at.Add(5 * time.Millisecond),
		Attempts:   []relay.Attempt{{Round: 1, Address: "/run/o.sock", Started: 0, Took: 0.001, Error: "connection refused"}},
		Downgrades: []relay.Downgrade{{Leg: relay.Inbound, Ending: "abort", Became: "close"}},
		Err:        errors.New("read unix:/run/o.sock: connection reset by peer"),
	}
}

func TestRecordString(t *testing.T) {
	want := "tcp:127.0.0.1:40000 -> unix:/run/o.sock: aborted by peer on outbound, 250 bytes out, 10 back, " +
		"1 failed attempt, 5ms, inbound abort became a close: read unix:/run/o.sock: connection reset by peer"
	if got := sample().String(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	refused := sample()
	refused.How, refused.Connected, refused.Outbound = anysock.Refused, time.Time{}, relay.LegRecord{}
	refused.Downgrades, refused.Attempts = nil, nil
	refused.Err = errors.New("connect unix:/run/o.sock: connection refused")
	want = "tcp:127.0.0.1:40000 -> unix:/run/o.sock: refused on outbound, 5ms: connect unix:/run/o.sock: connection refused"
	if got := refused.String(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// TestRecordJSON: the names and forms of the fields are a promise.
func TestRecordJSON(t *testing.T) {
	want := `{
 "how": "aborted by peer",
 "by": "outbound",
 "target": "unix:/run/o.sock",
 "inbound": {
  "network": "tcp",
  "local": "127.0.0.1:3005",
  "peer": "127.0.0.1:40000",
  "how": "aborted by peer",
  "ended_by": "us",
  "acked_by": "none",
  "received": 250,
  "sent": 10,
  "unacked": 0
 },
 "outbound": {
  "network": "unix",
  "local": "@",
  "peer": "/run/o.sock",
  "how": "aborted by peer",
  "ended_by": "peer",
  "acked_by": "none",
  "received": 10,
  "sent": 250,
  "unacked": 0,
  "error": "read unix:/run/o.sock: connection reset by peer"
 },
 "to_outbound": {
  "bytes": 250,
  "first_byte": "2026-11-21T09:30:00.002Z",
  "ended": "2026-11-21T09:30:00.004Z"
 },
 "to_inbound": {
  "bytes": 10
 },
 "accepted": "2026-11-21T09:30:00Z",
 "connected": "2026-11-21T09:30:00.001Z",
 "done": "2026-11-21T09:30:00.005Z",
 "attempts": [
  {
   "round": 1,
   "address": "/run/o.sock",
   "started_seconds": 0,
   "took_seconds": 0.001,
   "error": "connection refused"
  }
 ],
 "downgrades": [
  {
   "leg": "inbound",
   "ending": "abort",
   "became": "close"
  }
 ],
 "seconds": 0.005,
 "error": "read unix:/run/o.sock: connection reset by peer"
}`
	got, err := json.MarshalIndent(sample(), "", " ")
	if err != nil || string(got) != want {
		t.Errorf("%v\n%s", err, got)
	}
}

// TestRecordIsOneSafeLine: a peer chooses the name of its Unix socket.
func TestRecordIsOneSafeLine(t *testing.T) {
	bad := sample()
	bad.Inbound.Peer = "/tmp/x\n2026 level=ERROR msg=\"forged\"\x1b[2J\xff\u202e"
	bad.Target = "unix:/tmp/\r\n"
	bad.Err = errors.New("read\tunix:/tmp/x\n: oh")
	var logged bytes.Buffer
	slog.New(slog.NewTextHandler(&logged, nil)).Info("ended", "record", bad)
	slog.New(slog.NewJSONHandler(&logged, nil)).Info("ended", "record", bad)
	lines := strings.Split(strings.TrimSuffix(logged.String(), "\n"), "\n")
	if len(lines) != 2 {
		t.Errorf("%d lines of log:\n%s", len(lines), logged.String())
	}
	for _, s := range append(lines, bad.String()) {
		if i := strings.IndexFunc(s, func(c rune) bool { return c < ' ' || c == 0x7f || c == '\u202e' || c == '\uFFFD' }); i >= 0 {
			t.Errorf("not safe at %d: %q", i, s)
		}
	}
	if want := `tcp:/tmp/x\n2026`; !strings.HasPrefix(bad.String(), want) {
		t.Errorf("got %s, want it to begin with %s", bad.String(), want)
	}
}

func TestRecordLogValue(t *testing.T) {
	var b bytes.Buffer
	slog.New(slog.NewJSONHandler(&b, nil)).Info("ended", "relay", sample())
	var line struct {
		Relay struct {
			How, By, Target, Error, Downgrades string
			Inbound, Outbound                  struct{ Network, Local, Peer, How, Error string }
			Out                                int64 `json:"to_outbound_bytes"`
			Back                               int64 `json:"to_inbound_bytes"`
			Failed                             int   `json:"failed_attempts"`
			Seconds                            float64
		}
	}
	if err := json.Unmarshal(b.Bytes(), &line); err != nil {
		t.Fatal(err)
	}
	r := line.Relay
	if r.How != "aborted by peer" || r.By != "outbound" || r.Target != "unix:/run/o.sock" || r.Error == "" ||
		r.Inbound.Peer != "127.0.0.1:40000" || r.Outbound.Error == "" || r.Out != 250 || r.Back != 10 || r.Failed != 1 || r.Seconds != 0.005 ||
		r.Downgrades != "inbound abort became a close" {
		t.Errorf("%s", b.String())
	}
}
