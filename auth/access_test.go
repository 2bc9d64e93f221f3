package auth_test

import (
	"encoding/base64"
	"testing"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/auth"
)

func basicAuth(user, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}

func TestTokensAreAcceptedInEachScheme(t *testing.T) {
	a := auth.New(auth.Config{Tokens: []auth.Token{{"a", "old"}, {"b", "ne:w"}}, MetricsToken: "scrape"})
	for _, c := range []struct {
		authorization string
		need          auth.Scope
		want          messaging.Code
		caller        string
		failed        bool // it may be a guess
	}{
		{"Bearer old", auth.Send, "", "a", false},
		{"bearer  old ", auth.Take, "", "a", false},
		{"Token ne:w", auth.Operate, "", "b", false},
		{basicAuth("any", "old"), auth.Send, "", "a", false},
		{basicAuth("", "ne:w"), auth.Send, "", "b", false},
		{"basic " + basicAuth("x", "old")[6:], auth.Send, "", "a", false},
		{basicAuth("old", ""), auth.Send, messaging.CodeUnauthorized, "", false},
		{basicAuth("old", "wrong"), auth.Send, messaging.CodeUnauthorized, "", true},
		{"Basic old", auth.Send, messaging.CodeUnauthorized, "", false},
		{"Basic " + base64.StdEncoding.EncodeToString([]byte("old")), auth.Send, messaging.CodeUnauthorized, "", false},
		{"Digest old", auth.Send, messaging.CodeUnauthorized, "", false},
		{"old", auth.Send, messaging.CodeUnauthorized, "", false},
		{"Bearer ", auth.Send, messaging.CodeUnauthorized, "", false},
		{"", auth.Send, messaging.CodeUnauthorized, "", false},
		{"Bearer wrong", auth.Send, messaging.CodeUnauthorized, "", true},
		{"Bearer scrape", auth.Send, messaging.CodeForbidden, "METRICS_TOKEN", false},
		{"Bearer scrape", auth.AnyCall, messaging.CodeForbidden, "METRICS_TOKEN", false},
		{"Bearer scrape", auth.Metrics, "", "METRICS_TOKEN", false},
		{basicAuth("prometheus", "scrape"), auth.Metrics, "", "METRICS_TOKEN", false},
		{"Bearer old", auth.Metrics, "", "a", false},
	} {
		caller, err := a.Check(t.Context(), auth.Call{Host: "any", Authorization: c.authorization, Need: c.need})
		if got := messaging.CodeOf(err); (err == nil) != (c.want == "") || (err != nil && got != c.want) {
			t.Errorf("%q, %s: %v, want %q", c.authorization, c.need, err, c.want)
		}
		if (caller == nil) != (c.caller == "") || (caller != nil && caller.ID() != c.caller) {
			t.Errorf("%q: the caller is %+v, want %q", c.authorization, caller, c.caller)
		}
		if auth.IsFailedLogin(err) != c.failed {
			t.Errorf("%q: a failed login %t, want %t", c.authorization, !c.failed, c.failed)
		}
	}
}

// With METRICS_TOKEN alone, only the metrics need a token.
func TestMetricsTokenAlone(t *testing.T) {
	a := auth.New(auth.Config{MetricsToken: "scrape"})
	for _, c := range []struct {
		authorization string
		need          auth.Scope
		allowed       bool
	}{{"", auth.Send, true}, {"", auth.Metrics, false}, {"Bearer wrong", auth.Metrics, false}, {"Bearer scrape", auth.Metrics, true}, {"Bearer scrape", auth.Send, true}} {
		if _, err := a.Check(t.Context(), auth.Call{Authorization: c.authorization, Need: c.need}); (err == nil) != c.allowed {
			t.Errorf("%q for %s: %v, want allowed %t", c.authorization, c.need, err, c.allowed)
		}
	}
}

// A page of another site is refused if the call needs only what a browser sends
// automatically. Otherwise such a page could empty a queue.
func TestForeignPagesAreRefused(t *testing.T) {
	open := auth.New(auth.Config{LoopbackOnly: true})
	closed := auth.New(auth.Config{Tokens: []auth.Token{{"a", "old"}}})
	for _, c := range []struct {
		name    string
		host    string
		page    auth.Page
		foreign bool
	}{
		{"a client that is no browser", "127.0.0.1:8765", auth.Page{}, false},
		{"typed into the address bar", "localhost:8765", auth.Page{FetchSite: "none"}, false},
		{"the service's own page", "localhost:8765", auth.Page{FetchSite: "same-origin", Origin: "http://localhost:8765", Referer: "http://localhost:8765/console"}, false},
		{"the same by its referrer alone", "LOCALHOST:8765", auth.Page{Referer: "http://localhost:8765/x?y"}, false},
		{"the default port", "localhost", auth.Page{Origin: "http://localhost:80"}, false},
		{"the same by TLS", "localhost:8765", auth.Page{Origin: "https://localhost:8765", TLS: true}, false},
		{"IPv6", "[::1]:8765", auth.Page{Origin: "http://[::1]:8765"}, false},
		{"another site", "localhost:8765", auth.Page{FetchSite: "cross-site"}, true},
		{"another port of this machine", "localhost:8765", auth.Page{FetchSite: "same-site", Referer: "http://localhost:3000/"}, true},
		{"another port, an old browser", "localhost:8765", auth.Page{Referer: "http://localhost:3000/"}, true},
		{"another name of this machine", "127.0.0.1:8765", auth.Page{Origin: "http://localhost:8765"}, true},
		{"another scheme", "localhost:8765", auth.Page{Origin: "https://localhost:8765"}, true},
		{"plain, called by TLS", "localhost:8765", auth.Page{Origin: "http://localhost:8765", TLS: true}, true},
		{"a speculative load", "localhost:8765", auth.Page{FetchSite: "none", Purpose: "prefetch;prerender"}, true},
		{"an opaque origin", "localhost:8765", auth.Page{Origin: "null"}, true},
		{"an extension", "localhost:8765", auth.Page{Origin: "moz-extension://abc"}, true},
		{"nonsense", "localhost:8765", auth.Page{Origin: "http://%zz"}, true},
	} {
		for _, call := range []struct {
			access        *auth.Access
			authorization string
			wanted        bool
		}{{open, "", c.foreign}, {closed, basicAuth("u", "old"), c.foreign}, {closed, "Bearer old", false}} {
			_, err := call.access.Check(t.Context(), auth.Call{Host: c.host, Authorization: call.authorization, Page: c.page, Need: auth.Take})
			if got := messaging.CodeOf(err) == messaging.CodeForbidden; got != call.wanted || (err != nil) != call.wanted {
				t.Errorf("%s with %q: %v, want refused %t", c.name, call.authorization, err, call.wanted)
			}
		}
	}
}

// Without TLS a browser does not describe its page to a server that is not loopback, so a
// take needs a header that no page of another site can send.
func TestTakesOfBrowsersThatDoNotDescribeTheirPage(t *testing.T) {
	const browser, curl = "Mozilla/5.0 (X11; Linux x86_64)", "curl/8.0"
	anonymous := auth.New(auth.Config{})
	closed := auth.New(auth.Config{Tokens: []auth.Token{{"a", "old"}}})
	for _, c := range []struct {
		name          string
		access        *auth.Access
		authorization string
		host          string
		page          auth.Page
		consumes      bool
		allowed       bool
	}{
		{"a browser", anonymous, "", "chat.lan:8765", auth.Page{UserAgent: browser}, true, false},
		{"with the header", anonymous, "", "chat.lan:8765", auth.Page{UserAgent: browser, Take: "1"}, true, true},
		{"with another value", anonymous, "", "chat.lan:8765", auth.Page{UserAgent: browser, Take: "yes"}, true, false},
		{"another client", anonymous, "", "chat.lan:8765", auth.Page{UserAgent: curl}, true, true},
		{"no take", anonymous, "", "chat.lan:8765", auth.Page{UserAgent: browser}, false, true},
		{"loopback, where browsers describe the page", anonymous, "", "localhost:8765", auth.Page{UserAgent: browser}, true, true},
		{"TLS, where they do too", anonymous, "", "chat.lan:8765", auth.Page{UserAgent: browser, TLS: true}, true, true},
		{"behind a proxy with TLS", anonymous, "", "chat.lan", auth.Page{UserAgent: browser, FetchSite: "none"}, true, true},
		{"a remembered password", closed, basicAuth("u", "old"), "chat.lan:8765", auth.Page{UserAgent: browser}, true, false},
		{"a token that the page knows", closed, "Bearer old", "chat.lan:8765", auth.Page{UserAgent: browser}, true, true},
	} {
		_, err := c.access.Check(t.Context(), auth.Call{Host: c.host, Authorization: c.authorization, Page: c.page, Need: auth.Take, Consumes: c.consumes})
		if (err == nil) != c.allowed || (err != nil && messaging.CodeOf(err) != messaging.CodeForbidden) {
			t.Errorf("%s: %v, want allowed %t", c.name, err, c.allowed)
		}
	}
}

func TestNamesThatAreNotTheServicesAreRefused(t *testing.T) {
	for _, c := range []struct {
		config auth.Config
		host   string
		want   messaging.Code
	}{
		{auth.Config{LoopbackOnly: true}, "localhost:8765", ""},
		{auth.Config{LoopbackOnly: true}, "[::1]", ""},
		{auth.Config{LoopbackOnly: true}, "127.8.9.1", ""},
		{auth.Config{LoopbackOnly: true}, "rebound.example", messaging.CodeForbidden},
		{auth.Config{LoopbackOnly: true}, "[::ffff:127.0.0.1]:8765", messaging.CodeForbidden},
		{auth.Config{AllowedHosts: []string{"Messages.example"}}, "messages.EXAMPLE:80", ""},
		{auth.Config{AllowedHosts: []string{"messages.example"}}, "localhost", messaging.CodeMisdirected},
		{auth.Config{AllowedHosts: []string{"messages.example"}, LoopbackOnly: true}, "localhost", ""},
		{auth.Config{}, "any.example", ""},
	} {
		_, err := auth.New(c.config).Check(t.Context(), auth.Call{Host: c.host, Need: auth.Send})
		if (err == nil) != (c.want == "") || (err != nil && messaging.CodeOf(err) != c.want) {
			t.Errorf("%+v, %s: %v, want %q", c.config, c.host, err, c.want)
		}
	}
}
