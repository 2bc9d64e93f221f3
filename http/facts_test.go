package http_test

import (
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/VictoriaMetrics/metrics"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/julienschmidt/httprouter"

	rest "github.com/stayafrica/messaging/http"
)

// TestFact8RouterMatchesDecodedPaths checks that clients are protected from three
// behaviours of the router: an encoded slash selects another call, NUL reaches a
// parameter, and similar paths redirect.
func TestFact8RouterMatchesDecodedPaths(t *testing.T) {
	router := httprouter.New()
	if !router.RedirectTrailingSlash || !router.RedirectFixedPath {
		t.Error("the router no longer redirects by default")
	}
	s := serve(t, rest.Config{Access: loopbackOnly})
	s.do("POST", "/api/messages/send", strings.Replace(message, "789", "5", 1))
	for path, want := range map[string]int{
		"/api/messages/queue/5%2Fsize":    404,
		"/api/messages/queue/5%2fsize":    404,
		"/api/messages/queue%2F5":         404,
		"/api%2Fstats":                    404,
		"/api/messages/queue/5%00":        400,
		"/api/messages/queue/%00":         400,
		"//api/stats":                     404,
		"/api//stats":                     404,
		"/api/stats/":                     404,
		"/api/messages/queue/5/":          404,
		"/api/messages/queue/":            404,
		"/api/./stats":                    404,
		"/api/messages/../stats":          404,
		"/Api/Stats":                      404,
		"/api/messages/queue/5/size":      200,
		"/api/messages/queue/5?peek=true": 200,
	} {
		// Raw, because Go's client cleans paths.
		got := s.talk("GET " + path + " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
		if !strings.HasPrefix(got, "HTTP/1.1 "+strconv.Itoa(want)+" ") || strings.Contains(got, "\r\nLocation:") {
			t.Errorf("%s: %.200q, want %d", path, got, want)
		}
	}
}

// TestFact9LaxJSONIsRefused checks that JSON is refused that encoding/json accepts.
func TestFact9LaxJSONIsRefused(t *testing.T) {
	s := serve(t, rest.Config{Access: loopbackOnly})
	for name, c := range map[string]struct{ body, code string }{
		"duplicate key":       {strings.Replace(message, "{", `{"text":"a",`, 1), "duplicate_key"},
		"key in another case": {strings.Replace(message, `"text"`, `"Text"`, 1), "missing_field"},
		"invalid UTF-8":       {strings.Replace(message, "Hello", "\xff", 1), "invalid_text"},
		"lone surrogate":      {strings.Replace(message, "Hello", `\ud800`, 1), "invalid_text"},
		"NUL":                 {strings.Replace(message, "Hello", `\u0000`, 1), "invalid_text"},
		"null":                {"null", "invalid_json"},
		"two documents":       {message + message, "invalid_json"},
		"null as an id":       {strings.Replace(message, "789", "null", 1), "invalid_field"},
	} {
		if status, answer := s.do("POST", "/api/messages/send", c.body); status != 400 || answer["code"] != c.code {
			t.Errorf("%s: %d %v, want %s", name, status, answer, c.code)
		}
	}
	if s.log.Durable() != 0 {
		t.Error("something was stored")
	}
	// Numbers keep their digits.
	const exact = "9007199254740993"
	s.do("POST", "/api/messages/send", strings.Replace(message, `"sender_id":2`, `"sender_id":`+exact, 1))
	if queue := s.raw("GET", "/api/messages/queue/789", "", nil).text; !strings.Contains(queue, exact) || !jsontext.Value(queue).IsValid() {
		t.Errorf("%s became %s", exact, queue)
	}
}

// TestFact12MetricsAreForPrometheus checks that histograms have Prometheus buckets, that
// each server has its own set, and that no label contains a user id.
func TestFact12MetricsAreForPrometheus(t *testing.T) {
	one, two := metrics.NewSet(), metrics.NewSet()
	s, other := serve(t, rest.Config{Access: loopbackOnly, Metrics: one}), serve(t, rest.Config{Access: loopbackOnly, Metrics: two})
	s.do("POST", "/api/messages/send", strings.Replace(message, "789", `"somebody-in-particular"`, 1))
	s.do("GET", "/api/messages/queue/somebody-in-particular", "")
	s.raw("GET", "/api/nothing/somebody-in-particular", "", nil)
	text := s.raw("GET", "/metrics", "", nil).text
	if !regexp.MustCompile(`messaging_http_request_seconds_bucket\{[^}]*le="\+Inf"\} [1-9]`).MatchString(text) {
		t.Error("there are no Prometheus buckets")
	}
	if strings.Contains(text, "vmrange") || strings.Contains(text, "somebody") {
		t.Errorf("vmrange buckets, or a user id, in\n%s", text)
	}
	if text := other.raw("GET", "/metrics", "", nil).text; strings.Contains(text, `route="/api/messages/send"`) {
		t.Error("a server has the metrics of another one")
	}
}
