//go:build unix

package main

import (
	"encoding/json"
	"testing"

	"github.com/anysock/anysock/internal/load"
	"github.com/anysock/anysock/internal/testcert"
)

// bench goes through TLS, and what comes back is compared as ever.
func TestBenchOverTLS(t *testing.T) {
	t.Parallel()
	ca := testcert.New(t)
	cert := ca.Server(t)
	server := start(t, command(t, "echo", "tls://127.0.0.1:0?cert=file:"+cert.CertFile+"&key=file:"+cert.KeyFile))
	addr := server.sees(t, listening.String())
	b := start(t, command(t, "bench", "--json", "--requests", "300", "--connections", "3", "--depth", "5", addr+"?ca=file:"+ca.File))
	b.exits(t, 0)
	var r load.Result
	if err := json.Unmarshal([]byte(b.out.String()), &r); err != nil {
		t.Fatalf("%v: %s%s", err, b.out.String(), b.errOut.String())
	}
	if r.Requests != 300 || r.Endings["graceful"] != 3 || r.Engine != load.EngineGoroutines || !r.Verified {
		t.Errorf("%+v", r)
	}
}
