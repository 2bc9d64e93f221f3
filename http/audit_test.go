package http_test

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stayafrica/messaging/auth"
	rest "github.com/stayafrica/messaging/http"
)

// The audit log has who did what of consequence, and no secret.
func TestAuditLog(t *testing.T) {
	var mu sync.Mutex
	var events []rest.AuditEvent
	record := func(e rest.AuditEvent) {
		mu.Lock()
		defer mu.Unlock()
		events = append(events, e)
	}
	for _, all := range []bool{false, true} {
		s := serve(t, rest.Config{
			Access: auth.New(auth.Config{Tokens: []auth.Token{{Name: "backend", Secret: backendToken}}, Users: usersOf(false)}),
			Audit:  record, AuditMessages: all,
		})
		events = nil
		user := map[string]string{"Authorization": "Bearer " + jwtOf("789")}
		s.raw("POST", "/api/messages/send", message, map[string]string{"X-Request-Id": "abc-1"})
		s.raw("GET", "/api/messages/queue/789", "", user)
		s.raw("DELETE", "/api/messages/queue/789", "", user)
		s.raw("DELETE", "/api/dead-letters/refused-01a20b45-1895-76bd-b871-3ccb78a69ece", "", nil)
		s.raw("GET", "/api/stats", "", map[string]string{"Authorization": "Bearer wrong"})
		s.raw("DELETE", "/api/messages/queue/790", "", user) // forbidden
		var got []string
		mu.Lock()
		for _, e := range events {
			got = append(got, strings.Join([]string{e.Action, e.Subject, http.StatusText(e.Status), e.Token, string(e.User), e.Address.String()}, " "))
			if e.RequestID == "" || e.Time.IsZero() {
				t.Errorf("%+v", e)
			}
		}
		mu.Unlock()
		want := []string{
			"clear 789 OK  789 127.0.0.1", "drop_dead_letter refused-01a20b45-1895-76bd-b871-3ccb78a69ece Not Found backend  127.0.0.1",
			"failed_login  Unauthorized   127.0.0.1", "clear 790 Forbidden  789 127.0.0.1",
		}
		if all {
			want = slices.Concat([]string{"send 789 OK backend  127.0.0.1", "take 789 OK  789 127.0.0.1"}, want)
		}
		if !slices.Equal(got, want) {
			t.Errorf("messages %t:\n%s\nwant\n%s", all, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
}

func TestRequestIDs(t *testing.T) {
	s := serve(t, rest.Config{Access: loopbackOnly})
	seen := make(map[string]bool)
	for _, c := range []struct {
		given string
		taken bool
	}{
		{"", false}, {"", false}, {"abc-1", true}, {"a/b=c+d:e@f.g_h", true}, {strings.Repeat("x", 128), true}, {strings.Repeat("x", 129), false}, {`a"b`, false}, {"a b", false}, {"é", false},
	} {
		header := map[string]string{}
		if c.given != "" {
			header["X-Request-Id"] = c.given
		}
		for _, path := range []string{"/health", "/api/messages/queue/789?max_count=0", "/nowhere"} {
			got := s.raw("GET", path, "", header)
			id := got.header.Get("X-Request-Id")
			if (id == c.given) != c.taken || id == "" || (!c.taken && seen[id]) {
				t.Errorf("%s with %q: the id is %q", path, c.given, id)
			}
			seen[id] = true
			var refused struct {
				RequestID string `json:"request_id"`
			}
			if err := json.Unmarshal([]byte(got.text), &refused); err != nil || (got.status != 200 && refused.RequestID != id) {
				t.Errorf("%s: %v, %s has not the id %s", path, err, got.text, id)
			}
		}
	}
}
