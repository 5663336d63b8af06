//go:build unix

package main

import (
	"errors"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/anysock/anysock"
)

// What a server prints as its address can be dialed, also where it inherited
// the listening socket and was told no more than its number.
func TestBoundAddressCanBeDialed(t *testing.T) {
	t.Parallel()
	short := t.TempDir()
	for _, tt := range []struct {
		name, network, at, prefix string
		verb                      []string
	}{
		{"echo on inherited tcp", "tcp4", "127.0.0.1:0", "tcp://127.0.0.1:", []string{"echo", "fd:3"}},
		{"echo on inherited tcp6", "tcp6", "[::1]:0", "tcp://[::1]:", []string{"echo", "fd:3?maxconns=7"}},
		{"echo on an inherited Unix socket", "unix", short + "/a b,c?d%", "unix:" + short + "/a%20b%2Cc%3Fd%25", []string{"echo", "--json", "fd:3"}},
		{"relay on inherited tcp", "tcp4", "127.0.0.1:0", "tcp://127.0.0.1:", []string{"relay", "fd:3", "echo:"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			ln, err := net.Listen(tt.network, tt.at)
			if err != nil {
				t.Skipf("cannot listen on %s: %v", tt.at, err)
			}
			defer ln.Close()
			f, err := ln.(interface{ File() (*os.File, error) }).File()
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			cmd := command(t, tt.verb...)
			cmd.ExtraFiles = append(cmd.ExtraFiles, f)
			b := start(t, cmd)
			address := b.sees(t, listening.String())
			if !strings.HasPrefix(address, tt.prefix) {
				t.Errorf("the address is %s, want %s...", address, tt.prefix)
			}
			c, err := anysock.Dial(t.Context(), address)
			if err != nil {
				t.Fatal(err)
			}
			write(t, c, "hello")
			wantRead(t, c, "hello")
			if err := c.Close(); err != nil {
				t.Error(err)
			}
			b.signal(t, syscall.SIGTERM)
			b.exits(t, 0)
		})
	}
}

// TestBoundAddressText: paths, layers and zones survive.
func TestBoundAddressText(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ asked, want string }{
		{"tcp://127.0.0.1:0?backlog=3", "tcp://127.0.0.1:PORT"},
		{"tcp4://127.0.0.1:0", "tcp4://127.0.0.1:PORT"},
		{"127.0.0.1:0", "tcp://127.0.0.1:PORT"},
		{"mem:bound-address-text?backlog=1", "mem:bound-address-text"},
		{"vsock://:0", "vsock://:PORT"},
	} {
		asked, err := anysock.ParseAddress(tt.asked)
		if err != nil {
			t.Fatal(err)
		}
		ln, err := anysock.Listen(t.Context(), tt.asked)
		if errors.Is(err, errors.ErrUnsupported) {
			t.Logf("%s: %v", tt.asked, err)
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		_, port, _ := net.SplitHostPort(ln.Addr().String())
		if got := boundAddress(asked, ln); got != strings.Replace(tt.want, "PORT", port, 1) {
			t.Errorf("%s is bound at %s, want %s", tt.asked, got, tt.want)
		}
	}
}
