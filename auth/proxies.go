package auth

import (
	"net/netip"
	"slices"
	"strings"
)

// Proxies are the networks of the reverse proxies whose X-Forwarded-For header is
// trusted. Anyone else could write any address into it.
type Proxies []netip.Prefix

// Client returns the address of the caller of a request: that of the connection, or, if
// the connection is of a trusted proxy, the last address in X-Forwarded-For that is not
// of one. remote is the address of the connection with its port; forwarded are the
// header's values. An entry that is not an address ends the search at the proxy that
// added it. The result is invalid if remote is.
func (p Proxies) Client(remote string, forwarded []string) netip.Addr {
	addr := parseAddr(remote)
	if !p.trust(addr) {
		return addr
	}
	entries := strings.Split(strings.Join(forwarded, ","), ",")
	for _, entry := range slices.Backward(entries) {
		next := parseAddr(strings.TrimSpace(entry))
		if !next.IsValid() {
			return addr
		}
		if addr = next; !p.trust(addr) {
			return addr
		}
	}
	return addr
}

func (p Proxies) trust(addr netip.Addr) bool {
	return slices.ContainsFunc(p, func(network netip.Prefix) bool { return network.Contains(addr) })
}

// parseAddr returns an address that is written with or without a port.
func parseAddr(text string) netip.Addr {
	if with, err := netip.ParseAddrPort(text); err == nil {
		return with.Addr().Unmap()
	}
	addr, _ := netip.ParseAddr(strings.Trim(text, "[]"))
	return addr.Unmap()
}
