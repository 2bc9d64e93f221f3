package persist_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/persist"
)

// history is a log whose messages can be found by time.
type history struct{ *memoryLog }

func (h history) SequenceAt(at time.Time) (uint64, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := range h.messages {
		if !h.messages[i].CreatedAt.Before(at) {
			return uint64(i + 1), nil
		}
	}
	return uint64(len(h.messages) + 1), nil
}

// jobsTest runs jobs in a synctest bubble with a store in memory.
type jobsTest struct {
	*testing.T

	log     history
	backend *backend
	store   *memoryStore

	jobs *persist.Jobs
	halt func()
}

func work(t *testing.T, test func(w *jobsTest)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &jobsTest{T: t, log: history{newLog()}, backend: &backend{respond: stored, delay: time.Millisecond}, store: newMemoryStore()}
		w.start()
		defer func() { w.halt() }()
		test(w)
	})
}

func (w *jobsTest) start() {
	w.Helper()
	w.run(persist.JobsConfig{Sink: w.backend, BatchSize: 10})
}

// run runs jobs with a config plus the stores.
func (w *jobsTest) run(config persist.JobsConfig) {
	w.Helper()
	config.Store, config.History, config.DeadLetters, config.Letters = w.store, w.log, w.store, w.store
	jobs, err := persist.NewJobs(config)
	if err != nil {
		w.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- jobs.Run(ctx) }()
	w.jobs = jobs
	w.halt = func() {
		cancel()
		if err := <-done; err != nil {
			w.Errorf("jobs ended with %v", err)
		}
	}
}

func (w *jobsTest) restart() {
	w.halt()
	w.start()
}

// wantJob checks the visible state of a job.
func (w *jobsTest) wantJob(id string, state messaging.JobState, done, total, failed uint64) messaging.Job {
	w.Helper()
	j, ok, err := w.jobs.FindJob(id)
	if err != nil || !ok {
		w.Fatalf("job %s: %t %v", id, ok, err)
	}
	if j.State != state || j.Done != done || j.Total != total || j.Failed != failed {
		w.Fatalf("job is %s, %d of %d, %d failed (%s); want %s, %d of %d, %d failed", j.State, j.Done, j.Total, j.Failed, j.Error, state, done, total, failed)
	}
	return j
}

func (w *jobsTest) replay(q messaging.ReplayRequest) messaging.Job {
	w.Helper()
	j, err := w.jobs.Replay(q)
	if err != nil {
		w.Fatalf("replay: %v", err)
	}
	return j
}

func (w *jobsTest) redrive(q messaging.RedriveRequest) messaging.Job {
	w.Helper()
	j, err := w.jobs.Redrive(q)
	if err != nil {
		w.Fatalf("redrive: %v", err)
	}
	return j
}

func (w *jobsTest) numbered(n int) (names []string) {
	for i := range n {
		names = append(names, fmt.Sprintf("c%d/%d", i%3, i))
	}
	w.log.add(names...)
	return names
}

// dead makes messages, given as "user/text", dead letters.
func (w *jobsTest) dead(kind messaging.DeadLetterKind, reason string, names ...string) (ids []string) {
	w.Helper()
	for i, n := range names {
		user, _, _ := strings.Cut(n, "/")
		id := messaging.MessageID{0: byte(len(w.store.requeued) + 1), 14: byte(i), 15: n[len(n)-1]}
		m := messaging.Message{
			ID: id, Origin: id, Position: messaging.Position{Sequence: uint64(i + 1)}, CreatedAt: time.Now(),
			Receiver: messaging.Receiver{User: messaging.UserID(user)}, Body: fmt.Appendf(nil, `{"text":%q}`, n),
		}
		letter := messaging.DeadLetter{ID: messaging.DeadLetterID(kind, id), Kind: kind, Reason: reason, Attempts: 1, FailedAt: time.Now(), Message: m}
		if err := w.store.AddDeadLetters([]messaging.DeadLetter{letter}, messaging.Progress{}); err != nil {
			w.Fatal(err)
		}
		ids = append(ids, letter.ID)
	}
	return ids
}
