package auth_test

import (
	"net/netip"
	"testing"

	"github.com/stayafrica/messaging/auth"
)

func TestClientAddressBehindProxies(t *testing.T) {
	proxies := auth.Proxies{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}
	for _, c := range []struct {
		name, remote string
		forwarded    []string
		want         string
	}{
		{"no proxy", "192.0.2.1:5", nil, "192.0.2.1"},
		{"an address that anyone can write", "192.0.2.1:5", []string{"198.51.100.7"}, "192.0.2.1"},
		{"a proxy", "10.0.0.1:5", []string{"198.51.100.7"}, "198.51.100.7"},
		{"a proxy that is mapped to IPv6", "[::ffff:10.0.0.1]:5", []string{"198.51.100.7"}, "198.51.100.7"},
		{"two proxies", "10.0.0.1:5", []string{"198.51.100.7, 10.0.0.2"}, "198.51.100.7"},
		{"two headers", "10.0.0.1:5", []string{"198.51.100.7", "10.0.0.2"}, "198.51.100.7"},
		{"the caller wrote an address before the proxy's", "10.0.0.1:5", []string{"203.0.113.9, 198.51.100.7"}, "198.51.100.7"},
		{"with ports", "[fd00::1]:5", []string{"[2001:db8::7]:99"}, "2001:db8::7"},
		{"no header", "10.0.0.1:5", nil, "10.0.0.1"},
		{"only proxies", "10.0.0.1:5", []string{"10.0.0.3, 10.0.0.2"}, "10.0.0.3"},
		{"not an address", "10.0.0.1:5", []string{"198.51.100.7, unknown, 10.0.0.2"}, "10.0.0.2"},
		{"nonsense", "10.0.0.1:5", []string{","}, "10.0.0.1"},
	} {
		if got := proxies.Client(c.remote, c.forwarded); got.String() != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
	if got := proxies.Client("@", nil); got.IsValid() {
		t.Errorf("an address that is none: %s", got)
	}
}
