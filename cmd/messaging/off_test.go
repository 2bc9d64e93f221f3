package main_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"
)

// storing is a backend that stores all it gets.
type storing struct {
	url   string
	mu    sync.Mutex
	texts []string
}

func startStoring(t *testing.T) *storing {
	t.Helper()
	b := &storing{}
	server := httptest.NewServer(b)
	t.Cleanup(server.Close)
	b.url = server.URL
	return b
}

func (b *storing) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var batch struct {
		Messages []struct{ Text string }
	}
	_ = json.NewDecoder(r.Body).Decode(&batch)
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, m := range batch.Messages {
		b.texts = append(b.texts, m.Text)
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"persisted": len(batch.Messages), "errors": []any{}})
}

func (b *storing) stored() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.texts)
}

func TestWhatIsSentWhileTheDrainIsOffIsSettled(t *testing.T) {
	for _, c := range []struct {
		name string
		end  func(s *service)
	}{
		{"stopped", func(s *service) { s.terminate() }},
		{"killed a little later", func(s *service) { time.Sleep(1500 * time.Millisecond); s.kill() }},
	} {
		t.Run(c.name, func(t *testing.T) {
			backend := startStoring(t)
			s := startService(t, "PERSIST_LINGER=0s")
			s.send(t, 1, "while off")
			c.end(s)
			s.env = append(s.env, "DJANGO_API_URL="+backend.url)
			s.start(t)
			s.send(t, 1, "while on")
			eventually(t, 10*time.Second, "the backend has a message", func() bool { return len(backend.stored()) > 0 })
			if got := backend.stored(); !slices.Equal(got, []string{"while on"}) {
				t.Errorf("the backend got %q", got)
			}
			_, answer := s.get("/api/messages/queue/789")
			if answer["count"] != 2.0 {
				t.Errorf("the queue gave %v", answer)
			}
		})
	}
}

func TestTurningTheDrainOffSettlesWhatWaited(t *testing.T) {
	backend := startStoring(t)
	s := startService(t, "DJANGO_API_URL=http://127.0.0.1:1", "PERSIST_LINGER=0s")
	s.send(t, 1, "waits")
	time.Sleep(1200 * time.Millisecond) // the watermark is saved, and nothing is sent after it
	s.terminate()
	on, off := append(slices.Clone(s.env), "DJANGO_API_URL="+backend.url), append(slices.Clone(s.env), "DJANGO_API_URL=off")
	s.env = off
	s.start(t)
	s.terminate()
	s.env = on
	s.start(t)
	s.send(t, 1, "after")
	eventually(t, 10*time.Second, "the backend has a message", func() bool { return len(backend.stored()) > 0 })
	if got := backend.stored(); !slices.Equal(got, []string{"after"}) {
		t.Errorf("the backend got %q", got)
	}
}
