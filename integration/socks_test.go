// Our hops through proxies that others wrote: dante and microsocks (SOCKS), ncat
// (HTTP CONNECT), and BIND.

package integration_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// danted starts it on a free port of loopback and returns that. It lets this
// machine connect, accept and bind, but not connect to 127.0.0.2.
func danted(t *testing.T) string {
	t.Helper()
	path, dir, port := need(t, "danted"), t.TempDir(), closedPort(t)
	config := fmt.Sprintf("logoutput: stderr\ninternal: 127.0.0.1 port = %s\nexternal: 127.0.0.1\nclientmethod: none\nsocksmethod: none\n", port)
	if os.Getuid() == 0 {
		config += "user.unprivileged: nobody\n"
	}
	config += `client pass { from: 127.0.0.0/8 to: 0.0.0.0/0 }
socks block { from: 0.0.0.0/0 to: 127.0.0.2/32 }
socks pass { from: 0.0.0.0/0 to: 0.0.0.0/0 command: bind connect bindreply }
`
	file := filepath.Join(dir, "conf")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	p := start(t, command{argv: []string{path, "-f", file, "-p", filepath.Join(dir, "pid")}})
	t.Cleanup(func() { // its children end with it
		p.signal(syscall.SIGTERM)
		p.status()
	})
	untilListens(t, p, port)
	return "127.0.0.1:" + port
}

// microsocks starts it on a free port of loopback and returns that.
func microsocks(t *testing.T, options ...string) string {
	t.Helper()
	port := closedPort(t)
	p := start(t, command{argv: append([]string{need(t, "microsocks"), "-i", "127.0.0.1", "-p", port}, options...)})
	untilListens(t, p, port)
	return "127.0.0.1:" + port
}

// ncatProxy starts ncat as an HTTP proxy on a free port of loopback and returns
// that.
func ncatProxy(t *testing.T, options ...string) string {
	t.Helper()
	port := closedPort(t)
	p := start(t, command{argv: append([]string{need(t, "ncat"), "-k", "-l", "127.0.0.1", port, "--proxy-type", "http"}, options...)})
	untilListens(t, p, port)
	return "127.0.0.1:" + port
}

// untilListens waits until a server that was told its port has it.
func untilListens(t *testing.T, p *process, port string) {
	t.Helper()
	until(t, p.name+" listens", func() bool {
		select {
		case <-p.exited:
			t.Fatalf("%s ended", p.name)
		default:
		}
		c, err := net.DialTimeout("tcp", "127.0.0.1:"+port, time.Second)
		if err != nil {
			return false
		}
		c.Close()
		return true
	})
}

// echoServer is our echo on a free port of loopback: its port.
func echoServer(t *testing.T) string {
	t.Helper()
	_, port := hostPort(t, anysock(t, nil, "echo", anyPort).bound())
	return port
}

// wantEcho connects through the hops and wants what it sends to come back,
// while both directions are open: some proxies end both at the first end.
func wantEcho(t *testing.T, address string, env ...string) {
	t.Helper()
	c := start(t, command{argv: []string{binary, "connect", address}, pipe: true, env: env})
	for _, line := range []string{"hello", strings.Repeat("a longer line ", 1000)} {
		c.write(line + "\n")
		c.says("(?m)^" + line + "$")
	}
	c.endInput()
	c.ok()
}

// wantRefusal wants connecting to fail with this status and text.
func wantRefusal(t *testing.T, address string, status int, text string, env ...string) {
	t.Helper()
	c := start(t, command{argv: []string{binary, "connect", address}, env: env})
	c.wantStatus(status)
	c.complains(text)
}

const (
	statusHop  = 5
	statusAuth = 6
)

func TestThroughDante(t *testing.T) {
	t.Parallel()
	proxy, echo := danted(t), echoServer(t)
	wantEcho(t, "socks5://"+proxy+",tcp://127.0.0.1:"+echo)
	wantEcho(t, "socks5://"+proxy+",tcp://localhost:"+echo) // resolved there
	wantEcho(t, "socks5://"+proxy+"?resolve=local,tcp4://localhost:"+echo)
	wantEcho(t, "socks4://"+proxy+",tcp://localhost:"+echo)
	wantRefusal(t, "socks5://"+proxy+",tcp://127.0.0.1:"+closedPort(t), statusHop, `connection refused \(reply 5\)`)
	wantRefusal(t, "socks5://"+proxy+",tcp://127.0.0.2:"+echo, statusHop, `not allowed by ruleset \(reply 2\)`)
	wantRefusal(t, "socks5://"+proxy+",tcp://name.invalid:80", statusHop, `\(reply [14]\)`)
	wantRefusal(t, "socks4://"+proxy+",tcp://127.0.0.1:"+closedPort(t), statusHop, `rejected or failed \(reply 91\)`)
	wantRefusal(t, "http://"+proxy+",tcp://127.0.0.1:"+echo, statusHop, `does not speak HTTP CONNECT|hung up`)
}

func TestThroughMicrosocks(t *testing.T) {
	t.Parallel()
	echo := echoServer(t)
	open := microsocks(t)
	wantEcho(t, "socks5://"+open+",tcp://127.0.0.1:"+echo)
	wantEcho(t, "socks5://"+open+",tcp://localhost:"+echo)
	wantEcho(t, "socks5://ann@"+open+"?pass=env:PASS,tcp://127.0.0.1:"+echo, "PASS=not-wanted")
	wantRefusal(t, "socks5://"+open+",tcp://127.0.0.1:"+closedPort(t), statusHop, `connection refused \(reply 5\)`)
	wantRefusal(t, "socks4a://"+open+",tcp://127.0.0.1:"+echo, statusHop, `does not speak SOCKS4a|hung up`)

	guarded := microsocks(t, "-u", "ann", "-P", "correct horse")
	file := filepath.Join(t.TempDir(), "pass")
	if err := os.WriteFile(file, []byte("correct horse\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	wantEcho(t, "socks5://ann@"+guarded+"?pass=env:PASS,tcp://127.0.0.1:"+echo, "PASS=correct horse")
	wantEcho(t, "socks5://ann@"+guarded+"?pass=file:"+file+",tcp://127.0.0.1:"+echo)
	wantRefusal(t, "socks5://"+guarded+",tcp://127.0.0.1:"+echo, statusAuth, `wants to know who we are\s+try: .*USER@`)
	wantRefusal(t, "socks5://ann@"+guarded+"?pass=env:PASS,tcp://127.0.0.1:"+echo, statusAuth, `refuses the user and the password`, "PASS=wrong")
}

func TestThroughNcatProxy(t *testing.T) {
	t.Parallel()
	echo := echoServer(t)
	guarded := ncatProxy(t, "--proxy-auth", "ann:correct horse")
	wantEcho(t, "http://ann@"+guarded+"?pass=env:PASS,tcp://127.0.0.1:"+echo, "PASS=correct horse")
	wantEcho(t, "http://ann@"+guarded+"?pass=env:PASS&header=X-Team:%20blue,tcp://localhost:"+echo, "PASS=correct horse")
	wantRefusal(t, "http://"+guarded+",tcp://127.0.0.1:"+echo, statusAuth, `status 407 "Proxy Authentication Required"\s+try: .*USER@`)
	wantRefusal(t, "http://ann@"+guarded+"?pass=env:PASS,tcp://127.0.0.1:"+echo, statusAuth, `status 407`, "PASS=wrong")
	wantRefusal(t, "http://ann@"+guarded+"?pass=env:PASS,tcp://127.0.0.1:"+closedPort(t), statusHop, `status 50[24]`, "PASS=correct horse")
}

// TestThroughThreeProxies: microsocks, then ncat, then ours.
func TestThroughThreeProxies(t *testing.T) {
	t.Parallel()
	_, port := hostPort(t, anysock(t, nil, "proxy", anyPort).bound())
	wantEcho(t, "socks5://"+microsocks(t)+",http://"+ncatProxy(t)+",socks4a://127.0.0.1:"+port+",tcp://localhost:"+echoServer(t))
}

// TestBindThroughProxies: a server behind a proxy is called back there.
func TestBindThroughProxies(t *testing.T) {
	t.Parallel()
	for _, server := range []struct {
		name  string
		start func(*testing.T) string
	}{
		{"dante", danted},
		{"ours", func(t *testing.T) string {
			_, port := hostPort(t, anysock(t, nil, "proxy", anyPort).bound())
			return "127.0.0.1:" + port
		}},
	} {
		t.Run(server.name, func(t *testing.T) {
			t.Parallel()
			proxy := server.start(t)
			for _, scheme := range []string{"socks5", "socks4"} {
				l := anysockPiped(t, "listen", scheme+"://"+proxy+",tcp://:0?peer=127.0.0.1")
				at := l.bound()
				c := anysockPiped(t, "connect", at)
				c.write("from the caller\n")
				l.says("(?m)^from the caller$")
				l.write("from the listener\n")
				c.says("(?m)^from the listener$")
				c.endInput()
				l.endInput()
				l.ok()
				c.ok()
			}
			nobody := anysock(t, nil, "listen", "--timeout", "100ms", "socks5://"+proxy+",tcp://:0?peer=127.0.0.1")
			nobody.wantStatus(8)
			nobody.complains("nobody connected within 100ms")
		})
	}
}

// TestBindRefused: microsocks has none.
func TestBindRefused(t *testing.T) {
	t.Parallel()
	l := anysock(t, nil, "listen", "socks5://"+microsocks(t)+",tcp://:0")
	l.wantStatus(statusHop)
	l.complains(`command not supported \(reply 7\)\s+try: the proxy has no BIND`)
}

// TestThroughOpenSSH: ssh -D is a proxy for SOCKS4, 4a and 5.
func TestThroughOpenSSH(t *testing.T) {
	t.Parallel()
	k, echo, port := newSSHKeys(t), echoServer(t), closedPort(t)
	_, bastion := sshd(t, k)
	argv := k.ssh(t, bastion, "-N", "-D", "127.0.0.1:"+port)
	argv[len(argv)-1] = me(t) + "@127.0.0.1"
	untilListens(t, start(t, command{argv: argv}), port)
	for _, scheme := range []string{"socks5", "socks4", "socks4a"} {
		wantEcho(t, scheme+"://127.0.0.1:"+port+",tcp://127.0.0.1:"+echo)
	}
	for _, scheme := range []string{"socks5", "socks4a"} {
		wantEcho(t, scheme+"://127.0.0.1:"+port+",tcp://localhost:"+echo)
	}
	wantRefusal(t, "socks5://127.0.0.1:"+port+",tcp://127.0.0.1:"+closedPort(t), statusHop, `\(reply \d\)|hung up`)
	l := anysock(t, nil, "listen", "socks5://127.0.0.1:"+port+",tcp://:0")
	l.wantStatus(statusHop)
	l.complains(`\(reply 7\)\s+try: the proxy has no BIND|hung up`)
}
