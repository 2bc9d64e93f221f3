package auth

import (
	"net"
	"net/netip"
	"net/url"
	"strings"
)

// TakeHeader is the header with which a page of the service's own site shows that it
// intends a take. A page of another site cannot send it.
const TakeHeader = "X-Messaging-Take"

// Page describes the web page that makes a call: the headers Origin, Referer,
// Sec-Fetch-Site, Sec-Purpose, User-Agent and [TakeHeader], and whether the connection
// uses TLS. Only browsers send the first four.
type Page struct {
	Origin, Referer, FetchSite, Purpose, UserAgent, Take string
	TLS                                                  bool
}

// isForeign reports whether the page is of another site: its scheme, host or port
// differs from that of the service. host is the name that the caller used.
//
// A speculative load (Sec-Purpose: prefetch) counts as foreign: any page can request one,
// and Chromium describes it with Sec-Fetch-Site: none, like an address that was typed.
func (p Page) isForeign(host string) bool {
	if p.Purpose != "" {
		return true
	}
	if p.FetchSite != "" && p.FetchSite != "none" && p.FetchSite != "same-origin" {
		return true
	}
	return isForeignURL(p.Origin, host, p.TLS) || isForeignURL(p.Referer, host, p.TLS)
}

// isHidden reports whether the call is of a browser that does not describe its page, and
// the page does not send [TakeHeader]. Browsers send Sec-Fetch-Site only over TLS and to
// loopback, and a page can suppress its Referer.
func (p Page) isHidden(host string) bool {
	described := p.FetchSite != "" || p.TLS || isLoopback(hostName(host))
	return !described && strings.HasPrefix(p.UserAgent, "Mozilla/") && p.Take != "1"
}

// isForeignURL reports whether an origin or a referrer is of another server. An empty
// one is not foreign; "null" and an invalid URL are.
func isForeignURL(text, host string, tls bool) bool {
	if text == "" {
		return false
	}
	scheme, port := "http", "80"
	if tls {
		scheme, port = "https", "443"
	}
	u, err := url.Parse(text)
	return err != nil || u.Scheme != scheme || withPort(u.Host, port) != withPort(host, port)
}

// withPort returns a host in lower case with its port; port is the default.
func withPort(host, port string) string {
	name := hostName(host)
	if _, given, err := net.SplitHostPort(host); err == nil {
		port = given
	}
	return net.JoinHostPort(name, port)
}

// hostName returns the name in a Host header, without port and brackets.
func hostName(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	return strings.ToLower(strings.Trim(host, "[]"))
}

func isLoopback(name string) bool {
	if name == "localhost" {
		return true
	}
	addr, err := netip.ParseAddr(name)
	// Browsers do not treat ::ffff:127.0.0.1 as loopback, so they do not describe the page.
	return err == nil && addr.IsLoopback() && !addr.Is4In6()
}
