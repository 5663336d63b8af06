// A reply that comes a second after the end of the request arrives.

package integration_test

import (
	"testing"
	"time"
)

const request = "the whole request\n"

var lateReply = []byte(sprintf("late reply to %d bytes", len(request)))

func TestLateReply(t *testing.T) {
	for name, talk := range map[string]func(t *testing.T, address string) string{
		"connect": func(t *testing.T, address string) string {
			p := anysock(t, []byte(request), "connect", address)
			p.ok()
			return p.out.String()
		},
		"python_by_relay": func(t *testing.T, address string) string {
			r, from := relay(t, anyPort, address)
			client(t, "talk", from, []byte(request)).report().wantEOF(t, "the client", lateReply)
			r.complains(`graceful, inbound ended first`)
			return string(lateReply)
		},
		"ncat_by_relay": func(t *testing.T, address string) string {
			_, from := relay(t, anyPort, address)
			host, port := hostPort(t, from)
			p := start(t, command{argv: []string{need(t, "ncat"), host, port}, input: []byte(request)})
			p.ok()
			return p.out.String()
		},
		"socat_by_relay": func(t *testing.T, address string) string {
			_, from := relay(t, anyPort, address)
			host, port := hostPort(t, from)
			p := start(t, command{argv: []string{need(t, "socat"), "-t10", "STDIO", "TCP:" + host + ":" + port}, input: []byte(request)})
			p.ok()
			return p.out.String()
		},
		// Three hops of two transports.
		"connect_by_three_relays": func(t *testing.T, address string) string {
			dir := shortDir(t)
			_, second := relay(t, "unix:"+dir+"/second", address)
			_, first := relay(t, "unix:"+dir+"/first", second)
			_, from := relay(t, anyPort, first)
			p := anysock(t, []byte(request), "connect", from)
			p.ok()
			return p.out.String()
		},
		// socat itself starts the relay for each connection, on a socket that is
		// both its standard input and output, as inetd does.
		"socat_starts_relay": func(t *testing.T, address string) string {
			host, port := hostPort(t, address)
			inetd := start(t, command{argv: []string{
				need(t, "socat"), "-t10", "-dd", "TCP-LISTEN:0,bind=127.0.0.1",
				"EXEC:" + binary + ` relay --retry=1 stdio\: tcp4\://` + host + `\:` + port,
			}})
			at := inetd.complains(`listening on AF=2 (\S+)`)[1]
			p := anysock(t, []byte(request), "connect", "tcp://"+at)
			p.ok()
			return p.out.String()
		},
		// Here socat keeps a copy of the relay's output open: only its time-out
		// ends it, which must be more than the reply takes.
		"socat_starts_relay_on_pipes": func(t *testing.T, address string) string {
			host, port := hostPort(t, address)
			p := start(t, command{argv: []string{
				need(t, "socat"), "-t3", "STDIO",
				"EXEC:" + binary + ` relay --retry=1 stdio\: tcp4\://` + host + `\:` + port + ",pipes",
			}, input: []byte(request)})
			p.ok()
			return p.out.String()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv, address := server(t, "late", loopback)
			wantSame(t, name, talk(t, address), lateReply)
			srv.report().wantEOF(t, "the server", []byte(request))
		})
	}
}

// The reply to a client that has half-closed comes from our standard input.
func TestLateReplyOfListen(t *testing.T) {
	for name, talk := range map[string]func(t *testing.T, address string){
		"python": func(t *testing.T, address string) {
			client(t, "talk", address, []byte(request)).report().wantEOF(t, "the client", lateReply)
		},
		"socat": func(t *testing.T, address string) {
			host, port := hostPort(t, address)
			p := start(t, command{argv: []string{need(t, "socat"), "-t10", "STDIO", "TCP:" + host + ":" + port}, input: []byte(request)})
			p.ok()
			wantSame(t, "socat", p.out.String(), lateReply)
		},
		"ncat": func(t *testing.T, address string) {
			host, port := hostPort(t, address)
			p := start(t, command{argv: []string{need(t, "ncat"), host, port}, input: []byte(request)})
			p.ok()
			wantSame(t, "ncat", p.out.String(), lateReply)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := anysockPiped(t, "listen", "-v", anyPort)
			address := p.bound()
			replied := make(chan struct{})
			go func() {
				defer close(replied)
				p.complains(`the peer has ended; sending goes on`)
				<-time.After(time.Second) // the reply is late
				p.write(string(lateReply))
				p.endInput()
			}()
			talk(t, address)
			<-replied
			p.ok()
			wantSame(t, "listen", p.out.String(), []byte(request))
		})
	}
}
