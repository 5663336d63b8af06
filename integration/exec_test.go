// Programs as targets of a relay.

package integration_test

import (
	"net/url"
	"strings"
	"testing"
)

// sha256sum answers after the end of its input: a filter over the network.
func TestExecFilter(t *testing.T) {
	t.Parallel()
	target := "exec:" + need(t, "sha256sum")
	sent := data(20 << 20)
	_, from := relay(t, anyPort, target)
	want := []byte(sum(sent) + "  -\n")
	client(t, "talk", from, sent).report().wantEOF(t, "the client", want)
	// And by connect, without a network.
	p := anysock(t, sent, "connect", target)
	p.ok()
	wantSame(t, "connect", p.out.String(), want)
}

// Each connection has a program of its own, which may be one more relay.
func TestExecSocat(t *testing.T) {
	t.Parallel()
	srv, target := server(t, "late", loopback)
	host, port := hostPort(t, target)
	_, from := relay(t, anyPort, "exec:"+need(t, "socat")+"?arg=-t10&arg=STDIO&arg="+escaped("TCP:"+host+":"+port))
	client(t, "talk", from, []byte(request)).report().wantEOF(t, "the client", lateReply)
	srv.report().wantEOF(t, "the server", []byte(request))
}

// The status of connect says how the program ended.
func TestExecStatus(t *testing.T) {
	t.Parallel()
	sh := need(t, "sh")
	p := anysock(t, nil, "connect", "exec:"+sh+"?arg=-c&arg="+escaped("echo part; exit 3"))
	p.wantStatus(7)
	p.complains(`exit status 3`)
	wantSame(t, "connect", p.out.String(), []byte("part\n"))
	// Its messages go where ours do.
	p = anysock(t, nil, "connect", "exec:"+sh+"?arg=-c&arg="+escaped("echo message >&2"))
	p.ok()
	p.complains(`^message\n`)
}

// escaped is an option's value in an address.
func escaped(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }
