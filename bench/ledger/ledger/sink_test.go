package ledger

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// deliver posts messages as the service does; status is 0 without a response.
func deliver(t *testing.T, s *Sink, messages ...string) (status int, responseBody string) {
	t.Helper()
	response, err := http.Post(s.URL+"/", "application/json", strings.NewReader(`{"messages":[`+strings.Join(messages, ",")+`]}`))
	if err != nil {
		return 0, ""
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(text)
}

func numbered(n int, extra string) string {
	return fmt.Sprintf(`{"id":"id-%d","sequence":%d,"created_at":"2026-11-24T01:56:47.381Z","receiver_id":1000,"ledger":"%d.0"%s}`, n, n, n, extra)
}

func startSink(t *testing.T, path string, bad Misbehaviour) *Sink {
	t.Helper()
	s, err := NewSink(t.Context(), 0, path, 1, bad)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.server.Close() })
	return s
}

func TestSinkStoresOnceAndRemembers(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "sink")
	s := startSink(t, path, Misbehaviour{})
	check := func(want string, messages ...string) {
		t.Helper()
		if status, got := deliver(t, s, messages...); status != http.StatusOK || got != want {
			t.Errorf("got %d %s, want %s", status, got, want)
		}
	}
	check(`{"persisted":2,"duplicates":0,"errors":[]}`, numbered(1, ""), numbered(2, ""))
	check(`{"persisted":1,"duplicates":1,"errors":[]}`, numbered(2, ""), numbered(3, ""))
	check(`{"persisted":0,"duplicates":0,"errors":[{"message":{"id":"id-4"},"error":"poison","permanent":true}]}`, numbered(4, `,"metadata":{"poison":true}`))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = startSink(t, path, Misbehaviour{})
	check(`{"persisted":1,"duplicates":3,"errors":[]}`, numbered(1, ""), numbered(2, ""), numbered(3, ""), numbered(5, ""))
	s.Mute(true)
	if status, _ := deliver(t, s, numbered(6, "")); status != 0 {
		t.Errorf("muted, the sink responded with %d", status)
	}
	s.Mute(false)
	check(`{"persisted":1,"duplicates":0,"errors":[]}`, numbered(6, ""))
}

func TestSinkMisbehaves(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		bad    Misbehaviour
		status int
		stores bool
	}{
		{"fail", Misbehaviour{Fail: 100}, http.StatusInternalServerError, false},
		{"hang", Misbehaviour{Hang: 100, Wait: 10 * time.Millisecond}, 0, false},
		{"reset", Misbehaviour{Reset: 100}, 0, true},
		{"slow", Misbehaviour{Slow: 100, Wait: 10 * time.Millisecond}, http.StatusOK, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := startSink(t, filepath.Join(t.TempDir(), "sink"), c.bad)
			if status, _ := deliver(t, s, numbered(1, "")); status != c.status {
				t.Errorf("status %d", status)
			}
			s.SetMisbehaviour(Misbehaviour{})
			_, responseBody := deliver(t, s, numbered(1, ""))
			if stored := strings.Contains(responseBody, `"duplicates":1`); stored != c.stores {
				t.Errorf("stored: %t (%s)", stored, responseBody)
			}
		})
	}
}

// TestSinkReturnsErrorsAtMostTwice checks that no message gets an error more than
// twice: more errors would make it a dead letter.
func TestSinkReturnsErrorsAtMostTwice(t *testing.T) {
	t.Parallel()
	s := startSink(t, filepath.Join(t.TempDir(), "sink"), Misbehaviour{Errors: 100})
	messages := make([]string, 40)
	for i := range messages {
		messages[i] = numbered(i+1, "")
	}
	for range 3 {
		deliver(t, s, messages...)
	}
	if status, responseBody := deliver(t, s, messages...); status != http.StatusOK || !strings.Contains(responseBody, `"errors":[]`) {
		t.Errorf("%d %s", status, responseBody)
	}
}

// TestPlanSurvivesTheServicesEncoding parses every call in the form in which the service
// would deliver it, and finds it unaltered; a change of a single byte is detected.
func TestPlanSurvivesTheServicesEncoding(t *testing.T) {
	t.Parallel()
	p := Plan{Seed: 3, Users: 5, Conversations: 3, Text: 100}
	for n := range uint64(300) {
		c, again := p.call(n), p.call(n)
		_, _, body := c.request()
		if _, _, other := again.request(); !bytes.Equal(body, other) {
			t.Fatalf("call %d differs when it is generated again", n)
		}
		for part := range bytes.SplitSeq(body, []byte("\n")) {
			if !json.Valid(part) {
				t.Fatalf("call %d is not JSON: %s", n, part)
			}
		}
		for _, it := range c.items() {
			raw := slices.Concat([]byte(`{"id":"x","sequence":7,"created_at":"2026-11-24T01:56:47.381Z","receipt":"r","deliveries":2,`), c.tail(it))
			m, err := receive(raw)
			if err != nil || m.ref != it.Ref || m.digest != digest(c.tail(it)) || m.user != userName(it.user) {
				t.Fatalf("%s was read as %+v (%v)", raw, m, err)
			}
			m, err = receive(bytes.Replace(raw, []byte(`"sender_id":`), []byte(`"sender_id" :`), 1))
			if err != nil || m.digest == digest(c.tail(it)) {
				t.Fatalf("a changed byte was not detected (%v)", err)
			}
		}
	}
}
