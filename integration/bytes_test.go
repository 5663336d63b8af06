// Bytes arrive as they were sent, whoever is at the other end.

package integration_test

import (
	"net"
	"strings"
	"testing"
)

// A payload is what is sent through.
type payload struct {
	name string
	data []byte
}

func payloads() []payload {
	return []payload{
		{"text", []byte(strings.Repeat("Grüße, 世界\r\nline\n\n", 500))},
		{"binary", data(100_001)},
		{"empty", []byte{}},
		{"one_byte", []byte{0}},
		{"20_MB", data(20 << 20)},
	}
}

// An echoing pair of programs: what goes in comes back.
func TestBytes(t *testing.T) {
	for name, pass := range map[string]func(*testing.T, []byte){
		"connect_to_python":         connectToPython,
		"connect_to_python_ipv6":    connectToPythonIPv6,
		"connect_to_ncat":           connectToNcat,
		"connect_to_socat":          connectToSocat,
		"python_to_listen":          pythonToListen,
		"ncat_to_listen":            ncatToListen,
		"socat_to_listen":           socatToListen,
		"ncat_to_echo":              ncatToEcho,
		"socat_to_echo":             socatToEcho,
		"python_by_relay_to_python": pythonByRelay,
		"python_by_relay_ipv6":      pythonByRelayIPv6,
		"socat_by_relay_to_ncat":    socatByRelayToNcat,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, p := range payloads() {
				t.Run(p.name, func(t *testing.T) { pass(t, p.data) })
			}
		})
	}
}

func connectToPython(t *testing.T, data []byte) { connectToPythonAt(t, loopback, data) }

func connectToPythonIPv6(t *testing.T, data []byte) {
	needIPv6(t)
	connectToPythonAt(t, "::1 0", data)
}

func connectToPythonAt(t *testing.T, at string, data []byte) {
	srv, address := server(t, "echo", at)
	p := anysock(t, data, "connect", address)
	p.ok()
	wantSame(t, "connect", p.out.String(), data)
	srv.report().wantEOF(t, "the server", data)
}

// ncat and socat take the data at one end and give the same at the other.
//
// A listening ncat ends at the first end of file that it reads, and drops what
// it has not sent; --no-half-close is for such peers.
func connectToNcat(t *testing.T, data []byte) {
	ncat := start(t, command{argv: []string{need(t, "ncat"), "-l", "127.0.0.1", "0"}, input: data})
	p := anysock(t, data, "connect", "--no-half-close", "tcp://127.0.0.1:"+portOf(t, ncat))
	p.ok()
	ncat.ok()
	wantSame(t, "ncat", ncat.out.String(), data)
	wantSame(t, "connect", p.out.String(), data)
}

func connectToSocat(t *testing.T, data []byte) {
	socat := start(t, command{argv: []string{need(t, "socat"), "-t10", "-dd", "TCP-LISTEN:0,bind=127.0.0.1", "STDIO"}, input: data})
	address := socat.complains(`listening on AF=2 (\S+)`)[1]
	p := anysock(t, data, "connect", "tcp://"+address)
	p.ok()
	socat.ok()
	wantSame(t, "socat", socat.out.String(), data)
	wantSame(t, "connect", p.out.String(), data)
}

func pythonToListen(t *testing.T, data []byte) {
	p := anysock(t, data, "listen", anyPort)
	client(t, "talk", p.bound(), data).report().wantEOF(t, "the client", data)
	p.ok()
	wantSame(t, "listen", p.out.String(), data)
}

func ncatToListen(t *testing.T, data []byte) {
	p := anysock(t, data, "listen", anyPort)
	host, port := hostPort(t, p.bound())
	ncat := start(t, command{argv: []string{need(t, "ncat"), host, port}, input: data})
	ncat.ok()
	p.ok()
	wantSame(t, "ncat", ncat.out.String(), data)
	wantSame(t, "listen", p.out.String(), data)
}

func socatToListen(t *testing.T, data []byte) {
	p := anysock(t, data, "listen", anyPort)
	host, port := hostPort(t, p.bound())
	socat := start(t, command{argv: []string{need(t, "socat"), "-t10", "STDIO", "TCP:" + host + ":" + port}, input: data})
	socat.ok()
	p.ok()
	wantSame(t, "socat", socat.out.String(), data)
	wantSame(t, "listen", p.out.String(), data)
}

func ncatToEcho(t *testing.T, data []byte) {
	host, port := hostPort(t, anysock(t, nil, "echo", anyPort).bound())
	ncat := start(t, command{argv: []string{need(t, "ncat"), host, port}, input: data})
	ncat.ok()
	wantSame(t, "ncat", ncat.out.String(), data)
}

func socatToEcho(t *testing.T, data []byte) {
	host, port := hostPort(t, anysock(t, nil, "echo", anyPort).bound())
	socat := start(t, command{argv: []string{need(t, "socat"), "-t10", "STDIO", "TCP:" + host + ":" + port}, input: data})
	socat.ok()
	wantSame(t, "socat", socat.out.String(), data)
}

func pythonByRelay(t *testing.T, data []byte) { pythonByRelayAt(t, loopback, anyPort, data) }

func pythonByRelayIPv6(t *testing.T, data []byte) {
	needIPv6(t)
	pythonByRelayAt(t, "::1 0", "tcp://[::1]:0", data)
}

func pythonByRelayAt(t *testing.T, at, from string, data []byte) {
	srv, target := server(t, "echo", at)
	r, address := relay(t, from, target)
	client(t, "talk", address, data).report().wantEOF(t, "the client", data)
	srv.report().wantEOF(t, "the server", data)
	r.complains(sprintf(`graceful, inbound ended first, %d bytes out, %[1]d back`, len(data)))
}

// One direction at a time: see connectToNcat.
func socatByRelayToNcat(t *testing.T, data []byte) {
	for _, way := range []struct {
		ncat, socat string
		out, back   []byte
	}{{"--recv-only", "-u", data, nil}, {"--send-only", "-U", nil, data}} {
		ncat := start(t, command{argv: []string{need(t, "ncat"), "-l", way.ncat, "127.0.0.1", "0"}, input: way.back})
		r, address := relay(t, anyPort, "tcp://127.0.0.1:"+portOf(t, ncat))
		host, port := hostPort(t, address)
		socat := start(t, command{argv: []string{need(t, "socat"), way.socat, "STDIO", "TCP:" + host + ":" + port}, input: way.out})
		socat.ok()
		ncat.ok()
		wantSame(t, "ncat", ncat.out.String(), way.out)
		wantSame(t, "socat", socat.out.String(), way.back)
		r.complains(`graceful`)
	}
}

func needIPv6(t *testing.T) {
	t.Helper()
	l, err := net.Listen("tcp6", "[::1]:0")
	if err != nil {
		t.Skip("no IPv6 on this machine: ", err)
	}
	l.Close()
}

// One connection after the other, from several programs, with --keep.
func TestListenKeep(t *testing.T) {
	t.Parallel()
	p := anysockPiped(t, "listen", "--keep", "--half-open=no", anyPort)
	address := p.bound()
	host, port := hostPort(t, address)
	for _, argv := range [][]string{
		{need(t, "ncat"), "--send-only", host, port},
		{need(t, "socat"), "-u", "STDIO", "TCP:" + host + ":" + port},
	} {
		start(t, command{argv: argv, input: []byte("from " + argv[0] + "\n")}).ok()
		p.says(`(?m)^from ` + argv[0] + `$`)
	}
	p.endInput()
	client(t, "talk", address, []byte("from python\n")).report().wantEOF(t, "the client", nil)
	p.says(`from python\n$`)
}
