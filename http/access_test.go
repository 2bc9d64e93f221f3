package http_test

import (
	"net/http"
	"testing"

	"github.com/stayafrica/messaging/auth"
	rest "github.com/stayafrica/messaging/http"
)

func TestTokens(t *testing.T) {
	s := serveWithoutEngine(t, rest.Config{Access: auth.New(auth.Config{
		Tokens: []auth.Token{{Name: "a", Secret: "old"}, {Name: "b", Secret: "new"}}, MetricsToken: "scrape", AllowedHosts: []string{"messages.example"},
	})})
	host := map[string]string{"Host": "messages.example:8765"}
	for _, c := range []struct {
		path, authorization string
		status              int
	}{
		{"/api/stats", "Bearer old", 200},
		{"/api/stats", "Token new", 200},
		{"/api/stats", "", 401},
		{"/api/stats", "Bearer ", 401},
		{"/api/stats", "Bearer wrong", 401},
		{"/api/stats", "Basic old", 401},
		{"/api/stats", "Bearer scrape", 403},
		{"/openapi.json", "Bearer scrape", 403},
		{"/metrics", "Bearer scrape", 200},
		{"/metrics", "Bearer old", 200},
		{"/metrics", "", 401},
		{"/health", "", 200},
		{"/health/ready", "", 200},
	} {
		header := map[string]string{"Host": host["Host"]}
		if c.authorization != "" {
			header["Authorization"] = c.authorization
		}
		if got := s.raw("GET", c.path, "", header); got.status != c.status {
			t.Errorf("%s with %q: %d %s, want %d", c.path, c.authorization, got.status, got.text, c.status)
		}
	}
	other := map[string]string{"Host": "other.example", "Authorization": "Bearer old"}
	if got := s.raw("GET", "/api/stats", "", other); got.status != http.StatusMisdirectedRequest {
		t.Errorf("another name: %d, want 421", got.status)
	}
}
