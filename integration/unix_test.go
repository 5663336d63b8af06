// Unix sockets, with a path and abstract, with socat, ncat and Python.

package integration_test

import (
	"errors"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"testing"
)

// unixNames are a path and an abstract name of the test's own.
func unixNames(t *testing.T) map[string]string {
	t.Helper()
	dir := shortDir(t)
	return map[string]string{"path": dir + "/s", "abstract": "@anysock-test" + strings.ReplaceAll(dir, "/", "-")}
}

// socatUnix is a name for socat, as the given word or its abstract sister.
func socatUnix(word, name string) string {
	if abstract, ok := strings.CutPrefix(name, "@"); ok {
		return "ABSTRACT-" + word + ":" + abstract
	}
	return "UNIX-" + word + ":" + name
}

func TestUnixSocatToListen(t *testing.T) {
	for kind, name := range unixNames(t) {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			want := data(200_000)
			p := anysock(t, want, "listen", "unix:"+name)
			p.bound()
			if kind == "path" {
				st, err := os.Stat(name)
				if err != nil || st.Mode().Perm() != 0o600 {
					t.Errorf("the socket file: %v, %v", st, err)
				}
			}
			socat := start(t, command{argv: []string{need(t, "socat"), "-t10", "STDIO", socatUnix("CONNECT", name)}, input: want})
			socat.ok()
			p.ok()
			wantSame(t, "listen", p.out.String(), want)
			wantSame(t, "socat", socat.out.String(), want)
			if _, err := os.Stat(name); kind == "path" && !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("the socket file is left behind: %v", err)
			}
		})
	}
}

func TestUnixConnectToSocat(t *testing.T) {
	for kind, name := range unixNames(t) {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			want := data(200_000)
			socat := start(t, command{argv: []string{need(t, "socat"), "-t10", "-dd", socatUnix("LISTEN", name), "STDIO"}, input: want})
			socat.complains(`listening on`)
			p := anysock(t, want, "connect", "unix:"+name)
			p.ok()
			socat.ok()
			wantSame(t, "connect", p.out.String(), want)
			wantSame(t, "socat", socat.out.String(), want)
		})
	}
}

func TestUnixNcat(t *testing.T) {
	t.Parallel()
	name := shortDir(t) + "/s"
	p := anysock(t, nil, "echo", "unix:"+name)
	p.bound()
	ncat := start(t, command{argv: []string{need(t, "ncat"), "-U", name}, input: data(100_000)})
	ncat.ok()
	wantSame(t, "ncat", ncat.out.String(), data(100_000))
}

// From a Unix socket to TCP and back again.
func TestUnixRelay(t *testing.T) {
	for kind, name := range unixNames(t) {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			want := data(1 << 20)
			srv, target := server(t, "echo", name)
			_, middle := relay(t, anyPort, target)
			other := unixNames(t)[kind]
			r, from := relay(t, "unix:"+other, middle)
			client(t, "talk", from, want).report().wantEOF(t, "the client", want)
			srv.report().wantEOF(t, "the server", want)
			r.complains(`graceful`)
			r.signal(syscall.SIGTERM)
			r.ok()
			if _, err := os.Stat(other); kind == "path" && !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("the socket file is left behind: %v", err)
			}
		})
	}
}

// A path that somebody listens on is refused, one that nobody listens on any
// more is taken over.
func TestUnixPathInUse(t *testing.T) {
	t.Parallel()
	name := shortDir(t) + "/s"
	socat := start(t, command{argv: []string{need(t, "socat"), "-dd", "UNIX-LISTEN:" + name, "STDIO"}, pipe: true})
	socat.complains(`listening on`)
	failing{[]string{"listen", "unix:" + name}, 1, []string{`another server answers on ` + name}}.check(t)
	// Whether it is in use was found out without disturbing it.
	socat.signal(syscall.SIGKILL) // it cannot remove its file
	socat.wantStatus(-1)
	if _, err := os.Stat(name); err != nil {
		t.Fatal(err)
	}
	p := anysock(t, nil, "echo", "unix:"+name)
	p.bound()
	ncat := start(t, command{argv: []string{need(t, "ncat"), "-U", name}, input: []byte("taken over")})
	ncat.ok()
	wantSame(t, "ncat", ncat.out.String(), []byte("taken over"))
}
