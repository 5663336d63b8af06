// This file holds the programs that the tests talk to: ours, and theirs.

package integration_test

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// anysock starts our binary.
func anysock(t *testing.T, input []byte, args ...string) *process {
	t.Helper()
	return start(t, command{argv: append([]string{binary}, args...), input: input})
}

// anysockPiped starts it with an input that the test writes.
func anysockPiped(t *testing.T, args ...string) *process {
	t.Helper()
	return start(t, command{argv: append([]string{binary}, args...), pipe: true})
}

// bound is where a program of ours listens.
func (p *process) bound() string {
	p.t.Helper()
	return p.complains(`(?m)^listening on (\S+)$`)[1]
}

// relay starts our relay on a free port of loopback and returns it with the
// address for its clients.
func relay(t *testing.T, from, to string, options ...string) (*process, string) {
	t.Helper()
	p := anysock(t, nil, append([]string{"relay", "-v", "--retry=1", from, to}, options...)...)
	return p, p.bound()
}

const anyPort = "tcp://127.0.0.1:0"

// A python is one of the scripts under testdata.
type python struct{ *process }

// A report is what a script prints at its end.
type report struct {
	End       string // "eof", or the error of a recv
	Errno     int
	Received  int
	SHA256    string
	Send      string // the error of a send
	SendErrno int    `json:"send_errno"`
}

const errnoReset = 104 // ECONNRESET of Linux

func script(t *testing.T, name string, input []byte, args ...string) python {
	t.Helper()
	return python{start(t, command{argv: pythonArgs(t, name, args), input: input})}
}

func pythonArgs(t *testing.T, name string, args []string) []string {
	// -S and -E: the interpreter starts faster. -B: it leaves no files.
	return append([]string{need(t, "python3"), "-SEB", filepath.Join("testdata", name)}, args...)
}

// server starts server.py on a free port of loopback, or where address says,
// and returns our address of it.
func server(t *testing.T, mode, address string, args ...string) (python, string) {
	t.Helper()
	p := script(t, "server.py", nil, append([]string{mode, address}, args...)...)
	return p, addressIn(t, p.says(`(?m)^\{.*\}$`)[0])
}

// addressIn is our address of what a script says it listens on.
func addressIn(t *testing.T, line string) string {
	t.Helper()
	var at struct {
		Host, Path string
		Port       int
	}
	if err := json.Unmarshal([]byte(line), &at); err != nil {
		t.Fatal(line, err)
	}
	if at.Path != "" {
		return "unix:" + at.Path
	}
	return "tcp://" + net.JoinHostPort(at.Host, strconv.Itoa(at.Port))
}

const loopback = "127.0.0.1 0"

// client starts client.py for one of our addresses.
func client(t *testing.T, mode, address string, input []byte, args ...string) python {
	t.Helper()
	return script(t, "client.py", input, append([]string{mode, pythonAddress(t, address)}, args...)...)
}

// pythonAddress is our address in the scripts' form.
func pythonAddress(t *testing.T, address string) string {
	t.Helper()
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		return path
	}
	host, port := hostPort(t, address)
	return host + " " + port
}

// hostPort takes tcp://HOST:PORT apart.
func hostPort(t *testing.T, address string) (host, port string) {
	t.Helper()
	_, rest, _ := strings.Cut(address, "://")
	host, port, err := net.SplitHostPort(rest)
	if err != nil {
		t.Fatal(address, err)
	}
	return host, port
}

// report waits for the script's end and returns what it printed last.
func (p python) report() report {
	p.t.Helper()
	p.ok()
	lines := strings.Split(strings.TrimSpace(p.out.String()), "\n")
	var r report
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &r); err != nil {
		p.t.Fatal(lines, err)
	}
	return r
}

// wantEOF wants these bytes, all of them, and then the end of file.
func (r report) wantEOF(t *testing.T, who string, data []byte) {
	t.Helper()
	if r.End != "eof" || r.Received != len(data) || r.SHA256 != sum(data) {
		t.Errorf("%s received %d bytes (%.8s), then %s; want %d (%.8s), then eof", who, r.Received, r.SHA256, r.End, len(data), sum(data))
	}
}

// wantReset wants a reset that is no end of file, and no more bytes than were
// sent. The kernel tells it once: a reader may find an end of file after a
// writer was told (docs/notes/so-error).
func (r report) wantReset(t *testing.T, who string, most int) {
	t.Helper()
	if r.Errno != errnoReset && r.SendErrno != errnoReset || r.Received > most {
		t.Errorf("%s received %d bytes, then %s, and its writer was told %q; want at most %d bytes, then a reset", who, r.Received, r.End, r.Send, most)
	}
}

func sum[B ~[]byte | ~string](p B) string {
	h := sha256.Sum256([]byte(p))
	return hex.EncodeToString(h[:])
}

// wantSame compares what arrived with what was sent.
func wantSame(t *testing.T, who, got string, want []byte) {
	t.Helper()
	if len(got) != len(want) || sum(got) != sum(want) {
		t.Errorf("%s has %d bytes (%.8s), want %d (%.8s): %.100q", who, len(got), sum(got), len(want), sum(want), got)
	}
}

// data is what the scripts send: data(n) of common.py.
func data(n int) []byte {
	p := make([]byte, n)
	for i := range p {
		j := i % (1 << 16)
		p[i] = byte(j*7 + j>>8)
	}
	return p
}

// portOf finds the TCP port that a process listens on, for programs that do
// not say it (proc(5)). It waits until there is one.
func portOf(t *testing.T, p *process) string {
	t.Helper()
	pid := p.cmd.Process.Pid
	if _, err := os.Stat("/proc/self/net/tcp"); err != nil {
		t.Skip("no /proc/net/tcp to find a port in")
	}
	var port string
	until(t, p.name+" listens", func() bool {
		port = listeningPort(pid)
		return port != ""
	})
	return port
}

// listeningPort looks for the inode of one of the process's sockets among
// those in state LISTEN.
func listeningPort(pid int) string {
	const listening = "0A"
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return ""
	}
	inodes := map[string]bool{}
	for _, e := range entries {
		to, err := os.Readlink(filepath.Join(dir, e.Name()))
		if err == nil && strings.HasPrefix(to, "socket:[") {
			inodes[strings.Trim(strings.TrimPrefix(to, "socket:"), "[]")] = true
		}
	}
	f, err := os.Open("/proc/self/net/tcp")
	if err != nil {
		return ""
	}
	defer f.Close()
	for sc := bufio.NewScanner(f); sc.Scan(); {
		fields := strings.Fields(sc.Text())
		if len(fields) < 10 || fields[3] != listening || !inodes[fields[9]] {
			continue
		}
		_, hex, _ := strings.Cut(fields[1], ":")
		if n, err := strconv.ParseUint(hex, 16, 16); err == nil {
			return strconv.FormatUint(n, 10)
		}
	}
	return ""
}

// closedPort is a port of loopback on which nobody listens.
func closedPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(l.Addr().String())
	l.Close()
	if err != nil {
		t.Fatal(err)
	}
	return port
}
