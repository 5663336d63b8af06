// A TLS session of openssl's passes through the relay.

package integration_test

import "testing"

func TestOpenSSLByRelay(t *testing.T) {
	t.Parallel()
	openssl, dir := need(t, "openssl"), t.TempDir()
	start(t, command{argv: []string{
		openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1",
		"-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", dir + "/key", "-out", dir + "/cert",
	}}).ok()
	srv := start(t, command{argv: []string{openssl, "s_server", "-accept", "127.0.0.1:0", "-naccept", "1", "-rev", "-key", dir + "/key", "-cert", dir + "/cert"}})
	target := srv.says(`ACCEPT (\S+)`)[1]
	r, address := relay(t, anyPort, "tcp://"+target)
	host, port := hostPort(t, address)
	c := start(t, command{argv: []string{
		openssl, "s_client", "-connect", host + ":" + port, "-servername", "localhost", "-verify_hostname", "localhost",
		"-CAfile", dir + "/cert", "-verify_return_error", "-quiet",
	}, pipe: true})
	for _, line := range []string{"abc", "a longer line"} {
		c.write(line + "\n")
		c.says(`(?m)^` + reversed(line) + `$`)
	}
	c.write("CLOSE\n") // the server ends at this word
	c.status()
	srv.ok()
	r.complains(`graceful|aborted by peer on inbound`) // openssl may leave without reading the last alert
}

func reversed(s string) string {
	b := []byte(s)
	for i, j := 0, len(b)-1; i < j; i, j = i+1, j-1 {
		b[i], b[j] = b[j], b[i]
	}
	return string(b)
}
