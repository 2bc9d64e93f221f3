package persist_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/persist"
)

func TestJobsThatRunAreBounded(t *testing.T) {
	work(t, func(w *working) {
		w.numbered(20)
		w.backend.set(always(persist.Answer{Verdict: persist.Unreached}))
		for range 8 {
			w.replay(messaging.ReplayRequest{FromSequence: 1})
		}
		if _, err := w.jobs.Replay(messaging.ReplayRequest{FromSequence: 1}); messaging.CodeOf(err) != messaging.CodeTooManyRequests {
			w.Errorf("one more: %v", err)
		}
		w.backend.set(stored)
		after(2 * time.Minute)
		if n := w.jobs.Running(); n != 0 {
			w.Errorf("%d still run", n)
		}
	})
}

func TestJobWithoutABackendFails(t *testing.T) {
	work(t, func(w *working) {
		w.dead(messaging.Refused, "r", "u/a")
		w.numbered(3)
		w.backend.set(always(persist.Answer{Verdict: persist.Unreached}))
		after(time.Second)
		replay := w.replay(messaging.ReplayRequest{FromSequence: 1})
		redrive := w.redrive(messaging.RedriveRequest{All: true})
		after(time.Second)
		w.halt()
		jobs, err := persist.NewJobs(persist.JobsConfig{Store: w.control, History: w.log, DeadLetters: w.control}) // DJANGO_API_URL=off
		if err != nil {
			w.Fatal(err)
		}
		ctx, cancel := context.WithCancel(w.Context())
		done := make(chan error, 1)
		go func() { done <- jobs.Run(ctx) }()
		w.jobs, w.halt = jobs, func() { cancel(); <-done }
		after(time.Second)
		for _, id := range []string{replay.ID, redrive.ID} {
			if j, _, _ := jobs.FindJob(id); j.State != messaging.JobFailed || !strings.Contains(j.Error, "DJANGO_API_URL") {
				w.Errorf("%+v", j)
			}
		}
		if jobs.Running() != 0 || jobs.Keep(1000) != 1000 {
			w.Error("they still run, or keep retention")
		}
	})
}

func TestForgottenJobDoesNotComeBack(t *testing.T) {
	work(t, func(w *working) {
		w.numbered(3)
		w.backend.delay = 10 * time.Second // a request is on its way
		j := w.replay(messaging.ReplayRequest{FromSequence: 1})
		after(time.Second)
		for range 2 {
			if _, ok, err := w.jobs.CancelJob(j.ID); !ok || err != nil {
				w.Fatal(ok, err)
			}
		}
		after(time.Minute)
		w.restart()
		if _, ok, _ := w.jobs.FindJob(j.ID); ok {
			w.Error("it came back")
		}
	})
}

func TestJobWaitsWhileTheDiskIsFull(t *testing.T) {
	work(t, func(w *working) {
		w.dead(messaging.Undeliverable, "nobody acknowledged it", "u1/a", "u2/b")
		w.full.Store(true)
		j := w.redrive(messaging.RedriveRequest{All: true})
		after(time.Hour)
		w.wantJob(j.ID, messaging.JobRunning, 0, 2, 0)
		w.full.Store(false)
		after(time.Minute)
		w.wantJob(j.ID, messaging.JobDone, 2, 2, 0)
		if len(w.requeued) != 2 {
			t.Errorf("requeued are %v", w.requeued)
		}
	})
}
