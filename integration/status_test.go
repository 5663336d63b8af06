// The exit status says how it went, and standard error what to try.

package integration_test

import (
	"os"
	"strconv"
	"syscall"
	"testing"
)

// A failing is a call that cannot succeed.
type failing struct {
	args   []string
	status int
	says   []string
}

func (f failing) check(t *testing.T) {
	t.Helper()
	p := anysock(t, []byte("input"), f.args...)
	p.wantStatus(f.status)
	for _, text := range f.says {
		p.complains(text)
	}
}

func TestStatusRefused(t *testing.T) {
	t.Parallel()
	port := closedPort(t)
	failing{[]string{"connect", "tcp://127.0.0.1:" + port}, 4, []string{`connection refused`, `nothing listens on 127\.0\.0\.1:` + port}}.check(t)
	failing{[]string{"connect", "unix:" + shortDir(t) + "/nobody"}, 4, []string{`no such file`}}.check(t)
	failing{[]string{"connect", "exec:/nonexistent"}, 4, []string{`there is no program /nonexistent`}}.check(t)
}

// Resolvers answer for .onion without asking anybody (RFC 7686).
func TestStatusName(t *testing.T) {
	t.Parallel()
	failing{[]string{"connect", "tcp://nobody.onion:1"}, 3, []string{`nobody\.onion`, `check the spelling`}}.check(t)
}

func TestStatusUsage(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{"connect"},
		{"connect", "tcp://127.0.0.1"},
		{"connect", "tcp://127.0.0.1:1?bogus=1"},
		{"connect", "--bogus", "echo:"},
		{"bogus"},
		{"relay", anyPort},
		{"connect", "tcp:1"},
	} {
		failing{args, 2, []string{`(?m)^anysock: .+`}}.check(t)
	}
}

func TestStatusResetBeforeAnyByte(t *testing.T) {
	t.Parallel()
	t.Run("python", func(t *testing.T) {
		t.Parallel()
		_, address := server(t, "abort", loopback, "0")
		failing{[]string{"connect", address}, 4, []string{`reset before any byte`, `found nobody behind it`}}.check(t)
	})
	t.Run("relay_to_nobody", func(t *testing.T) {
		t.Parallel()
		r, address := relay(t, anyPort, "tcp://127.0.0.1:"+closedPort(t))
		failing{[]string{"connect", address}, 4, []string{`reset before any byte`, `look at its target`}}.check(t)
		r.complains(`refused`)
		// The same for a program that is not ours.
		client(t, "talk", address, []byte("request")).report().wantReset(t, "the client", 0)
	})
}

func TestStatusLost(t *testing.T) {
	t.Parallel()
	t.Run("idle", func(t *testing.T) {
		t.Parallel()
		_, address := server(t, "silent", loopback)
		failing{[]string{"connect", "--idle=300ms", address}, 8, []string{`no data either way for 300ms`}}.check(t)
	})
	// The server's queue is full: its kernel drops what would be one too many.
	t.Run("no_answer", func(t *testing.T) {
		t.Parallel()
		srv, address := server(t, "full", loopback)
		srv.says(`"full": true`)
		failing{[]string{"connect", "--timeout=500ms", address}, 8, []string{`no connection within 500ms`}}.check(t)
		failing{[]string{"connect", address + "?timeout=400ms"}, 8, []string{`no answer within 400ms`, `a firewall may drop`}}.check(t)
	})
	t.Run("nobody_comes", func(t *testing.T) {
		t.Parallel()
		failing{[]string{"listen", "--timeout=200ms", anyPort}, 8, []string{`nobody connected within 200ms`}}.check(t)
	})
}

func TestStatusBrokenOutput(t *testing.T) {
	t.Parallel()
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip("no /dev/full: ", err)
	}
	defer full.Close()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	defer w.Close()
	for name, out := range map[string]struct {
		file *os.File
		says string
	}{"pipe": {w, `broken pipe`}, "disk": {full, `no space left`}} {
		t.Run(name, func(t *testing.T) {
			srv, address := server(t, "source", loopback, strconv.Itoa(message))
			p := start(t, command{argv: []string{binary, "connect", address}, stdout: out.file, pipe: true})
			p.wantStatus(10)
			p.complains(out.says)
			// The server must not believe that all has arrived.
			srv.report().wantReset(t, "the server", 0)
		})
	}
}

func TestStatusPortInUse(t *testing.T) {
	t.Parallel()
	_, address := server(t, "silent", loopback)
	_, port := hostPort(t, address)
	for _, verb := range []string{"listen", "echo", "relay"} {
		args := []string{verb, address}
		if verb == "relay" {
			args = append(args, "echo:")
		}
		failing{args, 1, []string{`address already in use`, `another socket holds \S*` + port, `ss -lnp`, `port 0`}}.check(t)
	}
}

// A signal is a drain, and the status that of the drain.
func TestStatusSignal(t *testing.T) {
	t.Parallel()
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		p := anysock(t, nil, "echo", anyPort)
		p.bound()
		p.signal(s)
		p.ok()
	}
}
