// Our proxy in front of what others wrote: curl, Python, ncat, Chromium and ssh
// as its clients.

package integration_test

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// ourProxy starts our proxy on a free port of loopback and returns it with its
// host:port.
func ourProxy(t *testing.T, options ...string) (*process, string) {
	t.Helper()
	p := anysock(t, nil, append([]string{"proxy", "-v", anyPort}, options...)...)
	return p, strings.TrimPrefix(p.bound(), "tcp://")
}

// usersFile has alice, whose password is s3cret.
func usersFile(t *testing.T) string {
	t.Helper()
	p := anysock(t, []byte("s3cret\n"), "proxy", "--hash-password", "alice")
	p.ok()
	path := filepath.Join(t.TempDir(), "users")
	if err := os.WriteFile(path, []byte(p.out.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

const page = "<html><body><p id=\"it\">the page behind the proxy</p></body></html>"

// webServer serves pages on a free port of loopback and returns that:
//
//	/       the page
//	/large  20 MiB
//	/cut    part of an answer of known length, then a reset
//	/open   part of an answer that ends with the connection, then a reset
func webServer(t *testing.T) (host, port string) {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/":
			w.Header().Set("Content-Type", "text/html")
			_, _ = io.WriteString(w, page)
		case "/large":
			_, _ = w.Write(data(20 << 20))
		case "/cut", "/open":
			c, rw, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			head := "HTTP/1.0 200 OK\r\n"
			if r.URL.Path == "/cut" {
				head += "Content-Length: 100000\r\n"
			}
			_, _ = rw.WriteString(head + "\r\n" + strings.Repeat("part ", 100))
			_ = rw.Flush()
			_ = c.(*net.TCPConn).SetLinger(0)
			c.Close()
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(s.Close)
	host, port, err := net.SplitHostPort(s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return host, port
}

// curlThrough runs curl and returns it, however it ends. curl's --noproxy is
// not given: it would go past the proxy.
func curlThrough(t *testing.T, args ...string) *process {
	t.Helper()
	p := start(t, command{argv: append([]string{need(t, "curl"), "-qsS", "--max-time", "15"}, args...), env: []string{"no_proxy=", "NO_PROXY="}})
	p.status()
	return p
}

// curlWays are curl's options for each protocol.
var curlWays = map[string][]string{
	"socks5":          {"--socks5"},
	"socks5-hostname": {"--socks5-hostname"},
	"socks4":          {"--socks4"},
	"socks4a":         {"--socks4a"},
	"http":            {"--proxytunnel", "--proxy"},
}

// The exit statuses of curl.
const (
	curlProxy   = 97 // the proxy refused
	curlReceive = 56 // a failure while receiving, also a refused CONNECT
	curlPartial = 18
)

func TestCurlThroughOurProxy(t *testing.T) {
	t.Parallel()
	_, port := webServer(t)
	proxy, at := ourProxy(t)
	large := data(20 << 20)
	for name, way := range curlWays {
		t.Run(name, func(t *testing.T) {
			got := filepath.Join(t.TempDir(), "got")
			c := curlThrough(t, append(way, at, "-o", got, "http://localhost:"+port+"/", "-o", got+"2", "http://localhost:"+port+"/large")...)
			c.ok()
			b, err := os.ReadFile(got)
			if err != nil || string(b) != page {
				t.Errorf("curl got %q, %v", b, err)
			}
			b, err = os.ReadFile(got + "2")
			if err != nil {
				t.Fatal(err)
			}
			wantSame(t, "curl", string(b), large)
		})
	}
	t.Run("plain HTTP", func(t *testing.T) {
		c := curlThrough(t, "--proxy", at, "-w", "%{http_code}", "http://localhost:"+port+"/")
		c.ok()
		c.says(`CONNECT, SOCKS4 and SOCKS5(?s).*405$`)
	})
	proxy.signal(syscall.SIGTERM)
	proxy.ok()
	for _, protocol := range []string{"socks4 ", "socks4a ", "socks5 ", "http "} {
		proxy.complains("(?m)^" + protocol + `CONNECT \S+:` + port + ` .*graceful`)
	}
}

func TestCurlLogsInToOurProxy(t *testing.T) {
	t.Parallel()
	_, port := webServer(t)
	_, at := ourProxy(t, "--users", "file:"+usersFile(t))
	url := "http://127.0.0.1:" + port + "/"
	for name, tt := range map[string]struct {
		way    string
		status int
		words  string
	}{
		"socks5":      {"socks5h://alice:s3cret@", 0, ""},
		"http":        {"http://alice:s3cret@", 0, ""},
		"socks5 bad":  {"socks5h://alice:wrong@", curlProxy, "rejected"},
		"socks5 none": {"socks5h://", curlProxy, "No authentication method|authentication"},
		"http bad":    {"http://alice:wrong@", curlReceive, "407"},
		"http none":   {"http://", curlReceive, "407"},
		"socks4":      {"socks4://alice@", curlProxy, "91"},
	} {
		t.Run(name, func(t *testing.T) {
			c := curlThrough(t, "--proxytunnel", "--proxy", tt.way+at, url)
			c.wantStatus(tt.status)
			if tt.status == 0 && c.out.String() != page {
				t.Errorf("curl got %q", c.out.String())
			}
			c.complains(tt.words)
		})
	}
}

func TestCurlIsRefusedByOurProxy(t *testing.T) {
	t.Parallel()
	_, at := ourProxy(t, "--deny", "to=denied.invalid", "--deny", "to=127.0.0.9")
	closed := closedPort(t)
	for _, tt := range []struct{ url, five, http string }{
		{"http://127.0.0.1:" + closed, `\(5\)`, "502"},
		{"http://nonexistent.invalid", `\(4\)`, "502"},
		{"http://x.denied.invalid", `\(2\)`, "403"},
		{"http://127.0.0.9:" + closed, `\(2\)`, "403"},
	} {
		c := curlThrough(t, "--socks5-hostname", at, tt.url)
		c.wantStatus(curlProxy)
		c.complains(tt.five)
		c = curlThrough(t, "--socks4a", at, tt.url)
		c.wantStatus(curlProxy)
		c.complains(`\(91\)`)
		c = curlThrough(t, "--proxytunnel", "--proxy", at, tt.url)
		c.wantStatus(curlReceive)
		c.complains(tt.http)
	}
}

// A reset of the server reaches curl as a failure. Where the length is not
// known, a clean end would have made half an answer a whole one.
func TestCurlSeesResetThroughOurProxy(t *testing.T) {
	t.Parallel()
	_, port := webServer(t)
	proxy, at := ourProxy(t)
	for name, way := range curlWays {
		for _, path := range []string{"/cut", "/open"} {
			t.Run(name+path, func(t *testing.T) {
				c := curlThrough(t, append(way, at, "http://127.0.0.1:"+port+path)...)
				if s := c.status(); s != curlReceive && (s != curlPartial || path != "/cut") {
					t.Errorf("curl ended with status %d: %s", s, c.errs.String())
				}
			})
		}
	}
	proxy.signal(syscall.SIGTERM)
	proxy.ok()
	if n := strings.Count(proxy.errs.String(), "aborted by peer on outbound"); n != 2*len(curlWays) {
		t.Errorf("%d aborts in %s", n, proxy.errs.String())
	}
}

// Python's HTTP client through CONNECT, with and without its password.
func TestPythonThroughOurProxy(t *testing.T) {
	t.Parallel()
	_, port := webServer(t)
	_, at := ourProxy(t, "--users", "file:"+usersFile(t))
	const program = `
import http.client, base64, sys
c = http.client.HTTPConnection(sys.argv[1], timeout=15)
h = {"Proxy-Authorization": "Basic " + base64.b64encode(sys.argv[3].encode()).decode()} if sys.argv[3] else {}
c.set_tunnel("localhost", int(sys.argv[2]), headers=h)
c.request("GET", "/")
r = c.getresponse()
print(r.status, r.read().decode())
`
	run := func(login string) *process {
		return start(t, command{argv: []string{need(t, "python3"), "-SEB", "-c", program, at, port, login}})
	}
	p := run("alice:s3cret")
	p.ok()
	p.says("^200 " + page + "\n$")
	for _, login := range []string{"", "alice:wrong", "mallory:s3cret"} {
		p := run(login)
		p.wantStatus(1)
		p.complains("407 Proxy Authentication Required")
	}
}

// ncat through each protocol, with a reply that comes a second after its end.
func TestNcatThroughOurProxy(t *testing.T) {
	t.Parallel()
	_, at := ourProxy(t)
	for _, protocol := range []string{"socks4", "socks5", "http"} {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			srv, target := server(t, "late", loopback)
			host, port := hostPort(t, target)
			p := start(t, command{
				argv:  []string{need(t, "ncat"), "--proxy", at, "--proxy-type", protocol, host, port},
				input: []byte(request),
			})
			p.ok()
			wantSame(t, "ncat", p.out.String(), lateReply)
			srv.report().wantEOF(t, "the server", []byte(request))
		})
	}
}

// A browser loads a page; names are resolved by the proxy.
func TestChromiumThroughOurProxy(t *testing.T) {
	t.Parallel()
	_, port := webServer(t)
	for _, protocol := range []string{"socks5", "http"} {
		t.Run(protocol, func(t *testing.T) {
			proxy, at := ourProxy(t)
			url := "http://localhost:" + port + "/"
			if protocol == "http" {
				// Through an HTTP proxy a browser asks for http: pages by GET,
				// which is refused with an explanation.
				p := chromium(t, at, protocol, url)
				p.says("This proxy serves CONNECT, SOCKS4 and SOCKS5")
				proxy.complains(`\(405 Method Not Allowed\)`)
				return
			}
			p := chromium(t, at, protocol, url)
			p.says("the page behind the proxy")
			proxy.complains(`socks5 CONNECT localhost:` + port + ` \(0 succeeded\)`)
		})
	}
}

func chromium(t *testing.T, at, protocol, url string) *process {
	t.Helper()
	dir := t.TempDir()
	p := start(t, command{
		argv: []string{
			need(t, "chromium"), "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--user-data-dir=" + dir,
			"--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync",
			"--proxy-server=" + protocol + "://" + at, "--proxy-bypass-list=<-loopback>", "--timeout=10000", "--dump-dom", url,
		},
		env: []string{"HOME=" + dir},
	})
	if s := p.status(); s != 0 {
		t.Fatalf("chromium ended with status %d: %.2000s", s, p.errs.String())
	}
	return p
}

// ssh with ncat through our proxy as its ProxyCommand.
func TestSSHThroughOurProxy(t *testing.T) {
	t.Parallel()
	k := newSSHKeys(t)
	_, address := sshd(t, k)
	_, at := ourProxy(t)
	host, port := hostPort(t, "tcp://"+address)
	for _, protocol := range []string{"socks5", "http"} {
		p := start(t, command{argv: []string{
			need(t, "ssh"), "-F", "none", "-p", port, "-i", k.user, "-o", "IdentitiesOnly=yes", "-o", "UserKnownHostsFile=" + k.known(t, address),
			"-o", "ProxyCommand=" + need(t, "ncat") + " --proxy " + at + " --proxy-type " + protocol + " %h %p", me(t) + "@" + host, "cat; echo done",
		}, input: data(200_000)})
		p.ok()
		wantSame(t, "ssh", p.out.String(), append(data(200_000), "done\n"...))
	}
}

// In a network of its own, with an address that is not loopback: a client from
// there reaches what is there, and neither this machine's loopback nor the
// proxy itself; an open proxy is refused.
func TestOurProxyForOthers(t *testing.T) {
	t.Parallel()
	need(t, "unshare")
	need(t, "ip")
	if err := start(t, command{argv: []string{"unshare", "--net", "ip", "link", "set", "lo", "up"}}).status(); err != 0 {
		t.Skip("no network namespace can be made here")
	}
	dir := shortDir(t)
	const script = `set -e
ip link set lo up
ip address add 192.0.2.1/24 dev lo
cd "$1"; a=$2
serve() { # NAME ARGS... : starts it, and waits for its address
	name=$1; shift
	"$a" "$@" 2> $name.log & echo $! >> pids
	i=0; until grep -q '^listening on' $name.log; do
		i=$((i+1)); test $i -lt 200 || { cat $name.log; exit 1; }; sleep 0.05
	done
}
trap 'kill $(cat pids)' EXIT
serve inside echo tcp://127.0.0.1:7001
serve outside echo tcp://192.0.2.1:7002
serve proxy proxy -v --allow from=192.0.2.0/24 tcp://192.0.2.1:1080
try() { # STATUS TARGET
	got=0; echo hello | "$a" connect "socks5://192.0.2.1:1080,$2" > out 2> err || got=$?
	echo "$2 $got $(cat out)"
	test $got = $1 || { cat err proxy.log; exit 1; }
}
try 0 tcp://192.0.2.1:7002
try 5 tcp://127.0.0.1:7001
try 5 'tcp://[::ffff:127.0.0.1]:7001'
try 5 tcp://localhost:7001
try 5 tcp://0.0.0.0:7001
try 5 tcp://192.0.2.1:1080
got=0; "$a" proxy tcp://192.0.2.1:1081 2> open || got=$?
test $got = 2; cat open
grep -c 'not allowed by ruleset' proxy.log
`
	p := start(t, command{argv: []string{"unshare", "--net", "sh", "-c", script, "sh", dir, binary}})
	p.ok()
	p.says(`tcp://192\.0\.2\.1:7002 0 hello`)
	p.says(`open proxy`)
	p.says(`(?m)^5$`)
}
