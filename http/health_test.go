package http_test

import (
	"testing"

	rest "github.com/stayafrica/messaging/http"
)

func TestReadiness(t *testing.T) {
	s := serve(t, rest.Config{Access: loopbackOnly})
	if status, a := s.do("GET", "/health/ready", ""); status != 200 || a["ready"] != true {
		t.Errorf("%d %v", status, a)
	}
	s.full = true
	if status, a := s.do("GET", "/health/ready", ""); status != 503 || a["disk"] != false || a["recovered"] != true {
		t.Errorf("%d %v", status, a)
	}
	s.full = false
	s.server.Drain()
	if status, a := s.do("GET", "/health/ready", ""); status != 503 || a["draining"] != true {
		t.Errorf("%d %v", status, a)
	}
}
