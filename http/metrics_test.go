package http_test

import (
	"strings"
	"testing"

	"github.com/VictoriaMetrics/metrics"

	rest "github.com/stayafrica/messaging/http"
)

func TestMetricsAreReadable(t *testing.T) {
	s := serve(t, rest.Config{Access: loopbackOnly})
	_, _ = s.do("POST", "/api/messages/send", message)
	text := s.raw("GET", "/metrics", "", nil).text
	for _, want := range []string{
		`messaging_http_request_seconds_bucket{route="/api/messages/send",method="POST",code="200",le="`,
		"messaging_http_connections ", "messaging_inflight_bytes ",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
}

func TestMetricsHaveTheHelpThatTheServerIsGiven(t *testing.T) {
	metrics.ExposeMetadata(true) // for all sets
	s := serve(t, rest.Config{Access: loopbackOnly, MetricHelp: func(name string) string { return "Help of " + name + "." }})
	text := s.raw("GET", "/metrics", "", nil).text
	for _, name := range []string{"messaging_inflight_bytes", "process_resident_memory_bytes"} {
		if !strings.Contains(text, "# HELP "+name+" Help of "+name+".\n# TYPE "+name+" gauge\n"+name+" ") {
			t.Errorf("no help of %s in\n%s", name, text)
		}
	}
}
