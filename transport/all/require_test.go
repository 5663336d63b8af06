package all_test

import (
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/anysock/anysock"
	"github.com/anysock/anysock/internal/testcert"
)

// TestRequireNegotiatesLC: an address that demands what its carrier lacks asks
// the peer for lc in the carrier's own handshake. A peer that agrees gets it, by
// whichever of the two ways its own address says so; one that was not told to
// is refused, with what is missing and what to do, and serves others as before.
func TestRequireNegotiatesLC(t *testing.T) {
	ca := testcert.New(t)
	cert := ca.Server(t)
	serving := "cert=file:" + cert.CertFile + "&key=file:" + cert.KeyFile
	trusting := "ca=file:" + ca.File
	for _, c := range []struct {
		words   string
		missing string
		listen  string // options
		dial    string
	}{
		{"ws", "halfclose", "", ""},
		{"wss", "halfclose,closeack", serving, trusting},
		{"ws+tls", "halfclose", serving, trusting},
	} {
		join := func(options ...string) string {
			var some []string
			for _, o := range options {
				if o != "" {
					some = append(some, o)
				}
			}
			if some == nil {
				return ""
			}
			return "?" + strings.Join(some, "&")
		}
		require := "require=" + c.missing
		for _, server := range []struct {
			name, address string
			agrees        bool
		}{
			{"lc written", "lc+" + c.words + "://127.0.0.1:0" + join(c.listen), true},
			{"lc required", c.words + "://127.0.0.1:0" + join(c.listen, require), true},
			{"no lc", c.words + "://127.0.0.1:0" + join(c.listen), false},
		} {
			t.Run(c.words+"/"+server.name, func(t *testing.T) {
				ctx := bounded(t)
				ln, err := anysock.Listen(ctx, server.address)
				if err != nil {
					t.Fatal(err)
				}
				defer ln.Close()
				ends := make(chan anysock.End, 1)
				go func() {
					c, err := ln.AcceptContext(ctx)
					if err != nil {
						return
					}
					text, err := io.ReadAll(c)
					if err == nil {
						_, _ = c.Write(append([]byte("a late reply to "), text...))
					}
					end, _ := c.Disconnect(ctx)
					ends <- end
				}()
				at := c.words + "://" + ln.Addr().String() + join(c.dial, require)
				conn, err := anysock.Dial(ctx, at)
				if !server.agrees {
					var e *anysock.Error
					if !errors.As(err, &e) || e.Kind != anysock.KindAuth || !strings.Contains(e.Error()+e.Hint, "lc") {
						t.Fatalf("dialing a peer without lc: %v", err)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = conn.Abort() }()
				if want, _ := anysock.ParseCaps(c.missing); !conn.Caps().Has(want) || !ln.Caps().Has(want) {
					t.Errorf("the dialed end has %s, the listener %s", conn.Caps(), ln.Caps())
				}
				if _, err := conn.Write([]byte("request")); err != nil {
					t.Fatal(err)
				}
				if err := conn.CloseWrite(); err != nil {
					t.Fatal(err)
				}
				if reply, err := io.ReadAll(conn); string(reply) != "a late reply to request" || err != nil {
					t.Errorf("the reply is %q, %v", reply, err)
				}
				if end, err := conn.Disconnect(ctx); err != nil || end.How != anysock.Graceful || end.AckedBy != anysock.AckedPeer {
					t.Errorf("our ending is %s, %v", end, err)
				}
				if end := <-ends; end.How != anysock.Graceful || end.AckedBy != anysock.AckedPeer {
					t.Errorf("theirs is %s", end)
				}
			})
		}
	}
}
