package persist_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/persist"
	"github.com/stayafrica/messaging/storage"
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

// working is jobs in a bubble, with a control file in memory.
type working struct {
	*testing.T

	log     history
	backend *backend
	control *storage.Control
	// requeued are the messages that came back into queues; gone says that the
	// log does not have them.
	requeued []string
	gone     bool
	// full says that the disk is.
	full atomic.Bool

	jobs *persist.Jobs
	halt func()
}

func work(t *testing.T, test func(w *working)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		store, err := storage.Open(storage.Config{Dir: "/data", FS: vfs.NewMem(), Control: storage.NewMemoryControl().Open, MemTableBytes: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := store.Close(); err != nil {
				t.Error(err)
			}
		}()
		w := &working{T: t, log: history{newLog()}, backend: &backend{answer: stored, delay: time.Millisecond}, control: store.Control()}
		w.start()
		defer func() { w.halt() }()
		test(w)
	})
}

func (w *working) start() {
	w.Helper()
	jobs, err := persist.NewJobs(persist.JobsConfig{
		Store: w.control, History: w.log, DeadLetters: w.control, Sink: w.backend, BatchSize: 10,
		Requeue: func(m *messaging.Message, settle func() error) (string, error) {
			if w.full.Load() {
				return "", storage.ErrDiskFull
			}
			if w.gone {
				return "the log does not have it", nil
			}
			w.requeued = append(w.requeued, fmt.Sprint(m.Receiver.User, ":", name(m.Body), "@", m.Position.Sequence))
			return "", settle()
		},
	})
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

func (w *working) restart() {
	w.halt()
	w.start()
}

// wantJob compares what is shown of a job.
func (w *working) wantJob(id string, state messaging.JobState, done, total, failed uint64) messaging.Job {
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

func (w *working) replay(q messaging.ReplayRequest) messaging.Job {
	w.Helper()
	j, err := w.jobs.Replay(q)
	if err != nil {
		w.Fatalf("replay: %v", err)
	}
	return j
}

func (w *working) redrive(q messaging.RedriveRequest) messaging.Job {
	w.Helper()
	j, err := w.jobs.Redrive(q)
	if err != nil {
		w.Fatalf("redrive: %v", err)
	}
	return j
}

func (w *working) numbered(n int) (names []string) {
	for i := range n {
		names = append(names, fmt.Sprintf("c%d/%d", i%3, i))
	}
	w.log.add(names...)
	return names
}

// dead makes dead letters of messages, given as "user/text".
func (w *working) dead(kind messaging.DeadLetterKind, reason string, names ...string) (ids []string) {
	w.Helper()
	for i, n := range names {
		user, _, _ := strings.Cut(n, "/")
		id := messaging.MessageID{0: byte(len(w.requeued) + 1), 14: byte(i), 15: n[len(n)-1]}
		m := messaging.Message{
			ID: id, Origin: id, Position: messaging.Position{Sequence: uint64(i + 1)}, CreatedAt: time.Now(),
			Receiver: messaging.Receiver{User: messaging.UserID(user)}, Body: fmt.Appendf(nil, `{"text":%q}`, n),
		}
		letter := messaging.DeadLetter{ID: messaging.DeadLetterID(kind, id), Kind: kind, Reason: reason, Attempts: 1, FailedAt: time.Now(), Message: m}
		if err := w.control.AddDeadLetters([]messaging.DeadLetter{letter}); err != nil {
			w.Fatal(err)
		}
		ids = append(ids, letter.ID)
	}
	return ids
}
