// A service manager listens, and starts our program with the socket.

package integration_test

import (
	"strings"
	"syscall"
	"testing"
)

func TestSocketActivation(t *testing.T) {
	for kind, at := range map[string]string{"tcp": loopback, "unix": shortDir(t) + "/s"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			srv, target := server(t, "late", loopback)
			p := start(t, command{argv: pythonArgs(t, "activate.py", []string{at, binary, "relay", "-v", "--retry=1", "fd:{}", target})})
			address := addressIn(t, p.says(`(?m)^\{.*\}$`)[0])
			// It is in the queue before our program has started.
			argv := []string{need(t, "ncat")}
			if path, ok := strings.CutPrefix(address, "unix:"); ok {
				argv = append(argv, "-U", path)
			} else {
				host, port := hostPort(t, address)
				argv = append(argv, host, port)
			}
			ncat := start(t, command{argv: argv, input: []byte(request)})
			ncat.ok()
			wantSame(t, "ncat", ncat.out.String(), lateReply)
			srv.report().wantEOF(t, "the server", []byte(request))
			p.complains(`graceful, inbound ended first`)
			p.signal(syscall.SIGTERM)
			p.ok()
		})
	}
}

// What is no listening socket is refused in words.
func TestDescriptorErrors(t *testing.T) {
	t.Parallel()
	failing{[]string{"listen", "fd:999"}, 1, []string{`descriptor 999 is not open`}}.check(t)
	failing{[]string{"listen", "fd:2"}, 1, []string{`descriptor 2 is`}}.check(t)
	failing{[]string{"listen", "exec:/bin/cat"}, 1, []string{`exec cannot be listened on`}}.check(t)
}
