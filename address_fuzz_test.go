// This file fuzzes the address parser.

package anysock

import (
	"errors"
	"strings"
	"testing"
)

// FuzzParseAddress checks what holds for every text: no panic; what is accepted
// prints as a fixed point; what is refused has its place inside the text.
func FuzzParseAddress(f *testing.F) {
	for _, tt := range goodAddresses {
		f.Add(tt.in)
	}
	for _, tt := range badAddresses {
		f.Add(tt.in)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := ParseAddress(s)
		if err == nil {
			checkFixedPoint(t, a)
			checkOffsets(t, s, a)
			checkBounds(t, a)
			return
		}
		if !a.IsZero() {
			t.Errorf("an address and an error: %v, %v", a, err)
		}
		var bad *AddressError
		if !errors.As(err, &bad) {
			t.Fatalf("the error is a %T", err)
		}
		if bad.Offset < 0 || bad.Offset > len(s) || bad.at < 0 || bad.at > len(bad.Input) || bad.Msg == "" {
			t.Errorf("no sound error: %#v", bad)
		}
		if text := bad.Error(); strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			t.Errorf("not one clean line: %q", text)
		}
		checkCaret(t, bad)
	})
}

// checkBounds checks the limits, and which fields go together.
func checkBounds(t *testing.T, a Address) {
	t.Helper()
	hops := a.Hops()
	if len(a.String()) > addrMaxLen || len(hops) == 0 || len(hops) > addrMaxHops {
		t.Errorf("%d bytes, %d hops", len(a.String()), len(hops))
	}
	for _, h := range hops {
		if len(h.Layers) == 0 || len(h.Layers) > addrMaxLayers || len(h.Options) > addrMaxOptions {
			t.Errorf("%s: %d layers, %d options", h, len(h.Layers), len(h.Options))
		}
		base, ok := schemeWord(h.Layers[len(h.Layers)-1].Scheme)
		if !ok || !base.base {
			t.Errorf("%s has no base", h)
		}
		authority := base.shape == addrHostPort || base.shape == addrCIDPort
		if (h.Port != "") != authority || (h.Opaque != "") != (!authority && base.shape != addrNothing) ||
			!authority && (h.User != "" || h.Host != "") {
			t.Errorf("%s: port %q, opaque %q, user %q, host %q", h, h.Port, h.Opaque, h.User, h.Host)
		}
		if h.Path != "" && h.Path[0] != '/' {
			t.Errorf("%s: path %q", h, h.Path)
		}
		for _, o := range h.Options {
			if addrSecretName(o.Name) && !addrSecretRef(o.Value) {
				t.Errorf("%s holds a secret", h)
			}
		}
	}
}

// FuzzAddressErrorHidesPassword puts a password into any surroundings. It must
// not come out again.
func FuzzAddressErrorHidesPassword(f *testing.F) {
	const marker = "kQ7zhunter2"
	for _, tt := range goodAddresses {
		f.Add(tt.in, tt.in)
		f.Add(tt.in+",", ","+tt.in)
	}
	for _, tt := range badAddresses {
		f.Add(tt.in, "")
		f.Add(tt.in+",", ","+tt.in)
	}
	f.Fuzz(func(t *testing.T, before, after string) {
		lower := strings.ToLower(marker)
		if strings.Contains(strings.ToLower(before+after), "hunter2") {
			return // the marker is there already
		}
		inside := "ssh://user:" + before + marker + after + "@host:22"
		for _, in := range []string{
			before + "ssh://user:" + marker + "@host:22" + after,
			before + "user:" + marker + "@host:22" + after,
			before + "socks5://u%3A" + marker + "@" + after,
			before + "?pass=" + marker + after,
			before + "&tls.pass=" + marker + after,
			inside,
		} {
			if in == inside && strings.Contains(before+after, ":") {
				// A comma, a scheme word and :// in a password cannot be
				// told from the next hop.
				continue
			}
			_, err := ParseAddress(in)
			var bad *AddressError
			if !errors.As(err, &bad) {
				// Accepted where it is no password, such as in a path.
				continue
			}
			if shown := everyText(bad); strings.Contains(strings.ToLower(shown), lower) {
				t.Errorf("%q: the password is in the error:\n%s", in, shown)
			}
		}
	})
}
