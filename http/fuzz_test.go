package http_test

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stayafrica/messaging"
	rest "github.com/stayafrica/messaging/http"
	"github.com/stayafrica/messaging/internal/hostiletest"
)

// acceptAll is a backend that accepts every call and stores nothing.
type acceptAll struct{}

func (acceptAll) Busy() error { return nil }

func (acceptAll) Send(messaging.Draft, messaging.IdempotencyKey) (messaging.SendResult, error) {
	return messaging.SendResult{Count: 1}, nil
}

func (acceptAll) SendAll(drafts []messaging.Draft, _ messaging.IdempotencyKey) (messaging.SendResult, error) {
	return messaging.SendResult{Count: len(drafts)}, nil
}

func (acceptAll) Broadcast(messaging.Broadcast, messaging.IdempotencyKey) (messaging.SendResult, error) {
	return messaging.SendResult{}, nil
}

func (acceptAll) Take(context.Context, messaging.UserID, messaging.TakeOptions) (messaging.Delivery, error) {
	return messaging.Delivery{Finish: func(bool) {}}, nil
}

func (acceptAll) Peek(messaging.UserID, int) ([]messaging.Message, error) { return nil, nil }
func (acceptAll) Size(messaging.UserID) (c messaging.Counts, err error)   { return c, nil }
func (acceptAll) Clear(messaging.UserID) (uint64, error)                  { return 0, nil }
func (acceptAll) ListJobs() ([]messaging.Job, error)                      { return nil, nil }
func (acceptAll) FindJob(string) (j messaging.Job, ok bool, err error)    { return j, false, nil }
func (acceptAll) CancelJob(string) (j messaging.Job, ok bool, err error)  { return j, false, nil }
func (acceptAll) Redrive(messaging.RedriveRequest) (messaging.Job, error) {
	return messaging.Job{}, nil
}

func (acceptAll) Replay(messaging.ReplayRequest) (messaging.Job, error) { return messaging.Job{}, nil }
func (acceptAll) DropDeadLetter(string) (bool, error)                   { return false, nil }
func (acceptAll) FindDeadLetter(string) (messaging.DeadLetter, bool, error) {
	return messaging.DeadLetter{}, false, nil
}

func (acceptAll) Acknowledge(_ messaging.UserID, r []string) ([]messaging.Outcome, error) {
	return make([]messaging.Outcome, len(r)), nil
}

func (acceptAll) Nack(_ messaging.UserID, r []string, _ time.Duration) ([]messaging.Outcome, error) {
	return make([]messaging.Outcome, len(r)), nil
}

func (acceptAll) Extend(_ messaging.UserID, r []string, _ time.Duration) ([]messaging.Outcome, error) {
	return make([]messaging.Outcome, len(r)), nil
}

func (acceptAll) ListDeadLetters(messaging.DeadLetterFilter) (messaging.DeadLetterPage, error) {
	return messaging.DeadLetterPage{}, nil
}

// FuzzRequests checks that no request causes a redirect, a panic or an internal error.
func FuzzRequests(f *testing.F) {
	for _, c := range hostiletest.Cases(f, "../testdata/hostile") {
		if len(c.Send) < 4<<10 {
			f.Add(c.Send)
		}
	}
	server := rest.New(rest.Config{Access: loopbackOnly, RequestTimeout: time.Second})
	server.Open(rest.Backend{
		Queue: acceptAll{}, DeadLetters: acceptAll{}, Jobs: acceptAll{},
		DiskOK: func() bool { return true }, Stats: func() messaging.Stats { return messaging.Stats{} },
	})
	f.Fuzz(func(t *testing.T, text string) {
		request, err := http.ReadRequest(bufio.NewReader(strings.NewReader(text)))
		if err != nil {
			return
		}
		answer := httptest.NewRecorder()
		server.ServeHTTP(answer, request)
		_, _ = io.Copy(io.Discard, request.Body)
		if answer.Code >= 500 || answer.Code < 200 || (answer.Code >= 300 && answer.Code < 400) || strings.Contains(answer.Body.String(), "goroutine ") {
			t.Errorf("%d %s", answer.Code, answer.Body)
		}
	})
}
