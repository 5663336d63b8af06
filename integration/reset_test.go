// A reset in the middle of a message is a reset at the other end of a relay,
// never an end of file.

package integration_test

import (
	"encoding/json"
	"strconv"
	"strings"
	"testing"
)

// message is what is sent before the reset: more than one buffer, less than
// what the kernel keeps for a reader.
const message = 300_000

// relays are chains from a client to a target.
func relays() map[string]func(t *testing.T, target string) string {
	return map[string]func(t *testing.T, target string) string{
		"one_relay": func(t *testing.T, target string) string {
			_, from := relay(t, anyPort, target)
			return from
		},
		"two_relays": func(t *testing.T, target string) string {
			_, middle := relay(t, anyPort, target)
			_, from := relay(t, anyPort, middle)
			return from
		},
		"ipv6_to_ipv4": func(t *testing.T, target string) string {
			needIPv6(t)
			_, from := relay(t, "tcp://[::1]:0", target)
			return from
		},
	}
}

func TestResetByServer(t *testing.T) {
	for name, chain := range relays() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, mode := range []string{"read", "talk", "hold"} { // our direction open, ended, open after data
				t.Run(mode, func(t *testing.T) {
					_, target := server(t, "abort", loopback, strconv.Itoa(message))
					client(t, mode, chain(t, target), []byte("x")).report().wantReset(t, "the client", message)
				})
			}
		})
	}
}

func TestResetByClient(t *testing.T) {
	for name, chain := range relays() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv, target := server(t, "sink", loopback)
			client(t, "abort", chain(t, target), nil, strconv.Itoa(message)).ok()
			srv.report().wantReset(t, "the server", message)
		})
	}
}

// The server gives up while the client still sends 20 MB: the writing client
// learns too.
func TestResetOfAWriter(t *testing.T) {
	for name, chain := range relays() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, target := server(t, "cut", loopback, strconv.Itoa(message))
			client(t, "talk", chain(t, target), data(20<<20)).report().wantReset(t, "the client", 0)
		})
	}
}

// connect and listen say it by their exit status, and pass on nothing that was
// not sent.
func TestResetOfConnect(t *testing.T) {
	t.Parallel()
	_, address := server(t, "abort", loopback, strconv.Itoa(message))
	p := anysockPiped(t, "connect", address)
	p.wantStatus(7)
	p.complains(`connection reset by peer`)
	p.complains(`data may be missing`)
	if got := p.out.String(); !strings.HasPrefix(string(data(message)), got) {
		t.Errorf("%d bytes that were not sent", len(got))
	}
}

func TestResetOfListen(t *testing.T) {
	t.Parallel()
	p := anysockPiped(t, "listen", anyPort)
	client(t, "abort", p.bound(), nil, strconv.Itoa(message)).ok()
	p.wantStatus(7)
	p.complains(`connection reset by peer`)
	if got := p.out.String(); !strings.HasPrefix(string(data(message)), got) {
		t.Errorf("%d bytes that were not sent", len(got))
	}
}

// A Unix socket has no reset to pass on: its reader sees an end, and the record
// says so.
func TestResetTowardsUnix(t *testing.T) {
	t.Parallel()
	_, target := server(t, "abort", loopback, strconv.Itoa(message))
	from := "unix:" + shortDir(t) + "/s"
	r := anysock(t, nil, "relay", "--json", from, target)
	r.says(`"listening"`)
	c := client(t, "read", from, nil).report()
	if c.End != "eof" || c.Received > message {
		t.Errorf("the client received %d bytes, then %s", c.Received, c.End)
	}
	line := r.says(`(?m)^.*"event":"end".*$`)[0]
	var record struct {
		How        string
		By         string
		Downgrades []struct{ Leg, Ending, Became string }
	}
	if err := json.Unmarshal([]byte(line), &record); err != nil {
		t.Fatal(line, err)
	}
	if record.How != "aborted by peer" || record.By != "outbound" || len(record.Downgrades) != 1 {
		t.Fatal(line)
	}
	if d := record.Downgrades[0]; d.Leg != "inbound" || d.Ending != "abort" || d.Became != "close" {
		t.Error(line)
	}
}

// A program behind the relay that fails is a reset for the client.
func TestResetByProgram(t *testing.T) {
	t.Parallel()
	sh := need(t, "sh")
	for name, script := range map[string]string{"status": "printf part; cat >/dev/null; exit 3", "signal": "printf part; kill -KILL $$"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			target := "exec:" + sh + "?arg=-c&arg=" + escaped(script)
			r, from := relay(t, anyPort, target)
			client(t, "talk", from, []byte("input")).report().wantReset(t, "the client", len("part"))
			r.complains(map[string]string{"status": `exit status 3`, "signal": `signal: killed`}[name])
		})
	}
}
