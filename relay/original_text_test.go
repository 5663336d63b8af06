package relay

import (
	"net/netip"
	"testing"

	"github.com/anysock/anysock"
)

// The destination takes the place of original:, and everything else stays.
func TestWithOriginal(t *testing.T) {
	four, six := netip.MustParseAddrPort("192.0.2.7:443"), netip.MustParseAddrPort("[2001:db8::7]:80")
	zone := netip.MustParseAddrPort("[fe80::7%eth0]:80")
	for _, tt := range []struct {
		target string
		dst    netip.AddrPort
		want   string
	}{
		{"original:", four, "tcp://192.0.2.7:443"},
		{"original:", six, "tcp://[2001:db8::7]:80"},
		{"original:", zone, "tcp://[fe80::7%25eth0]:80"},
		{"original:?retry=2&timeout=3s", four, "tcp://192.0.2.7:443?retry=2&timeout=3s"},
		{"original:?original.retry=2&original.timeout=3s", four, "tcp://192.0.2.7:443?tcp.retry=2&tcp.timeout=3s"},
		{"tls+original:?sni=a%26original.b", four, "tls+tcp://192.0.2.7:443?sni=a%26original.b"},
		{"socks5://u@p:1080?x=1,original:", six, "socks5://u@p:1080?x=1,tcp://[2001:db8::7]:80"},
		{"ssh://b:22,socks5://p:1080,lc+tls+original:?sni=x", four, "ssh://b:22,socks5://p:1080,lc+tls+tcp://192.0.2.7:443?sni=x"},
	} {
		a, err := anysock.ParseAddress(tt.target)
		if err != nil {
			t.Fatal(err)
		}
		if !endsInOriginal(a) {
			t.Errorf("%s does not end in original:", tt.target)
		}
		if got, err := withOriginal(a, tt.dst); err != nil || got.String() != tt.want {
			t.Errorf("%s with %s: %v, %v; want %s", tt.target, tt.dst, got, err, tt.want)
		}
	}
	for _, target := range []string{"tcp://original:80", "unix:original:", "original:,tcp://h:1"} {
		if a, err := anysock.ParseAddress(target); err == nil && endsInOriginal(a) {
			t.Errorf("%s ends in original:", target)
		}
	}
	if endsInOriginal(anysock.Address{}) {
		t.Error("the zero address ends in original:")
	}
}
