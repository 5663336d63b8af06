// SIGTERM drains: what runs finishes, nobody new is served, and at the
// deadline a reset says that it was cut.

package integration_test

import (
	"strings"
	"syscall"
	"testing"
)

func TestDrainFinishesWhatRuns(t *testing.T) {
	for name, from := range map[string]string{"tcp": anyPort, "unix": "unix:" + shortDir(t) + "/s"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv, target := server(t, "echo", loopback)
			r, address := relay(t, from, target)
			argv := []string{need(t, "ncat")}
			if path, ok := strings.CutPrefix(address, "unix:"); ok {
				argv = append(argv, "-U", path)
			} else {
				host, port := hostPort(t, address)
				argv = append(argv, host, port)
			}
			ncat := start(t, command{argv: argv, pipe: true})
			ncat.write("before\n")
			ncat.says(`before\n`)
			r.signal(syscall.SIGTERM)
			r.complains(`finishing 1 connection`)
			until(t, "the relay turns others away", func() bool {
				p := anysock(t, nil, "connect", address)
				return p.status() == 4
			})
			ncat.write("after\n")
			ncat.says(`after\n`)
			ncat.endInput()
			ncat.ok()
			srv.report().wantEOF(t, "the server", []byte("before\nafter\n"))
			r.ok()
		})
	}
}

func TestDrainDeadline(t *testing.T) {
	t.Parallel()
	_, target := server(t, "silent", loopback)
	r, address := relay(t, anyPort, target, "--drain=300ms")
	c := client(t, "hold", address, []byte("request"))
	c.says(`"sent": true`)
	r.signal(syscall.SIGTERM)
	c.report().wantReset(t, "the client", 0)
	r.wantStatus(7)
	r.complains(`drain deadline|aborted|cut`)
}

// A second signal does not wait.
func TestDrainCutShort(t *testing.T) {
	t.Parallel()
	_, target := server(t, "silent", loopback)
	r, address := relay(t, anyPort, target, "--drain=1h")
	c := client(t, "hold", address, []byte("request"))
	c.says(`"sent": true`)
	r.signal(syscall.SIGTERM)
	r.complains(`a second signal aborts`)
	r.signal(syscall.SIGTERM)
	c.report().wantReset(t, "the client", 0)
	r.wantStatus(7)
}
