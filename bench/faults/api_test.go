package faults_test

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"testing"
	"time"
)

// message is a message as a reader and the backend receive it.
type message struct {
	ID         string `json:"id"`
	Sequence   uint64 `json:"sequence"`
	Text       string `json:"text"`
	Receipt    string `json:"receipt"`
	Deliveries int    `json:"deliveries"`
}

type messages struct {
	Messages []message `json:"messages"`
}

// texts returns the texts of the messages in order.
func (m messages) texts() (texts []string) {
	for i := range m.Messages {
		texts = append(texts, m.Messages[i].Text)
	}
	return texts
}

// receipts returns the receipts of the messages in order.
func (m messages) receipts() (receipts []string) {
	for i := range m.Messages {
		receipts = append(receipts, m.Messages[i].Receipt)
	}
	return receipts
}

// fields are members of a JSON object.
type fields map[string]any

// draft returns a message to a user; each user has a conversation of its own.
func draft(user, text string, more fields) fields {
	d := fields{"conversation_id": "c-" + user, "sender_id": 1, "receiver_id": user, "text": text}
	maps.Copy(d, more)
	return d
}

// send sends one message.
func (s *service) send(user, text string, more fields) {
	s.t.Helper()
	call[any](s, http.MethodPost, "/api/messages/send", draft(user, text, more))
}

// batch sends n messages to a user, in batches of at most 10,000.
func (s *service) batch(user string, n int) {
	s.t.Helper()
	const most = 10_000
	for done := 0; done < n; done += most {
		var drafts []fields
		for i := done; i < min(n, done+most); i++ {
			drafts = append(drafts, draft(user, fmt.Sprint(i+1), nil))
		}
		call[any](s, http.MethodPost, "/api/messages/batch", map[string]any{"messages": drafts})
	}
}

// broadcast sends one message to all users.
func (s *service) broadcast(text string, users []string) {
	s.t.Helper()
	call[any](s, http.MethodPost, "/api/messages/broadcast", map[string]any{"message": fields{"sender_id": 1, "text": text}, "user_ids": users})
}

// get reads a user's queue with a query string.
func (s *service) get(user, query string) messages {
	s.t.Helper()
	return call[messages](s, http.MethodGet, "/api/messages/queue/"+user+"?"+query, nil)
}

// size is the response of the queue size endpoint.
type size struct {
	High, Normal, Low, Leased, Delayed, Total int
}

func (s *service) size(user string) size {
	s.t.Helper()
	return call[size](s, http.MethodGet, "/api/messages/queue/"+user+"/size", nil)
}

// ackOrNack ends leases of user 7 and returns the result of each receipt.
func (s *service) ackOrNack(how string, receipts []string, more fields) (results []string) {
	s.t.Helper()
	body := fields{"user_id": "7", "receipts": receipts}
	maps.Copy(body, more)
	responseBody := call[struct {
		Results []struct{ Result string }
	}](s, http.MethodPost, "/api/messages/"+how, body)
	for _, r := range responseBody.Results {
		results = append(results, r.Result)
	}
	return results
}

// stats are counters of the service.
type stats struct {
	Evicted uint64  `json:"messages_evicted"`
	Lag     *uint64 `json:"drain_lag_messages"`
	Drain   string  `json:"drain"`
	Fanouts int     `json:"fanouts"`
}

func (s *service) stats() stats {
	s.t.Helper()
	return call[stats](s, http.MethodGet, "/api/stats", nil)
}

// lag returns how many messages wait for the backend.
func (s *service) lag() uint64 {
	s.t.Helper()
	lag := s.stats().Lag
	if lag == nil {
		s.t.Fatal("/api/stats has no drain_lag_messages")
	}
	return *lag
}

// letter is a dead letter.
type letter struct {
	ID         string    `json:"id"`
	Kind       string    `json:"kind"`
	Reason     string    `json:"reason"`
	Attempts   int       `json:"attempts"`
	FailedAt   time.Time `json:"failed_at"`
	Recipients int       `json:"recipients"`
	Message    message   `json:"message"`
}

type letters struct {
	Letters []letter `json:"dead_letters"`
	Total   int      `json:"total"`
}

// letters lists dead letters.
func (s *service) letters(query url.Values) letters {
	s.t.Helper()
	return call[letters](s, http.MethodGet, "/api/dead-letters?"+query.Encode(), nil)
}

// awaitLetters waits until there are n dead letters.
func (s *service) awaitLetters(n int, within time.Duration) {
	s.t.Helper()
	eventually(s.t, within, fmt.Sprintf("%d dead letters", n), func() bool { return s.letters(nil).Total == n })
}

// makeUndeliverable makes everything in the queue of user 7 undeliverable dead letters.
// The service runs with QUEUE_MAX_DELIVERIES=1.
func (s *service) makeUndeliverable(n int) {
	s.t.Helper()
	for left := n; left > 0; {
		leased := s.get("7", "lease=60&max_count=1000")
		if len(leased.Messages) == 0 {
			s.t.Fatalf("%d of %d messages are not in the queue", left, n)
		}
		s.ackOrNack("nack", leased.receipts(), nil)
		left -= len(leased.Messages)
	}
	s.awaitLetters(n, 10*time.Second)
}

// job is a redrive or a replay.
type job struct {
	ID     string `json:"id"`
	State  string `json:"state"`
	Done   uint64 `json:"done"`
	Total  uint64 `json:"total"`
	Failed uint64 `json:"failed"`
	Error  string `json:"error"`
}

type jobAnswer struct {
	Job job `json:"job"`
}

// redrive starts a redrive.
func (s *service) redrive(request fields) job {
	s.t.Helper()
	return call[jobAnswer](s, http.MethodPost, "/api/dead-letters/redrive", request).Job
}

// replay starts a replay.
func (s *service) replay(request fields) job {
	s.t.Helper()
	return call[jobAnswer](s, http.MethodPost, "/api/replay", request).Job
}

func (s *service) job(id string) job {
	s.t.Helper()
	return call[jobAnswer](s, http.MethodGet, "/api/jobs/"+id, nil).Job
}

// ended waits for the end of a job.
func (s *service) ended(id string, within time.Duration) (j job) {
	s.t.Helper()
	eventually(s.t, within, "the job ends", func() bool { j = s.job(id); return j.State != "running" })
	return j
}

// all is the request for a redrive of all dead letters.
func all() fields { return fields{"all": true} }

// equal compares two values and describes the difference as a user sees it.
func equal[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}
