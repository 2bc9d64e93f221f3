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
)

// agreeable takes everything and has nothing.
type agreeable struct{}

func (agreeable) Busy() error { return nil }

func (agreeable) Send(messaging.Draft, messaging.Once) (messaging.Receipt, error) {
	return messaging.Receipt{Count: 1}, nil
}

func (agreeable) SendAll(drafts []messaging.Draft, _ messaging.Once) (messaging.Receipt, error) {
	return messaging.Receipt{Count: len(drafts)}, nil
}

func (agreeable) Broadcast(messaging.Broadcast, messaging.Once) (messaging.Receipt, error) {
	return messaging.Receipt{}, nil
}

func (agreeable) Take(context.Context, messaging.UserID, messaging.TakeOptions) (messaging.Handout, error) {
	return messaging.Handout{Settle: func(bool) {}}, nil
}

func (agreeable) Peek(messaging.UserID, int) ([]messaging.Message, error) { return nil, nil }
func (agreeable) Size(messaging.UserID) (c messaging.Counts, err error)   { return c, nil }
func (agreeable) Clear(messaging.UserID) (uint64, error)                  { return 0, nil }
func (agreeable) ListJobs() ([]messaging.Job, error)                      { return nil, nil }
func (agreeable) FindJob(string) (j messaging.Job, ok bool, err error)    { return j, false, nil }
func (agreeable) CancelJob(string) (j messaging.Job, ok bool, err error)  { return j, false, nil }
func (agreeable) Redrive(messaging.RedriveRequest) (messaging.Job, error) {
	return messaging.Job{}, nil
}

func (agreeable) Replay(messaging.ReplayRequest) (messaging.Job, error) { return messaging.Job{}, nil }
func (agreeable) DropDeadLetter(string) (bool, error)                   { return false, nil }
func (agreeable) FindDeadLetter(string) (messaging.DeadLetter, bool, error) {
	return messaging.DeadLetter{}, false, nil
}

func (agreeable) Acknowledge(_ messaging.UserID, r []string) ([]messaging.Outcome, error) {
	return make([]messaging.Outcome, len(r)), nil
}

func (agreeable) Reject(_ messaging.UserID, r []string, _ time.Duration) ([]messaging.Outcome, error) {
	return make([]messaging.Outcome, len(r)), nil
}

func (agreeable) Extend(_ messaging.UserID, r []string, _ time.Duration) ([]messaging.Outcome, error) {
	return make([]messaging.Outcome, len(r)), nil
}

func (agreeable) ListDeadLetters(messaging.DeadLetterFilter) (messaging.DeadLetterPage, error) {
	return messaging.DeadLetterPage{}, nil
}

// FuzzRequests: no request yields a redirect, a panic or an internal error.
func FuzzRequests(f *testing.F) {
	for _, c := range hostileCases(f) {
		if len(c.send) < 4<<10 {
			f.Add(c.send)
		}
	}
	server := rest.New(rest.Config{LoopbackOnly: true, RequestTimeout: time.Second})
	server.Open(rest.Backend{
		Queue: agreeable{}, DeadLetters: agreeable{}, Jobs: agreeable{},
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
