// WebSockets with peers of other makes: npm's ws on Node, curl, a client in
// Python that writes every byte itself, and a page in Chromium.

package integration_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// npmInstall installs what testdata/node names, once for all tests.
var npmInstall = sync.OnceValues(func() (modules string, err error) {
	dir := filepath.Join(filepath.Dir(binary), "node")
	if err := os.CopyFS(dir, os.DirFS(filepath.Join("testdata", "node"))); err != nil {
		return "", err
	}
	cmd := exec.Command("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retries=1", "--fetch-timeout=15000")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("npm ci: %w: %.300s", err, out)
	}
	return filepath.Join(dir, "node_modules"), nil
})

// node starts peer.js.
func node(t *testing.T, env []string, args ...string) *process {
	t.Helper()
	program := need(t, "node")
	need(t, "npm")
	modules, err := npmInstall()
	if err != nil {
		t.Skip("npm's ws cannot be installed: no network, or no registry: ", err)
	}
	argv := append([]string{program, filepath.Join("testdata", "node", "peer.js")}, args...)
	return start(t, command{argv: argv, env: append(env, "NODE_PATH="+modules)})
}

// known is the n bytes that peer.js knows too.
func known(n int) []byte {
	p := make([]byte, n)
	for i := range p {
		j := i & 0xffff
		p[i] = byte(j*7 + j>>8)
	}
	return p
}

// A Node client sends and gets back messages of many sizes and fragments, pings,
// and closes; over plain TCP and TLS.
func TestNodeClientEcho(t *testing.T) {
	t.Parallel()
	for _, scheme := range []string{"ws", "wss"} {
		t.Run(scheme, func(t *testing.T) {
			t.Parallel()
			options, env := "?origin=https://app.example", []string{"TEST_ORIGIN=https://app.example"}
			if scheme == "wss" {
				dir := t.TempDir()
				certificate(t, dir)
				options += "&cert=file:" + dir + "/cert&key=file:" + dir + "/key"
				env = append(env, "TEST_CA="+dir+"/cert")
			}
			p := anysock(t, nil, "echo", "-v", scheme+"://127.0.0.1:0/chat"+options)
			url, _, _ := strings.Cut(p.bound(), "?")
			url = strings.Replace(url, "127.0.0.1", "localhost", 1)
			c := node(t, env, "dial", url, "echo", "3000000")
			c.says(`"open":true,"extensions":""`)
			c.says(`"echoed":3000000,"same":true,"pong":true`)
			c.says(`"closed":1000`)
			c.ok()
			p.complains(`graceful`)
		})
	}
}

// certificate makes a key and a certificate for localhost.
func certificate(t *testing.T, dir string) {
	t.Helper()
	start(t, command{argv: []string{
		need(t, "openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1",
		"-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", dir + "/key", "-out", dir + "/cert",
	}}).ok()
}

// How a Node client ends is what our side sees.
func TestNodeClientEnds(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		mode   []string
		status int
		says   string // by us
		closed string // by Node
	}{
		{[]string{"close", "1000"}, 0, "", `"closed":1000`},
		{[]string{"close", "4001"}, 7, `code 4001: "so it is"`, `"closed":4001`},
		{[]string{"destroy"}, 7, "", `"closed":1006`},
		{[]string{"text"}, 7, "text message", `"closed":1003`},
	} {
		t.Run(strings.Join(tt.mode, "-"), func(t *testing.T) {
			t.Parallel()
			p := anysockPiped(t, "listen", "ws://127.0.0.1:0/")
			c := node(t, nil, append([]string{"dial", p.bound()}, tt.mode...)...)
			if tt.mode[0] != "text" {
				p.says("hello")
				p.write("bye\n")
			}
			c.says(tt.closed)
			c.ok()
			p.endInput()
			p.wantStatus(tt.status)
			if tt.says != "" {
				p.complains(tt.says)
			}
		})
	}
}

// A page of a foreign origin gets 403.
func TestNodeClientOfForeignOrigin(t *testing.T) {
	t.Parallel()
	p := anysock(t, nil, "echo", "ws://127.0.0.1:0/")
	c := node(t, []string{"TEST_ORIGIN=https://evil.example"}, "dial", p.bound(), "wait")
	c.says(`"status":403`)
}

// nodeServer starts one and returns its address.
func nodeServer(t *testing.T, mode ...string) (*process, string) {
	t.Helper()
	s := node(t, nil, append([]string{"serve"}, mode...)...)
	return s, strings.Replace(addressIn(t, s.says(`(?m)^\{.*\}$`)[0]), "tcp://", "ws://", 1)
}

// A Node server gets our bytes in binary messages of at most 64 KiB, returns
// them, and closes.
func TestNodeServerEcho(t *testing.T) {
	t.Parallel()
	const n = 3_000_000
	s, address := nodeServer(t, "return", fmt.Sprint(n))
	input := known(n)
	c := anysock(t, input, "connect", address+"/a%20b?header=X-Test:it&query=x=y")
	c.ok()
	if c.out.String() != string(input) {
		t.Errorf("%d bytes came back of %d, or others", len(c.out.String()), n)
	}
	s.says(`"path":"/a%20b\?x=y","host":"127\.0\.0\.1:\d+","header":"it"`)
	s.says(`"returned":3000000,"largest":65536`)
	s.says(`"closed":1000`)
	s.ok()
}

// How a Node server ends is what our client sees, and says by its status.
func TestNodeServerEnds(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		mode   []string
		status int
		says   string
	}{
		{[]string{"close", "1000"}, 0, ""},
		{[]string{"close", "1001"}, 0, ""},
		{[]string{"close", "1011"}, 7, `code 1011: "so it is"`},
		{[]string{"destroy"}, 7, ""},
		{[]string{"cut"}, 7, "without a close frame"},
	} {
		t.Run(strings.Join(tt.mode, "-"), func(t *testing.T) {
			t.Parallel()
			_, address := nodeServer(t, tt.mode...)
			c := anysockPiped(t, "connect", "--half-open=no", address)
			c.says("hello")
			c.write("bye\n")
			c.wantStatus(tt.status)
			if tt.says != "" {
				c.complains(tt.says)
			}
		})
	}
}

// Our end is 1000 behind all bytes, our abort is not 1000.
func TestOurEndsToNode(t *testing.T) {
	t.Parallel()
	const n = 1_000_000
	s, address := nodeServer(t, "wait")
	c := anysock(t, known(n), "connect", address)
	c.complains("waiting for the peer's end")
	c.signal(syscall.SIGTERM)
	sum := sha256.Sum256(known(n))
	s.says(`"received":1000000,"sha256":"` + hex.EncodeToString(sum[:]) + `"`)
	s.says(`"closed":1000`)
	s.ok()
	c.ok()

	p := anysock(t, nil, "echo", "--drain", "100ms", "ws://127.0.0.1:0/")
	d := node(t, nil, "dial", p.bound(), "wait")
	d.says(`"open":true`)
	p.signal(syscall.SIGTERM)
	d.says(`"closed":(1011|1006)`)
	d.ok()
	p.wantStatus(7)
}

// A Python client that writes every byte.
func TestPythonWebSocketClient(t *testing.T) {
	t.Parallel()
	p := anysock(t, nil, "echo", "-v", "ws://127.0.0.1:0/py")
	host, port := hostPort(t, strings.TrimSuffix(p.bound(), "/py"))
	c := script(t, "wsclient.py", nil, host, port, "/py")
	c.says(`\{"status": 101, "accepted": true, "same": true, "pongs": 7, "closed": 1000, "end": "eof"\}`)
	c.ok()
	p.complains("graceful")
}

// curl gets 101 for an upgrade and the right status for the rest.
func TestCurlUpgrade(t *testing.T) {
	t.Parallel()
	curl := need(t, "curl")
	p := anysock(t, nil, "echo", "ws://127.0.0.1:0/x")
	url := strings.Replace(p.bound(), "ws:", "http:", 1)
	ask := func(args ...string) *process {
		return start(t, command{argv: append([]string{curl, "--noproxy", "*", "--http1.1", "-sS", "-i", "-N", "--max-time", "10"}, args...)})
	}
	upgrade := []string{"-H", "Connection: Upgrade", "-H", "Upgrade: websocket", "-H", "Sec-WebSocket-Version: 13", "-H", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="}
	ask(append(upgrade, url)...).says(`^HTTP/1.1 101 (?s:.*)Sec-Websocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK\+xOo=`)
	for _, tt := range []struct {
		status string
		args   []string
	}{
		{"426", []string{url}},
		{"404", append(upgrade, url+"y")},
		{"405", append(upgrade, "-X", "POST", url)},
		{"403", append(upgrade, "-H", "Origin: https://evil.example", url)},
		{"431", append(upgrade, "-H", "X: "+strings.Repeat("x", 9000), url)},
	} {
		c := ask(tt.args...)
		c.says(`^HTTP/1.1 ` + tt.status + " ")
		c.ok() // the answer came whole
	}
}

// curl speaks ws itself from 7.86 on, where it was built so.
func TestCurlWebSocket(t *testing.T) {
	t.Parallel()
	curl := need(t, "curl")
	out, err := exec.Command(curl, "--version").Output()
	if err != nil || !strings.Contains(string(out), " ws ") {
		t.Skip("this curl was built without WebSocket")
	}
	p := anysock(t, []byte("hello"), "listen", "ws://127.0.0.1:0/")
	c := start(t, command{argv: []string{curl, "--noproxy", "*", "-sS", "-N", "--max-time", "10", p.bound()}})
	c.says("hello")
}

// A page in Chromium sends and gets bytes, and closes; where the option origin
// does not name its origin it is refused.
func TestChromiumWebSocket(t *testing.T) {
	t.Parallel()
	chromium := need(t, "chromium")
	for name, want := range map[string]string{
		"its own":   "open+200000+same+closed+1000+true",
		"another's": "closed+1006+false",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			site := newWebSite(t)
			origin := site.URL
			if name != "its own" {
				origin = "https://app.example"
			}
			p := anysock(t, nil, "echo", "ws://127.0.0.1:0/?origin="+origin)
			target, _, _ := strings.Cut(p.bound(), "?")
			site.target.Store(target)
			dir, err := os.MkdirTemp("", "chromium") //nolint:usetesting // its children write there a little longer than it lives
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { os.RemoveAll(dir) })
			c := start(t, command{argv: []string{
				chromium, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--user-data-dir=" + dir,
				"--no-first-run", "--disable-background-networking", "--disable-component-update", "--proxy-server=direct://",
				"--dump-dom", site.URL,
			}})
			select {
			case got := <-site.said:
				if got != want {
					t.Errorf("the page says %q, want %q", got, want)
				}
			case <-c.exited:
				t.Errorf("chromium has ended with status %d, and the page has said nothing", c.status())
			case <-time.After(lifetime):
				t.Error("the page says nothing")
			}
			c.status()
		})
	}
}

// A webSite serves the page. Its image comes when the page has said how it went,
// so that it has loaded no sooner.
type webSite struct {
	*httptest.Server
	target atomic.Value // a string: the address of the WebSocket server
	said   chan string
	over   chan struct{}
}

func newWebSite(t *testing.T) *webSite {
	t.Helper()
	s := &webSite{said: make(chan string, 1), over: make(chan struct{})}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/":
			w.Header().Set("Content-Type", "text/html")
			_, _ = io.WriteString(w, strings.ReplaceAll(webPage, "TARGET", s.target.Load().(string)))
		case "/said":
			s.said <- r.URL.RawQuery
			close(s.over)
		case "/image":
			select {
			case <-s.over:
			case <-r.Context().Done():
			}
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(s.Close)
	return s
}

const webPage = `<!DOCTYPE html><script>
const words = []
const data = new Uint8Array(200000).map((_, i) => i * 7)
const ws = new WebSocket('TARGET')
let back = []
ws.binaryType = 'arraybuffer'
ws.onopen = () => { words.push('open'); ws.send(data) }
ws.onmessage = (m) => {
  back = back.concat(...new Uint8Array(m.data))
  if (back.length < data.length) return
  words.push(back.length, back.every((b, i) => b === data[i]) ? 'same' : 'other')
  ws.close(1000)
}
ws.onclose = (e) => { words.push('closed', e.code, e.wasClean); fetch('/said?' + words.join('+')) }
</script><img src="/image">`
