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
		metrics       bool
		want          messaging.Code
		caller        string
	}{
		{"Bearer old", false, "", "a"},
		{"bearer  old ", false, "", "a"},
		{"Token ne:w", false, "", "b"},
		{basicAuth("any", "old"), false, "", "a"},
		{basicAuth("", "ne:w"), false, "", "b"},
		{"basic " + basicAuth("x", "old")[6:], false, "", "a"},
		{basicAuth("old", ""), false, messaging.CodeUnauthorized, ""},
		{basicAuth("old", "wrong"), false, messaging.CodeUnauthorized, ""},
		{"Basic old", false, messaging.CodeUnauthorized, ""},
		{"Basic " + base64.StdEncoding.EncodeToString([]byte("old")), false, messaging.CodeUnauthorized, ""},
		{"Digest old", false, messaging.CodeUnauthorized, ""},
		{"old", false, messaging.CodeUnauthorized, ""},
		{"Bearer ", false, messaging.CodeUnauthorized, ""},
		{"", false, messaging.CodeUnauthorized, ""},
		{"Bearer scrape", false, messaging.CodeUnauthorized, ""},
		{"Bearer scrape", true, "", ""},
		{basicAuth("prometheus", "scrape"), true, "", ""},
		{"Bearer old", true, "", "a"},
	} {
		err := a.Check(auth.Call{Host: "any", Authorization: c.authorization, Metrics: c.metrics})
		if got := messaging.CodeOf(err); (err == nil) != (c.want == "") || (err != nil && got != c.want) {
			t.Errorf("%q, metrics %t: %v, want %q", c.authorization, c.metrics, err, c.want)
		}
		if got := a.Caller(c.authorization); got != c.caller {
			t.Errorf("%q: the caller is %q, want %q", c.authorization, got, c.caller)
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
		{"an opaque origin", "localhost:8765", auth.Page{Origin: "null"}, true},
		{"an extension", "localhost:8765", auth.Page{Origin: "moz-extension://abc"}, true},
		{"nonsense", "localhost:8765", auth.Page{Origin: "http://%zz"}, true},
	} {
		for _, call := range []struct {
			access        *auth.Access
			authorization string
			wanted        bool
		}{{open, "", c.foreign}, {closed, basicAuth("u", "old"), c.foreign}, {closed, "Bearer old", false}} {
			err := call.access.Check(auth.Call{Host: c.host, Authorization: call.authorization, Page: c.page})
			if got := messaging.CodeOf(err) == messaging.CodeForbidden; got != call.wanted || (err != nil) != call.wanted {
				t.Errorf("%s with %q: %v, want refused %t", c.name, call.authorization, err, call.wanted)
			}
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
		{auth.Config{AllowedHosts: []string{"Messages.example"}}, "messages.EXAMPLE:80", ""},
		{auth.Config{AllowedHosts: []string{"messages.example"}}, "localhost", messaging.CodeMisdirected},
		{auth.Config{AllowedHosts: []string{"messages.example"}, LoopbackOnly: true}, "localhost", ""},
		{auth.Config{}, "any.example", ""},
	} {
		err := auth.New(c.config).Check(auth.Call{Host: c.host})
		if (err == nil) != (c.want == "") || (err != nil && messaging.CodeOf(err) != c.want) {
			t.Errorf("%+v, %s: %v, want %q", c.config, c.host, err, c.want)
		}
	}
}
