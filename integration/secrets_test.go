package integration_test

import (
	"encoding/base64"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestSecretsAreNotShown: a password or a token that an address names by env:
// or file: appears in no line of the command, whatever it is told to print and
// however the hop answers, and in no argument.
func TestSecretsAreNotShown(t *testing.T) {
	const secret = "hunter2-topsecret"
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte(secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	shown := []string{
		secret,
		base64.StdEncoding.EncodeToString([]byte("ops:" + secret)),
		fmt.Sprintf("%x", secret),
	}
	for _, hop := range []struct{ name, addr string }{
		{"socks5", "socks5://ops@%s?pass=%s,tcp://db:5432"},
		{"http", "http://ops@%s?pass=%s,tcp://db:5432"},
		{"ws", "ws://%s/t?auth-token=%s"},
		{"ssh", "ssh://ops@%s?insecure=skip-verify&agent=0&pass=%s,tcp://db:5432"},
	} {
		for _, source := range []string{"env:ANYSOCK_TEST_SECRET", "file:" + file, "env:ANYSOCK_TEST_UNSET", "file:" + file + ".none"} {
			t.Run(hop.name+"/"+source[:4], func(t *testing.T) {
				t.Parallel()
				ln, err := net.Listen("tcp", "127.0.0.1:0")
				if err != nil {
					t.Fatal(err)
				}
				defer ln.Close()
				go parrot(ln, secret)
				addr := fmt.Sprintf(hop.addr, ln.Addr(), source)
				p := start(t, command{
					argv: []string{binary, "connect", "--trace", "--json", "-v", addr},
					env:  []string{"ANYSOCK_TEST_SECRET=" + secret},
				})
				if status := p.status(); status == 0 {
					t.Error("a parrot was taken for a hop")
				}
				for _, s := range shown {
					if strings.Contains(p.out.String(), s) || strings.Contains(p.errs.String(), s) {
						t.Errorf("the secret is shown as %q:\n%s\n%s", s, p.out.String(), p.errs.String())
					}
				}
			})
		}
	}
}

// parrot is a hop that agrees to a password and then answers with what it was
// told, and the secret besides.
func parrot(ln net.Listener, secret string) {
	for {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			buf := make([]byte, 4096)
			n, _ := c.Read(buf)
			if n > 0 && buf[0] == 5 { // SOCKS5: choose the password, then refuse it
				_, _ = c.Write([]byte{5, 2})
				_, _ = c.Read(buf)
				_, _ = c.Write([]byte{1, 1})
				return
			}
			_, _ = c.Write(append([]byte("HTTP/1.1 407 "+secret[:3]+"\r\n\r\n"), buf[:n]...))
		}()
	}
}
