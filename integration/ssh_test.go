// OpenSSH at the other end: its server as a hop of ours, its client at our
// listener, and as a user of connect.

package integration_test

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// sshKeys are a host's key and a user's, made by ssh-keygen.
type sshKeys struct{ dir, host, user, authorized string }

func newSSHKeys(t *testing.T) sshKeys {
	t.Helper()
	dir := shortDir(t)
	k := sshKeys{dir: dir, host: dir + "/host", user: dir + "/user", authorized: dir + "/authorized"}
	for _, path := range []string{k.host, k.user} {
		start(t, command{argv: []string{need(t, "ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", path}}).ok()
	}
	copyFile(t, k.user+".pub", k.authorized)
	return k
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// known writes a file of known hosts for the address.
func (k sshKeys) known(t *testing.T, address string) string {
	t.Helper()
	host, port := hostPort(t, "tcp://"+address)
	b, err := os.ReadFile(k.host + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	path := k.dir + "/known" + port
	if err := os.WriteFile(path, fmt.Appendf(nil, "[%s]:%s %s", host, port, b), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// sshd starts OpenSSH's server on a free port of loopback and returns its
// address.
func sshd(t *testing.T, k sshKeys, options ...string) (*process, string) {
	t.Helper()
	path, port := need(t, "sshd"), closedPort(t)
	if os.Getuid() == 0 {
		// Its unprivileged part lives there, and only the service makes it.
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil { //nolint:gosec // what the service makes
			t.Skip("sshd needs /run/sshd: ", err)
		}
	}
	config := strings.Join(append([]string{
		"ListenAddress 127.0.0.1:" + port, "HostKey " + k.host, "AuthorizedKeysFile " + k.authorized,
		"StrictModes no", "UsePAM no", "PermitRootLogin yes", "PidFile none", "LogLevel VERBOSE",
	}, options...), "\n") + "\n"
	file := k.dir + "/sshd_config"
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	p := start(t, command{argv: []string{path, "-D", "-e", "-f", file}})
	p.complains(`Server listening on`)
	return p, "127.0.0.1:" + port
}

// hop is the address of a hop through a server with these keys.
func (k sshKeys) hop(t *testing.T, address string) string {
	t.Helper()
	return "ssh://" + me(t) + "@" + address + "?key=file:" + k.user + "&knownhosts=file:" + k.known(t, address)
}

// me is the user that the tests run as: the only one that every sshd lets in.
func me(t *testing.T) string {
	t.Helper()
	u, err := user.Current()
	if err != nil {
		t.Skip(err)
	}
	return u.Username
}

func TestConnectBySSHD(t *testing.T) {
	t.Parallel()
	k := newSSHKeys(t)
	_, bastion := sshd(t, k)
	hop := k.hop(t, bastion)
	t.Run("tcp", func(t *testing.T) {
		srv, target := server(t, "echo", loopback)
		in := data(1 << 20)
		p := anysock(t, in, "connect", hop+","+target)
		p.ok()
		wantSame(t, "connect", p.out.String(), in)
		srv.report().wantEOF(t, "the server", in)
	})
	t.Run("unix", func(t *testing.T) {
		srv, target := server(t, "echo", filepath.Join(k.dir, "sock"))
		p := anysock(t, []byte(request), "connect", hop+","+target)
		p.ok()
		wantSame(t, "connect", p.out.String(), []byte(request))
		srv.report().wantEOF(t, "the server", []byte(request))
	})
	t.Run("late_reply", func(t *testing.T) {
		_, target := server(t, "late", loopback)
		p := anysock(t, []byte(request), "connect", hop+","+target)
		p.ok()
		wantSame(t, "connect", p.out.String(), lateReply)
	})
	t.Run("two_servers", func(t *testing.T) {
		inner := newSSHKeys(t)
		_, second := sshd(t, inner)
		_, target := server(t, "late", loopback)
		p := anysock(t, []byte(request), "connect", hop+","+inner.hop(t, second)+","+target)
		p.ok()
		wantSame(t, "connect", p.out.String(), lateReply)
	})
	// Everything arrives though the process ends when it is sent.
	t.Run("send_and_exit", func(t *testing.T) {
		for range 5 {
			srv, target := server(t, "sink", loopback)
			in := data(1 << 20)
			anysock(t, in, "connect", hop+","+target).ok()
			srv.report().wantEOF(t, "the server", in)
		}
	})
}

func TestConnectBySSHDRefused(t *testing.T) {
	t.Parallel()
	k := newSSHKeys(t)
	_, bastion := sshd(t, k, "PermitOpen 127.0.0.1:*")
	hop := k.hop(t, bastion)
	for name, tt := range map[string]struct {
		to     string
		status int
		words  []string
	}{
		"nobody_listens": {"tcp://127.0.0.1:" + closedPort(t), 5, []string{"Connection refused"}},
		"forbidden":      {"tcp://127.0.0.2:1", 5, []string{"administratively prohibited|forbids", "PermitOpen"}},
		"no_name":        {"tcp://nonexistent.invalid:1", 5, []string{"forbids|could not connect"}},
	} {
		t.Run(name, func(t *testing.T) {
			p := anysock(t, nil, "connect", hop+","+tt.to)
			p.wantStatus(tt.status)
			for _, w := range tt.words {
				if !regexp.MustCompile(w).MatchString(p.errs.String()) {
					t.Errorf("%q is not in %s", w, p.errs.String())
				}
			}
		})
	}
}

// Who is not who it should be: status 6, on either side.
func TestConnectBySSHDAuthentication(t *testing.T) {
	t.Parallel()
	k, other := newSSHKeys(t), newSSHKeys(t)
	_, bastion := sshd(t, k)
	to := ",tcp://127.0.0.1:1"
	base := "ssh://" + me(t) + "@" + bastion + "?key=file:"
	empty := filepath.Join(k.dir, "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct{ address, word string }{
		"changed_host_key": {base + k.user + "&knownhosts=file:" + other.known(t, bastion), "has changed"},
		"unknown_host_key": {base + k.user + "&knownhosts=file:" + empty, "ssh-keyscan"},
		"wrong_key":        {base + other.user + "&knownhosts=file:" + k.known(t, bastion), "does not let"},
	} {
		p := anysock(t, nil, "connect", tt.address+to)
		p.wantStatus(6)
		if !strings.Contains(p.errs.String(), tt.word) {
			t.Errorf("%s: %s", name, p.errs.String())
		}
	}
}

// A server that is killed in the middle of a download is no end of it.
func TestConnectBySSHDKilled(t *testing.T) {
	t.Parallel()
	k := newSSHKeys(t)
	p, bastion := sshd(t, k)
	_, target := server(t, "source", loopback, strconv.Itoa(64<<20))
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	c := start(t, command{argv: []string{binary, "connect", k.hop(t, bastion) + "," + target}, stdout: w})
	w.Close()
	if _, err := r.Read(make([]byte, 1000)); err != nil { // it has begun
		t.Fatal(err)
	}
	for _, pid := range children(t, p.cmd.Process.Pid) {
		child, err := os.FindProcess(pid)
		if err == nil {
			err = child.Kill()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	discard := make(chan struct{})
	go func() {
		defer close(discard)
		for buf := make([]byte, 1<<16); ; {
			if _, err := r.Read(buf); err != nil {
				return
			}
		}
	}()
	c.wantStatus(7)
	<-discard
}

// children are the processes below pid, which a server has made for its
// clients (proc(5)).
func children(t *testing.T, pid int) []int {
	t.Helper()
	b, err := os.ReadFile(sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		t.Skip("no list of child processes: ", err)
	}
	var all []int
	for _, f := range strings.Fields(string(b)) {
		n, err := strconv.Atoi(f)
		if err != nil {
			t.Fatal(err)
		}
		all = append(append(all, n), children(t, n)...)
	}
	return all
}

// ssh is OpenSSH's client, with nothing of the machine's configuration.
func (k sshKeys) ssh(t *testing.T, address string, more ...string) []string {
	t.Helper()
	host, port := hostPort(t, "tcp://"+address)
	argv := []string{
		need(t, "ssh"), "-F", "none", "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none", "-i", k.user,
		"-o", "UserKnownHostsFile=" + k.known(t, address), "-o", "GlobalKnownHostsFile=none", "-p", port,
	}
	return append(append(argv, more...), "anybody@"+host)
}

// sshRelay starts our relay from an ssh listener and returns its address.
func sshRelay(t *testing.T, k sshKeys, to string) (*process, string) {
	t.Helper()
	r, from := relay(t, "ssh://127.0.0.1:0?hostkey=file:"+k.host+"&authorized=file:"+k.authorized, to)
	_, address, _ := strings.Cut(from, "://")
	address, _, _ = strings.Cut(address, "?")
	return r, address
}

// OpenSSH's client at our listener: -W is one stream, and its ends are those of
// the target.
func TestSSHClientW(t *testing.T) {
	t.Parallel()
	k := newSSHKeys(t)
	t.Run("late_reply", func(t *testing.T) {
		_, target := server(t, "late", loopback)
		r, at := sshRelay(t, k, target)
		p := start(t, command{argv: k.ssh(t, at, "-W", "any:1"), input: []byte(request)})
		p.ok()
		wantSame(t, "ssh -W", p.out.String(), lateReply)
		r.complains(`graceful, inbound ended first`)
	})
	t.Run("download", func(t *testing.T) {
		const size = 8 << 20
		srv, target := server(t, "source", loopback, strconv.Itoa(size))
		_, at := sshRelay(t, k, target)
		p := start(t, command{argv: k.ssh(t, at, "-W", "any:1")})
		p.ok()
		wantSame(t, "ssh -W", p.out.String(), data(size))
		srv.report().wantEOF(t, "the server", nil)
	})
	t.Run("upload", func(t *testing.T) {
		in := data(4 << 20)
		srv, target := server(t, "echo", loopback)
		_, at := sshRelay(t, k, target)
		p := start(t, command{argv: k.ssh(t, at, "-W", "[::1]:1"), input: in})
		p.ok()
		wantSame(t, "ssh -W", p.out.String(), in)
		srv.report().wantEOF(t, "the server", in)
	})
	t.Run("killed_in_the_middle", func(t *testing.T) {
		target := anysockPiped(t, "listen", anyPort)
		r, at := sshRelay(t, k, target.bound())
		p := start(t, command{argv: k.ssh(t, at, "-W", "any:1"), pipe: true})
		p.write("half of")
		target.says(`half of`)
		p.signal(syscall.SIGKILL)
		target.wantStatus(7)
		r.complains(`truncated on inbound|aborted by peer on inbound`)
	})
	t.Run("no_shell", func(t *testing.T) {
		_, at := sshRelay(t, k, "echo:")
		p := start(t, command{argv: append(k.ssh(t, at), "id")})
		if p.status() == 0 || strings.Contains(p.out.String(), "uid") {
			t.Errorf("a command ran: %s", p.out.String())
		}
		p.complains(`ssh -W`)
	})
	t.Run("wrong_key", func(t *testing.T) {
		_, at := sshRelay(t, k, "echo:")
		stranger := newSSHKeys(t)
		stranger.host = k.host
		p := start(t, command{argv: stranger.ssh(t, at, "-W", "any:1")})
		if p.status() == 0 {
			t.Error("a stranger was let in")
		}
		p.complains(`Permission denied \(publickey\)`)
	})
}

// A target that has ended takes what still comes. (-W of OpenSSH stops sending
// then, with any server.)
func TestSSHClientLHalfClose(t *testing.T) {
	t.Parallel()
	k := newSSHKeys(t)
	target := anysock(t, nil, "listen", anyPort)
	r, at := sshRelay(t, k, target.bound())
	port := closedPort(t)
	p := start(t, command{argv: k.ssh(t, at, "-N", "-o", "ExitOnForwardFailure=yes", "-L", "127.0.0.1:"+port+":any:1")})
	portOf(t, p) // to look by connecting would take the target's one connection
	c, err := net.Dial("tcp", "127.0.0.1:"+port)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(c); err != nil || len(got) > 0 {
		t.Fatalf("%q, %v", got, err)
	}
	if _, err := io.WriteString(c, "late"); err != nil {
		t.Fatal(err)
	}
	c.Close()
	target.ok()
	wantSame(t, "listen", target.out.String(), []byte("late"))
	r.complains(`graceful, outbound ended first`)
}

// Many streams over one connection of ssh -L, and none but forwarding.
func TestSSHClientL(t *testing.T) {
	t.Parallel()
	k := newSSHKeys(t)
	_, at := sshRelay(t, k, "echo:")
	port := closedPort(t)
	p := start(t, command{argv: k.ssh(t, at, "-N", "-o", "ExitOnForwardFailure=yes", "-L", "127.0.0.1:"+port+":any:1")})
	untilListens(t, p, port)
	clients := make([]*process, 5)
	in := data(300_000)
	for i := range clients {
		clients[i] = anysock(t, in, "connect", "tcp://127.0.0.1:"+port)
	}
	for _, c := range clients {
		c.ok()
		wantSame(t, "connect", c.out.String(), in)
	}
	remote := start(t, command{argv: k.ssh(t, at, "-N", "-o", "ExitOnForwardFailure=yes", "-R", "127.0.0.1:0:any:1")})
	if remote.status() == 0 {
		t.Error("forwarding from the server to the client was granted")
	}
}

// connect is how ssh reaches its server.
func TestSSHProxyCommand(t *testing.T) {
	t.Parallel()
	k := newSSHKeys(t)
	_, target := server(t, "late", loopback)
	_, at := sshRelay(t, k, target)
	proxy := "ProxyCommand=" + binary + " connect tcp://%h:%p"
	p := start(t, command{argv: k.ssh(t, at, "-o", proxy, "-W", "any:1"), input: []byte(request)})
	p.ok()
	wantSame(t, "ssh -W", p.out.String(), lateReply)

	// And OpenSSH with itself, through us.
	_, bastion := sshd(t, k)
	argv := k.ssh(t, bastion, "-o", proxy)
	argv[len(argv)-1] = me(t) + "@127.0.0.1"
	p = start(t, command{argv: append(argv, "cat"), input: []byte(request)})
	p.ok()
	wantSame(t, "ssh", p.out.String(), []byte(request))
}

// Our two ends: both processes exit as soon as the stream has ended, and neither
// costs the other its ending.
func TestSSHListenAndConnect(t *testing.T) {
	t.Parallel()
	k := newSSHKeys(t)
	for range 5 {
		l := anysock(t, nil, "listen", "ssh://127.0.0.1:0?hostkey=file:"+k.host+"&authorized=file:"+k.authorized)
		_, at, _ := strings.Cut(l.bound(), "://")
		in := data(300_000)
		anysock(t, in, "connect", k.hop(t, at)+",tcp://any:1").ok()
		l.ok()
		wantSame(t, "listen", l.out.String(), in)
	}
}
