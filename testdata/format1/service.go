package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"sync"
	"time"

	"github.com/stayafrica/messaging/bench/program"
)

// settings are those that the store is made and read with: nothing in it becomes
// too old, but for idempotency keys, which last for 30 days at most.
var settings = []string{
	"MESSAGE_RETENTION_DAYS=36500", "IDEMPOTENCY_WINDOW=720h", "QUEUE_MAX_DELIVERIES=2",
	"PERSIST_LINGER=10ms", "PERSIST_MAX_BACKOFF=200ms",
}

type object = map[string]any

// service is a running program and its backend. A failure is a panic with an error,
// which [guard] returns.
type service struct {
	*program.Program

	backend *backend
}

func guard(err *error) {
	if r := recover(); r != nil {
		failed, ok := r.(error)
		if !ok {
			panic(r)
		}
		*err = failed
	}
}

func start(path, dir string, b *backend, env ...string) *service {
	p, err := program.Start(program.Config{Path: path, Dir: dir, Env: append(append([]string{"DJANGO_API_URL=" + b.URL}, settings...), env...)})
	must(err)
	s := &service{Program: p, backend: b}
	if _, err := p.Ready(time.Minute); err != nil {
		p.Kill()
		panic(err)
	}
	return s
}

func (s *service) stop() {
	status, err := s.Stop(time.Minute)
	must(err)
	if status != 0 {
		panic(fmt.Errorf("the program ended with status %d:\n%s", status, s.Log()))
	}
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// call makes a call that must succeed.
func (s *service) call(method, path string, body any, headers ...string) object {
	var content io.Reader = http.NoBody
	if body != nil {
		text, err := json.Marshal(body)
		must(err)
		content = bytes.NewReader(text)
	}
	request, err := http.NewRequest(method, s.URL+path, content)
	must(err)
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	response, err := http.DefaultClient.Do(request)
	must(err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	must(err)
	if response.StatusCode != http.StatusOK {
		panic(fmt.Errorf("%s %s: %s %.300s", method, path, response.Status, text))
	}
	var answer object
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber() // digits stay as they are
	must(decoder.Decode(&answer))
	return answer
}

func (s *service) await(what string, ok func() bool) {
	for end := time.Now().Add(time.Minute / 2); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			panic(fmt.Errorf("not within half a minute: %s\n%v\n%s", what, s.call("GET", "/api/jobs", nil), s.Log()))
		}
	}
}

// stat is a number of /api/stats.
func (s *service) stat(name string) string { return fmt.Sprint(s.call("GET", "/api/stats", nil)[name]) }

// command runs the command line and returns what it prints.
func command(path string, args ...string) string {
	out, err := exec.Command(path, args...).CombinedOutput()
	if err != nil {
		panic(errors.Join(err, errors.New(string(out))))
	}
	return string(out)
}

// backend stores messages, or refuses a message for the reason in its text, or is
// down.
type backend struct {
	*httptest.Server

	mu   sync.Mutex
	down bool
	good bool                       // refuses nothing
	got  map[string]map[string]bool // sequence → ids of stored messages
}

func startBackend(down bool) *backend {
	b := &backend{down: down, got: make(map[string]map[string]bool)}
	b.Server = httptest.NewServer(http.HandlerFunc(b.serve))
	return b
}

func (b *backend) set(down, good bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.down, b.good = down, good
}

// refusal is the reason in a text, for one receiver where it names one.
func refusal(text, receiver string) string {
	_, reason, _ := strings.Cut(text, "refuse: ")
	if before, after, ok := strings.Cut(reason, " for "); ok && after != receiver {
		return ""
	} else if ok {
		return before
	}
	return reason
}

func (b *backend) serve(w http.ResponseWriter, r *http.Request) {
	var batch struct {
		Messages []json.RawMessage `json:"messages"`
	}
	if err := json.NewDecoder(r.Body).Decode(&batch); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.down {
		http.Error(w, "down", http.StatusServiceUnavailable)
		return
	}
	var refused []string
	for _, text := range batch.Messages {
		var m struct {
			ID       string          `json:"id"`
			Sequence json.Number     `json:"sequence"`
			Text     string          `json:"text"`
			Receiver json.RawMessage `json:"receiver_id"`
		}
		_ = json.Unmarshal(text, &m)
		if reason := refusal(m.Text, strings.Trim(string(m.Receiver), `"`)); reason != "" && !b.good {
			refused = append(refused, fmt.Sprintf(`{"message":%s,"error":%q,"permanent":true}`, text, reason))
			continue
		}
		if b.got[m.Sequence.String()] == nil {
			b.got[m.Sequence.String()] = make(map[string]bool)
		}
		b.got[m.Sequence.String()][m.ID] = true
	}
	fmt.Fprintf(w, `{"persisted":%d,"errors":[%s]}`, len(batch.Messages)-len(refused), strings.Join(refused, ","))
}
