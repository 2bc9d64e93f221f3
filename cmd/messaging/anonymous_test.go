package main_test

import (
	"context"
	"net/http"
	"testing"
)

func TestAnonymousOnLoopbackStillAnswersToItsOwnNamesOnly(t *testing.T) {
	s := startService(t, "ALLOW_ANONYMOUS=true", "ALLOWED_HOSTS=chat.example:8765")
	for host, want := range map[string]int{
		"localhost:8765": http.StatusOK, "127.0.0.1": http.StatusOK, "chat.example": http.StatusOK, "chat.example:80": http.StatusOK,
		"evil.example:8765": http.StatusMisdirectedRequest,
	} {
		if got := s.statusAs(t, host); got != want {
			t.Errorf("Host %s: %d, want %d", host, got, want)
		}
	}
	s = startService(t, "ALLOW_ANONYMOUS=true")
	if got := s.statusAs(t, "evil.example"); got != http.StatusForbidden {
		t.Errorf("a name that was rebound to loopback: %d", got)
	}
}

// statusAs requests the statistics with another host name and returns the status.
func (s *service) statusAs(t *testing.T, host string) int {
	t.Helper()
	request, err := http.NewRequestWithContext(context.Background(), http.MethodGet, s.url+"/api/stats", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	request.Host = host
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	return response.StatusCode
}
