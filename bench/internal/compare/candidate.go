//go:build linux

package compare

// This file holds the candidates: what each is called, how it is built and
// started, and which version it is.

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
)

// A Candidate is a server or a relay to measure.
type Candidate struct {
	Name    string
	Program string // whose version it is; several candidates may be one program
	// Collects says that SIGUSR1 makes it collect its garbage.
	Collects bool

	prepare func(ctx context.Context, t *Toolbox) (path string, err error)
	// command is how it is started. A port of 0 in the order lets it choose,
	// and it prints its address; otherwise it is given a port and prints none.
	command func(path string, o order) (*exec.Cmd, error)
	chooses bool
	forks   bool // a process for each connection
	version func(ctx context.Context, path string) string
}

// An order is what a candidate is to do.
type order struct {
	port    int
	threads int
	buffer  int    // of one connection, in bytes; 0 is the candidate's default
	target  string // of a relay
	dir     string // for configuration files
}

func (o order) address() string { return fmt.Sprintf("127.0.0.1:%d", o.port) }

// EchoBase and RelayBase are what the others are compared with.
const (
	EchoBase  = "gnet"
	RelayBase = "HAProxy"
)

// Again is added to the name of the base where it is measured a second time.
const Again = " (again)"

func again(c Candidate) Candidate {
	c.Name += Again
	return c
}

// EchoCandidates are all the echo servers.
func EchoCandidates() []Candidate {
	gnet := goEcho(EchoBase, "gnet", "github.com/panjf2000/gnet/v2")
	return []Candidate{
		goEcho(callbacks, "anysock", "github.com/anysock/anysock"),
		withFlag(goEcho(coroutineStyle, "anysock", "github.com/anysock/anysock"), "-coroutines"),
		gnet,
		withFlag(goEcho("gnet, SO_REUSEPORT", "gnet", "github.com/panjf2000/gnet/v2"), "-reuseport"),
		goEcho("package net", "net", ""),
		goEcho("nbio", "nbio", "github.com/lesismal/nbio"),
		goEcho("netpoll", "netpoll", "github.com/cloudwego/netpoll"),
		goEcho("evio", "evio", "github.com/tidwall/evio"),
		cServer("C epoll", "epoll"),
		cServer("C io_uring", "uring", "-luring"),
		echoCommand(),
		again(gnet),
	}
}

// RelayCandidates are all the relays.
func RelayCandidates() []Candidate {
	return []Candidate{
		relayCommand(),
		haproxy(RelayBase, ""),
		haproxy("HAProxy splice-auto", "option splice-auto"),
		nginx(),
		cServer("C splice", "splice"),
		goEcho("Go io.Copy", "iocopy", ""),
		socat(),
		noRelay(),
		again(haproxy(RelayBase, "")),
	}
}

// goEcho is a server under bench/servers that package serve runs. Without a
// module it is package net's, whose version is Go's.
func goEcho(name, directory, module string) Candidate {
	return Candidate{
		Name:     name,
		Program:  name,
		Collects: true,
		prepare:  func(ctx context.Context, t *Toolbox) (string, error) { return t.goServer(ctx, directory) },
		command: func(path string, o order) (*exec.Cmd, error) {
			var args []string
			if o.buffer > 0 {
				args = append(args, "-buffer", fmt.Sprint(o.buffer))
			}
			return exec.Command(path, append(args, o.address(), fmt.Sprint(o.threads), o.target)...), nil
		},
		chooses: true,
		version: func(_ context.Context, path string) string {
			return moduleVersion(path, module)
		},
	}
}

// withFlag starts c with one more flag.
func withFlag(c Candidate, flag string) Candidate {
	without := c.command
	c.command = func(path string, o order) (*exec.Cmd, error) {
		cmd, err := without(path, o)
		if err != nil {
			return nil, err
		}
		cmd.Args = append([]string{cmd.Args[0], flag}, cmd.Args[1:]...)
		return cmd, nil
	}
	return c
}

// cServer is bench/servers/NAME.c.
func cServer(name, file string, libraries ...string) Candidate {
	return Candidate{
		Name:    name,
		Program: name,
		prepare: func(ctx context.Context, t *Toolbox) (string, error) { return t.c(ctx, file, libraries...) },
		command: func(path string, o order) (*exec.Cmd, error) {
			return exec.Command(path, o.address(), fmt.Sprint(o.threads), o.target), nil
		},
		chooses: true,
		version: func(ctx context.Context, _ string) string {
			v := "gcc " + versionOf(ctx, "gcc", "--version")
			if len(libraries) > 0 {
				v += ", liburing " + versionOf(ctx, "pkg-config", "--modversion", "liburing")
			}
			return v
		},
	}
}

// echoCommand is `anysock echo` as a user starts it, but without its limit of
// connections.
func echoCommand() Candidate {
	return anysock("anysock echo (command)", func(o order) []string {
		return []string{"echo", "tcp://" + o.address(), "--max-conns=0"}
	})
}

func relayCommand() Candidate {
	return anysock(relay, func(o order) []string {
		return []string{"relay", "tcp://" + o.address(), "tcp://" + o.target, "--max-conns=0"}
	})
}

func anysock(name string, args func(order) []string) Candidate {
	return Candidate{
		Name:    name,
		Program: name,
		prepare: func(ctx context.Context, t *Toolbox) (string, error) { return t.command(ctx) },
		command: func(path string, o order) (*exec.Cmd, error) { return exec.Command(path, args(o)...), nil },
		version: func(context.Context, string) string { return thisCheckout },
	}
}

// installed looks a program up that comes with the system.
func installed(program string) func(context.Context, *Toolbox) (string, error) {
	return func(context.Context, *Toolbox) (string, error) {
		path, err := exec.LookPath(program)
		if err != nil {
			path = filepath.Join("/usr/sbin", program) // not in everybody's PATH
			if _, err = os.Stat(path); err != nil {
				return "", fmt.Errorf("%s: %w", program, ErrMissing)
			}
		}
		return path, nil
	}
}

// The most connections that HAProxy and nginx are told to take, and the most
// pipes that HAProxy may hold to splice. It refuses to start where it cannot
// have two descriptors for each connection and for each pipe.
const (
	relayConnections = 7000
	haproxyPipes     = 1000
)

func haproxy(name, option string) Candidate {
	return Candidate{
		Name:    name,
		Program: "HAProxy",
		prepare: installed("haproxy"),
		command: func(path string, o order) (*exec.Cmd, error) {
			file := filepath.Join(o.dir, fmt.Sprintf("haproxy-%d.cfg", o.port))
			text := fmt.Sprintf(`global
	maxconn %d
	maxpipes %d
	nbthread %d
defaults
	mode tcp
	timeout connect 5s
	timeout client 1h
	timeout server 1h
	%s
listen relay
	bind %s
	server target %s
`, relayConnections, haproxyPipes, o.threads, option, o.address(), o.target)
			return exec.Command(path, "-db", "-f", file), os.WriteFile(file, []byte(text), 0o600)
		},
		version: func(ctx context.Context, path string) string { return versionOf(ctx, path, "-v") },
	}
}

// streamModule is where Debian puts it; elsewhere it may be built in.
const streamModule = "/usr/lib/nginx/modules/ngx_stream_module.so"

func nginx() Candidate {
	return Candidate{
		Name:    "nginx stream",
		Program: "nginx",
		prepare: installed("nginx"),
		command: func(path string, o order) (*exec.Cmd, error) {
			module := ""
			if _, err := os.Stat(streamModule); err == nil {
				module = "load_module " + streamModule + ";"
			}
			dir := filepath.Join(o.dir, fmt.Sprintf("nginx-%d", o.port))
			if err := os.MkdirAll(dir, 0o700); err != nil {
				return nil, err
			}
			file := filepath.Join(dir, "nginx.conf")
			text := fmt.Sprintf(`%s
daemon off;
worker_processes %d;
pid %s/pid;
error_log stderr crit;
events { worker_connections %d; }
stream {
	access_log off;
	server {
		listen %s backlog=4096%s;
		proxy_pass %s;
		proxy_timeout 1h;
	}
}
`, module, o.threads, dir, 2*relayConnections, o.address(), reuseport(o.threads), o.target)
			cmd := exec.Command(path, "-p", dir, "-e", "stderr", "-c", file)
			return cmd, os.WriteFile(file, []byte(text), 0o600)
		},
		version: func(ctx context.Context, path string) string { return versionOf(ctx, path, "-v") },
	}
}

func reuseport(workers int) string {
	if workers > 1 {
		return " reuseport"
	}
	return ""
}

// socatBuffer is what socat moves at once. Its default of 8192 is slower.
const socatBuffer = 65536

func socat() Candidate {
	return Candidate{
		Name:    "socat",
		Program: "socat",
		forks:   true,
		prepare: installed("socat"),
		command: func(path string, o order) (*exec.Cmd, error) {
			return exec.Command(path, "-b", fmt.Sprint(socatBuffer),
				fmt.Sprintf("TCP4-LISTEN:%d,bind=127.0.0.1,reuseaddr,fork,backlog=4096,nodelay", o.port),
				"TCP4:"+o.target+",nodelay"), nil
		},
		version: func(ctx context.Context, path string) string { return versionOf(ctx, path, "-V") },
	}
}

// noRelay is the load generator alone, connected with itself: what the load
// costs, and so the most that any relay can show.
func noRelay() Candidate {
	return Candidate{Name: "no relay", version: func(context.Context, string) string { return "" }}
}

// number is a version within what a program says of itself.
var number = regexp.MustCompile(`[0-9]+\.[0-9][0-9A-Za-z.+~-]*`)

// versionOf asks a program for its version.
func versionOf(ctx context.Context, program string, args ...string) string {
	out, err := exec.CommandContext(ctx, program, args...).CombinedOutput()
	version := number.Find(out)
	if err != nil || version == nil {
		return "of unknown version"
	}
	return string(version)
}
