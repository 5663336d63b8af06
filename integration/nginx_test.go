// nginx behind the relay, as an HTTP server and as a relay of its own, and
// curl in front of it.

package integration_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// nginx starts it, as one process, with the contents of its http and stream blocks. It listens
// on Unix sockets in dir alone, and is stopped at the end of the test.
func nginx(t *testing.T, dir, http, stream string) {
	t.Helper()
	path := need(t, "nginx")
	var config strings.Builder
	if stream != "" {
		module := "/usr/lib/nginx/modules/ngx_stream_module.so"
		if _, err := os.Stat(module); err == nil {
			fmt.Fprintf(&config, "load_module %s;\n", module)
		} else if _, err := os.Stat("/usr/lib/nginx/modules"); err == nil {
			t.Skip("nginx's stream module is not installed")
		}
	}
	if os.Getuid() == 0 {
		config.WriteString("user root;\n") // its workers read what is ours
	}
	fmt.Fprintf(&config, "daemon off;\nmaster_process off;\npid %s/pid;\nerror_log stderr warn;\nevents {}\n", dir)
	if http != "" {
		fmt.Fprintf(&config, "http {\naccess_log off;\n")
		for _, kind := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
			fmt.Fprintf(&config, "%s_temp_path %s/%[1]s;\n", kind, dir)
		}
		config.WriteString(http + "\n}\n")
	}
	if stream != "" {
		config.WriteString("stream {\n" + stream + "\n}\n")
	}
	file := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(file, []byte(config.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	p := start(t, command{argv: []string{path, "-e", "stderr", "-p", dir, "-c", file}})
	until(t, "nginx runs", func() bool {
		select {
		case <-p.exited:
			t.Fatalf("nginx ended: %s", p.errs.String())
		default:
		}
		pid, err := os.ReadFile(filepath.Join(dir, "pid"))
		return err == nil && len(pid) > 0
	})
	t.Cleanup(func() {
		p.signal(syscall.SIGTERM)
		p.ok()
	})
}

// curl runs it and returns what it printed.
func curl(t *testing.T, args ...string) string {
	t.Helper()
	// -q: no configuration of the user's, --noproxy: nor of the environment's.
	p := start(t, command{argv: append([]string{need(t, "curl"), "-qsS", "--noproxy", "*", "--max-time", "15"}, args...)})
	p.ok()
	return p.out.String()
}

// Several requests on one connection, small and large, and one with a body.
func TestNginxBehindRelay(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	large := data(20 << 20)
	for name, content := range map[string][]byte{"small": []byte("small file\n"), "large": large} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	nginx(t, dir, fmt.Sprintf(`server {
	listen unix:%[1]s/http;
	keepalive_timeout 10s;
	client_max_body_size 100m;
	root %[1]s;
	location /put { proxy_pass http://unix:%[1]s/http:/length; } # when it has the whole body
	location /length { return 200 "$content_length"; }
}`, dir), "")
	r, address := relay(t, anyPort, "unix:"+dir+"/http")
	host, port := hostPort(t, address)
	url := "http://" + host + ":" + port
	got := curl(t, "-o", dir+"/got1", "-o", dir+"/got2", "-o", dir+"/got3", "-w", "%{http_code} %{num_connects} %{size_download}\n",
		url+"/small", url+"/large", url+"/small")
	want := fmt.Sprintf("200 1 11\n200 0 %d\n200 0 11\n", len(large))
	if got != want {
		t.Errorf("curl made these requests: %q, want %q", got, want)
	}
	arrived, err := os.ReadFile(dir + "/got2")
	if err != nil {
		t.Fatal(err)
	}
	wantSame(t, "curl", string(arrived), large)
	if n := curl(t, "-H", "Expect:", "--data-binary", "@"+dir+"/large", url+"/put"); n != strconv.Itoa(len(large)) {
		t.Errorf("nginx says that the request had %s bytes", n)
	}
	r.complains(`(?s)graceful.*graceful`) // a connection for each curl
}

// A server that ends after its answer (HTTP/1.0) is an end for curl too.
func TestNginxCloses(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	nginx(t, dir, fmt.Sprintf(`server { listen unix:%s/http; location / { return 200 "answer"; } }`, dir), "")
	r, address := relay(t, anyPort, "unix:"+dir+"/http")
	host, port := hostPort(t, address)
	if got := curl(t, "--http1.0", "http://"+host+":"+port+"/"); got != "answer" {
		t.Errorf("%q", got)
	}
	r.complains(`graceful`) // curl knows the length, and may end first
}

// connect speaks HTTP by hand.
func TestNginxConnect(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	nginx(t, dir, fmt.Sprintf(`server { listen unix:%s/http; location / { return 200 "answer"; } }`, dir), "")
	p := anysock(t, []byte("GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"), "connect", "unix:"+dir+"/http")
	p.ok()
	p.says(`(?s)^HTTP/1\.1 200 OK\r\n.*\r\n\r\nanswer$`)
}

// nginx's own relay between two of ours.
func TestNginxStream(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	for _, mode := range []string{"echo", "late"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			dir := dir + "/" + mode
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			srv, target := server(t, mode, loopback)
			_, behind := relay(t, "unix:"+dir+"/behind", target)
			nginx(t, dir, "", fmt.Sprintf("server { listen unix:%s/stream; proxy_pass %s; proxy_half_close on; }", dir, behind))
			_, from := relay(t, anyPort, "unix:"+dir+"/stream")
			sent := data(1 << 20)
			want := sent
			if mode == "late" {
				want = fmt.Appendf(nil, "late reply to %d bytes", len(sent))
			}
			client(t, "talk", from, sent).report().wantEOF(t, "the client", want)
			srv.report().wantEOF(t, "the server", sent)
		})
	}
}
