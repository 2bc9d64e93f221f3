package http_test

import (
	"encoding/json"
	"log/slog"
	"net/netip"
	"strings"
	"testing"

	"github.com/stayafrica/messaging/auth"
	rest "github.com/stayafrica/messaging/http"
)

// Failed logins of an address are throttled; callers with a token behind the same address
// and other addresses are not.
func TestFailedLoginsAreThrottled(t *testing.T) {
	log := new(lockedBuffer)
	proxies := auth.Proxies{netip.MustParsePrefix("127.0.0.0/8")}
	s := serve(t, guarded(rest.Config{TrustedProxies: proxies, Logger: slog.New(slog.NewTextHandler(log, nil))}))
	try := func(token, forwarded string) received {
		return s.raw("GET", "/api/stats", "", map[string]string{"Authorization": "Bearer " + token, "X-Forwarded-For": forwarded})
	}
	for i := range 25 {
		got := try("wrong", "192.0.2.1")
		if want := map[bool]int{true: 401, false: 429}[i < 20]; got.status != want || (want == 429) != (got.header.Get("Retry-After") != "") {
			t.Errorf("wrong token %d: %d, Retry-After %q; want %d", i+1, got.status, got.header.Get("Retry-After"), want)
		}
	}
	for _, c := range []struct {
		token, address string
		want           int
	}{{backendToken, "192.0.2.1", 200}, {"wrong", "192.0.2.2", 401}, {"", "192.0.2.1", 401}} {
		if got := try(c.token, c.address); got.status != c.want {
			t.Errorf("%q from %s: %d, want %d", c.token, c.address, got.status, c.want)
		}
	}
	metrics := s.raw("GET", "/metrics", "", nil).text
	for _, want := range []string{`messaging_failed_logins_total{result="refused"} 21`, `messaging_failed_logins_total{result="throttled"} 5`} {
		if !strings.Contains(metrics, want) {
			t.Errorf("the metrics do not have %s", want)
		}
	}
	if n := strings.Count(log.String(), "callers present wrong tokens"); n != 1 {
		t.Errorf("%d lines of log, want 1:\n%s", n, log.String())
	}
	if strings.Contains(log.String(), "wrong\"") || strings.Contains(log.String(), backendToken) {
		t.Errorf("a token is in the log:\n%s", log.String())
	}
}

// Each limit of a token refuses with 429, and other tokens are not affected.
func TestLimitsOfAToken(t *testing.T) {
	access := auth.New(auth.Config{Tokens: []auth.Token{{Name: "backend", Secret: backendToken}}, ScopedTokens: true})
	secrets := make(map[string]string)
	var tokens []auth.ScopedToken
	for name, limits := range map[string]auth.Limits{
		"rate": {RequestsPerSecond: 2}, "connections": {Connections: 2}, "polls": {LongPolls: 1}, "leases": {Leases: 3}, "bytes": {BodyBytes: 4096},
	} {
		secret, token := newScoped(auth.Caller{Name: name, Scope: auth.Everything, Limits: limits})
		secrets[name] = secret
		tokens = append(tokens, token)
	}
	access.SetScoped(tokens)
	s := serve(t, rest.Config{Access: access})
	as := func(name string) map[string]string {
		return map[string]string{"Authorization": "Bearer " + secrets[name]}
	}
	want := func(what string, got received, status int) {
		t.Helper()
		if got.status != status || (status == 429 && (got.header.Get("Retry-After") == "" || !strings.Contains(got.text, "at its limit of"))) {
			t.Errorf("%s: %d %s, want %d", what, got.status, got.text, status)
		}
	}

	refused := 0
	for range 20 {
		if got := s.raw("GET", "/api/messages/queue/1/size", "", as("rate")); got.status == 429 {
			refused++
		}
	}
	if refused < 10 {
		t.Errorf("%d of 20 requests are refused at 2 a second", refused)
	}

	for i := range 3 {
		conn := s.openWith("GET /api/messages/queue/1/size HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer " + secrets["connections"] + "\r\n\r\n")
		head := make([]byte, 12)
		if _, err := conn.Read(head); err != nil || (string(head[9:]) == "429") != (i == 2) {
			t.Errorf("connection %d: %q, %v", i+1, head, err)
		}
	}

	poll := s.openWith("GET /api/messages/queue/1?wait=20 HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer " + secrets["polls"] + "\r\n\r\n")
	eventually(t, func() bool { return s.engine.Stats().Waiting == 1 })
	want("a second long poll", s.raw("GET", "/api/messages/queue/2?wait=1", "", as("polls")), 429)
	_ = poll.Close()
	eventually(t, func() bool { return s.raw("GET", "/api/messages/queue/2?wait=1", "", as("polls")).status == 200 })

	for range 5 {
		s.do("POST", "/api/messages/send", message)
	}
	got := s.raw("GET", "/api/messages/queue/789?lease=60", "", as("leases"))
	var leased struct {
		Count    int
		Messages []struct{ Receipt string }
	}
	if err := json.Unmarshal([]byte(got.text), &leased); err != nil || leased.Count != 3 {
		t.Fatalf("%v, %s: want 3 of 5 messages", err, got.text)
	}
	want("a fourth lease", s.raw("GET", "/api/messages/queue/789?lease=60", "", as("leases")), 429)
	want("a plain take", s.raw("GET", "/api/messages/queue/789?max_count=1", "", as("leases")), 200)
	want("an ack", s.raw("POST", "/api/messages/ack", `{"user_id":789,"receipts":["`+leased.Messages[0].Receipt+`"]}`, as("leases")), 200)
	want("a lease after it", s.raw("GET", "/api/messages/queue/789?lease=60", "", as("leases")), 200)

	_ = s.openWith("POST /api/messages/send HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nAuthorization: Bearer " + secrets["bytes"] + "\r\nContent-Length: 60000\r\n\r\n" + strings.Repeat(" ", 5000))
	eventually(t, func() bool { return s.inflight() >= 4096 })
	want("a send beside a body that does not arrive", s.raw("POST", "/api/messages/send", message, as("bytes")), 429)
	if got := s.raw("POST", "/api/messages/send", message, nil); got.status != 200 {
		t.Errorf("another token: %d %s", got.status, got.text)
	}
}
