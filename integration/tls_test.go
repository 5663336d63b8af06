// TLS with programs that nobody here wrote: openssl, nginx, curl and Python.

package integration_test

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/anysock/anysock/internal/testcert"
)

var tlsVersions = []string{"1.2", "1.3"}

// tlsFiles are the certificates of one test.
type tlsFiles struct {
	*testcert.Authority
	server, client testcert.Certificate
}

func newTLSFiles(t *testing.T) tlsFiles {
	t.Helper()
	a := testcert.New(t)
	return tlsFiles{a, a.Server(t), a.Client(t, "alice")}
}

// serving are the options of our listener.
func (f tlsFiles) serving(more ...string) string {
	return "?" + strings.Join(append([]string{"cert=file:" + f.server.CertFile, "key=file:" + f.server.KeyFile}, more...), "&")
}

// trusting are those of our client.
func (f tlsFiles) trusting(more ...string) string {
	return "?" + strings.Join(append([]string{"ca=file:" + f.File}, more...), "&")
}

// presenting are those of a client that has a certificate.
func (f tlsFiles) presenting() string {
	return f.trusting("cert=file:"+f.client.CertFile, "key=file:"+f.client.KeyFile)
}

// opensslClient starts s_client with a standard input that the test writes; it
// verifies the server.
func (f tlsFiles) opensslClient(t *testing.T, address, version string, args ...string) *process {
	t.Helper()
	host, port := hostPort(t, address)
	return start(t, command{argv: append([]string{
		need(t, "openssl"), "s_client", "-connect", host + ":" + port, "-servername", "localhost", "-verify_hostname", "localhost",
		"-CAfile", f.File, "-verify_return_error", "-brief", "-tls" + strings.ReplaceAll(version, ".", "_"),
	}, args...), pipe: true})
}

// opensslServer starts s_server for one connection, which sends each line
// back reversed, and returns our address of it without options.
func (f tlsFiles) opensslServer(t *testing.T, version string, args ...string) (*process, string) {
	t.Helper()
	p := start(t, command{argv: append([]string{
		need(t, "openssl"), "s_server", "-accept", "127.0.0.1:0", "-naccept", "1", "-rev",
		"-cert", f.server.CertFile, "-key", f.server.KeyFile, "-tls" + strings.ReplaceAll(version, ".", "_"),
	}, args...)})
	return p, "tls://" + p.says(`ACCEPT (\S+)`)[1]
}

// A session of openssl's client with our server, with key updates in the middle
// of it, which TLS 1.3 has and our reader answers.
func TestTLSOpenSSLClient(t *testing.T) {
	t.Parallel()
	f := newTLSFiles(t)
	for _, version := range tlsVersions {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			srv := anysock(t, nil, "echo", "-v", "tls://127.0.0.1:0"+f.serving("min="+version))
			c := f.opensslClient(t, withoutOptions(srv.bound()), version)
			c.complains(`Protocol version: TLSv` + strings.ReplaceAll(version, ".", `\.`))
			c.complains(`Verification: OK`)
			c.write("abc\n")
			c.says(`(?m)^abc$`)
			if version == "1.3" {
				for n := range 3 {
					c.write("K\n") // update our keys, and ask the server to update its own
					c.complains(fmt.Sprintf(`(?s)(KEYUPDATE.*){%d}`, n+1))
				}
			}
			c.write("after\n")
			c.says(`(?m)^after$`)
			c.write("Q\n")
			c.ok()
			srv.complains(`graceful`)
			srv.signal(syscall.SIGTERM)
			srv.ok()
		})
	}
}

// withoutOptions is an address as the other side needs it.
func withoutOptions(address string) string {
	address, _, _ = strings.Cut(address, "?")
	return address
}

// Our client with openssl's server.
func TestTLSOpenSSLServer(t *testing.T) {
	t.Parallel()
	f := newTLSFiles(t)
	for _, version := range tlsVersions {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			srv, address := f.opensslServer(t, version)
			p := anysockPiped(t, "connect", address+f.trusting())
			for _, line := range []string{"abc", "a longer line"} {
				p.write(line + "\n")
				p.says(`(?m)^` + reversed(line) + `$`)
			}
			p.write("CLOSE\n") // the server ends at this word
			p.endInput()
			p.ok()
			srv.ok()
		})
	}
}

// Both sides have certificates, whichever of them is openssl's.
func TestTLSOpenSSLMutual(t *testing.T) {
	t.Parallel()
	f := newTLSFiles(t)
	for _, version := range tlsVersions {
		t.Run("server/"+version, func(t *testing.T) {
			t.Parallel()
			srv, address := f.opensslServer(t, version, "-Verify", "1", "-verify_return_error", "-CAfile", f.File)
			p := anysockPiped(t, "connect", address+f.presenting())
			p.write("abc\n")
			p.says(`(?m)^cba$`)
			p.write("CLOSE\n")
			p.endInput()
			p.ok()
			srv.ok()
		})
		t.Run("server_refuses/"+version, func(t *testing.T) {
			t.Parallel()
			_, address := f.opensslServer(t, version, "-Verify", "1", "-verify_return_error", "-CAfile", f.File)
			// TLS 1.3 tells a client only after its handshake.
			failing{[]string{"connect", address + f.trusting()}, 6, []string{`remote error: tls: `, `cert=file:PATH`}}.check(t)
		})
		t.Run("client/"+version, func(t *testing.T) {
			t.Parallel()
			srv := anysock(t, nil, "echo", "tls://127.0.0.1:0"+f.serving("clientca=file:"+f.File, "clientname=alice"))
			address := withoutOptions(srv.bound())
			c := f.opensslClient(t, address, version, "-cert", f.client.CertFile, "-key", f.client.KeyFile)
			c.write("abc\n")
			c.says(`(?m)^abc$`)
			c.write("Q\n")
			c.ok()
			other := f.Client(t, "mallory")
			for _, args := range [][]string{nil, {"-cert", other.CertFile, "-key", other.KeyFile}} {
				c := f.opensslClient(t, address, version, args...)
				c.complains(`alert (certificate required|bad certificate|handshake failure)`)
				c.wantStatus(1)
			}
		})
	}
}

// listen serves one client of openssl's and ends with it.
func TestTLSListen(t *testing.T) {
	t.Parallel()
	f := newTLSFiles(t)
	p := anysockPiped(t, "listen", "tls://127.0.0.1:0"+f.serving())
	c := f.opensslClient(t, withoutOptions(p.bound()), "1.3")
	c.write("question\n")
	p.says(`(?m)^question$`)
	p.write("answer\n")
	c.says(`(?m)^answer$`)
	p.endInput()
	c.write("Q\n")
	c.ok()
	p.ok()
}

// What is wrong with a certificate is status 6, with what to try.
func TestTLSStatus(t *testing.T) {
	t.Parallel()
	f := newTLSFiles(t)
	for _, tt := range []struct {
		name    string
		server  testcert.Certificate
		options string
		says    []string
	}{
		{"unknown authority", f.server, "", []string{`unknown authority`, `ca=file:PATH`}},
		{"self-signed", testcert.SelfSigned(t), f.trusting(), []string{`self-signed`, `insecure=skip-verify`}},
		{"expired", f.Expired(t), f.trusting(), []string{`expired`, `clock`}},
		{"wrong name", f.server, f.trusting("sni=db.example"), []string{`db\.example`, `sni=NAME`}},
		{"old version", f.server, f.trusting("min=1.3"), []string{`version`}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := f
			f.server = tt.server
			_, address := f.opensslServer(t, "1.2")
			failing{[]string{"connect", address + tt.options}, 6, tt.says}.check(t)
		})
	}
	t.Run("not TLS", func(t *testing.T) {
		t.Parallel()
		_, address := server(t, "source", loopback, "1000")
		failing{[]string{"connect", strings.Replace(address, "tcp:", "tls:", 1)}, 6, []string{`does not speak TLS`}}.check(t)
	})
	failing{[]string{"listen", "tls://127.0.0.1:0"}, 2, []string{`cert=file:PATH`}}.check(t)
	failing{[]string{"connect", "tls://127.0.0.1:1?insecure=yes"}, 2, []string{`skip-verify`}}.check(t)
	t.Run("not verified", func(t *testing.T) {
		t.Parallel()
		f := f
		f.server = testcert.SelfSigned(t)
		srv, address := f.opensslServer(t, "1.3")
		p := anysock(t, []byte("CLOSE\n"), "connect", address+"?insecure=skip-verify")
		p.ok()
		p.complains(`not verified`)
		srv.ok()
	})
}

// tlsServer starts tls.py and returns our address of it without options.
func (f tlsFiles) pythonServer(t *testing.T, mode, version string, more ...string) (python, string) {
	t.Helper()
	p := script(t, "tls.py", nil, append([]string{"server", mode, f.server.CertFile, f.server.KeyFile, version}, more...)...)
	return p, strings.Replace(addressIn(t, p.says(`(?m)^\{.*\}$`)[0]), "tcp:", "tls:", 1)
}

// Python's ssl module on either side: half-close with a late reply, each end a
// close_notify, and what is none told apart.
func TestTLSPythonServer(t *testing.T) {
	t.Parallel()
	f := newTLSFiles(t)
	for _, version := range tlsVersions {
		t.Run("late/"+version, func(t *testing.T) {
			t.Parallel()
			srv, address := f.pythonServer(t, "late", version)
			sent := data(1 << 20)
			p := anysock(t, sent, "connect", address+f.trusting())
			p.ok()
			wantSame(t, "standard output", p.out.String(), fmt.Appendf(nil, "late reply to %d bytes", len(sent)))
			srv.report().wantEOF(t, "the server", sent)
		})
		t.Run("mutual/"+version, func(t *testing.T) {
			t.Parallel()
			srv, address := f.pythonServer(t, "late", version, f.File)
			p := anysock(t, []byte("x"), "connect", address+f.presenting())
			p.ok()
			srv.report().wantEOF(t, "the server", []byte("x"))
		})
		t.Run("rude/"+version, func(t *testing.T) {
			t.Parallel()
			_, address := f.pythonServer(t, "rude", version)
			p := anysock(t, []byte("x"), "connect", address+f.trusting())
			p.wantStatus(7)
			p.complains(`without close_notify`)
			p.says(`^late reply to 1 bytes$`)
		})
		t.Run("killed/"+version, func(t *testing.T) {
			t.Parallel()
			srv, address := f.pythonServer(t, "half", version)
			p := anysockPiped(t, "connect", address+f.trusting())
			until(t, "half of it is there", func() bool { return len(p.out.String()) == 1000 })
			srv.signal(syscall.SIGKILL) // whose kernel sends a FIN
			p.wantStatus(7)
			p.complains(`truncated`)
		})
		t.Run("reset/"+version, func(t *testing.T) {
			t.Parallel()
			_, address := f.pythonServer(t, "reset", version)
			p := anysock(t, []byte("x"), "connect", address+f.trusting())
			p.wantStatus(7)
			p.complains(`aborted by peer`)
		})
	}
}

func TestTLSPythonClient(t *testing.T) {
	t.Parallel()
	f := newTLSFiles(t)
	for _, version := range tlsVersions {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			srv := anysock(t, nil, "echo", "-v", "tls://127.0.0.1:0"+f.serving("clientca=file:"+f.File, "clientname=alice"))
			_, port := hostPort(t, withoutOptions(srv.bound()))
			// This client sends all before it reads, so it must fit in the buffers.
			sent := data(200_000)
			script(t, "tls.py", sent, "client", "talk", port, f.File, version, f.client.CertFile, f.client.KeyFile).report().wantEOF(t, "the client", sent)
			srv.complains(`graceful`)
		})
	}
}

// The relay ends TLS in front of a plain server, and begins it in front of a
// plain client; a half-close passes, and so does the other side's death.
func TestTLSRelay(t *testing.T) {
	t.Parallel()
	f := newTLSFiles(t)
	srv, target := server(t, "late", loopback)
	_, inner := relay(t, "tls://127.0.0.1:0"+f.serving(), target)
	_, outer := relay(t, anyPort, withoutOptions(inner)+f.trusting())
	sent := data(1 << 20)
	client(t, "talk", outer, sent).report().wantEOF(t, "the client", fmt.Appendf(nil, "late reply to %d bytes", len(sent)))
	srv.report().wantEOF(t, "the server", sent)

	dying, target := f.pythonServer(t, "half", "1.3")
	_, outer = relay(t, anyPort, target+f.trusting())
	p := anysockPiped(t, "connect", outer)
	until(t, "half of it is there", func() bool { return len(p.out.String()) == 1000 })
	dying.signal(syscall.SIGKILL)
	p.wantStatus(7)
}

// nginx ends TLS in front of a server of ours, and speaks it to one; ours
// does in front of nginx.
func TestTLSNginx(t *testing.T) {
	t.Parallel()
	f := newTLSFiles(t)
	dir := shortDir(t)
	if err := os.WriteFile(dir+"/large", data(20<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	plain, behind := anysock(t, nil, "echo", "unix:"+dir+"/plain"), anysock(t, nil, "echo", "tls+unix:"+dir+"/tls"+f.serving("clientca=file:"+f.File, "clientname=alice"))
	plain.bound()
	behind.bound()
	stream := fmt.Sprintf(`ssl_certificate %[2]s; ssl_certificate_key %[3]s; ssl_protocols TLSv1.2 TLSv1.3;
server { listen unix:%[1]s/front ssl; proxy_pass unix:%[1]s/plain; }
server { listen unix:%[1]s/front2 ssl; proxy_pass unix:%[1]s/plain2; }
server {
	listen unix:%[1]s/towards;
	proxy_pass unix:%[1]s/tls;
	proxy_ssl on; proxy_ssl_verify on; proxy_ssl_trusted_certificate %[4]s; proxy_ssl_name localhost; proxy_ssl_server_name on;
	proxy_ssl_certificate %[5]s; proxy_ssl_certificate_key %[6]s; proxy_ssl_protocols TLSv1.2 TLSv1.3;
}`, dir, f.server.CertFile, f.server.KeyFile, f.File, f.client.CertFile, f.client.KeyFile)
	nginx(t, dir, fmt.Sprintf("server { listen unix:%[1]s/http; root %[1]s; }", dir), stream)

	front := "tls+unix:" + dir + "/front" + f.trusting("sni=localhost")
	for address, status := range map[string]int{front: 7, "unix:" + dir + "/towards": 0} {
		p := anysockPiped(t, "connect", address)
		for _, line := range []string{"abc", strings.Repeat("long ", 10_000)} {
			p.write(line + "\n")
			p.says(`(?m)^` + line + `$`)
		}
		p.endInput()
		p.wantStatus(status)
		if status != 0 {
			// nginx sends no close_notify once it has ours: nobody can tell its end
			// from a cut.
			p.complains(`without close_notify`)
		}
	}
	// When the server behind it ends first, nginx says so.
	srv, _ := server(t, "source", dir+"/plain2", "100000")
	p := anysockPiped(t, "connect", "--trace", "tls+unix:"+dir+"/front2"+f.trusting("sni=localhost"))
	until(t, "all of it is there", func() bool { return len(p.out.String()) == 100_000 })
	p.complains(` tls read .*: EOF`)
	p.endInput()
	p.ok()
	srv.report()

	_, outer := relay(t, "tls://127.0.0.1:0"+f.serving(), "unix:"+dir+"/http")
	_, port := hostPort(t, withoutOptions(outer))
	curl(t, "--cacert", f.File, "-o", dir+"/got", "--resolve", "localhost:"+port+":127.0.0.1", "https://localhost:"+port+"/large")
	got, err := os.ReadFile(dir + "/got")
	if err != nil {
		t.Fatal(err)
	}
	wantSame(t, "curl", string(got), data(20<<20))
}
