package all_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/anysock/anysock"
)

// FuzzCheck gives addresses with layers, hops and options to everything that
// looks at one without dialing: none may panic, an error is of the one type and
// repeats no secret, and the two views of the capabilities agree.
func FuzzCheck(f *testing.F) {
	for _, s := range []string{
		"tcp://h:1?require=abort,halfclose",
		"wss://edge:443/t?require=halfclose&header=A:b&header=C:d&origin=https%3A%2F%2Fx",
		"lc+tls+ws+tls://edge:443/x?tls.1.min=1.3&tls.2.sni=x&ws.ping=10s",
		"ssh://ops@bastion:22?key=file:/k&knownhosts=file:/n,socks5://u@10.0.0.1:1080?pass=env:P,tls://db:5432?ca=file:/c&sni=db",
		"https://u@proxy:3128?pass=file:/p,quic://[2001:db8::7]:4433?alpn=h3",
		"socks4a://p:1,lc+tls+tcp4://h:2?insecure=skip-verify",
		"tls+unix:/run/o.sock?mode=0660&cert=file:/c&key=file:/k",
		"vsock://3:1024", "original:", "exec:/usr/bin/sort?arg=-u", "echo:?require=peerid",
		"quic://h:1?require=closeack,peerid",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := anysock.ParseAddress(s)
		if err != nil {
			return // FuzzParseAddress's
		}
		caps, err := anysock.AddressCaps(a)
		layers, lerr := anysock.AddressLayers(a)
		if (err == nil) != (lerr == nil) {
			t.Fatalf("%q: AddressCaps says %v, AddressLayers %v", s, err, lerr)
		}
		if err != nil {
			var e *anysock.Error
			var ae *anysock.AddressError
			if !errors.As(err, &e) && !errors.As(err, &ae) {
				t.Fatalf("%q: an error of type %T: %v", s, err, err)
			}
			return
		}
		if err := a.Check(); err != nil {
			t.Fatalf("%q has capabilities, but Check says %v", s, err)
		}
		if last := layers[len(layers)-1]; last.Caps != caps {
			t.Fatalf("%q has %s and %s", s, caps, last.Caps)
		}
		for i, l := range layers {
			var below anysock.Caps
			if i > 0 {
				below = layers[i-1].Caps
			}
			if (below|l.Adds)&^l.Removes != l.Caps || l.Adds&below != 0 || l.Removes&^below != 0 {
				t.Fatalf("%q: layer %s adds %s to %s, removes %s, and has %s", s, l.Scheme, l.Adds, below, l.Removes, l.Caps)
			}
		}
		if strings.Contains(s, "pass=") && !strings.Contains(s, "pass=env:") && !strings.Contains(s, "pass=file:") {
			t.Fatalf("%q: a password was taken", s)
		}
	})
}
