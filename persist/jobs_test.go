package persist_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/persist"
)

func TestJobsThatRunAreBounded(t *testing.T) {
	work(t, func(w *jobsTest) {
		w.numbered(20)
		w.backend.set(always(persist.Response{Class: persist.Unreached}))
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

// A start without a backend does not end jobs for the backend: they wait, hold back
// retention no longer than usual, can be cancelled, and continue at the next start with
// a backend.
func TestJobsForTheBackendSurviveAStartWithoutOne(t *testing.T) {
	work(t, func(w *jobsTest) {
		w.numbered(30)
		w.letters(messaging.Refused, 3)
		w.dead(messaging.Refused, "other", "x/z")
		w.backend.set(always(persist.Response{Class: persist.Unreached}))
		after(time.Second)
		replay, redrive := w.replay(messaging.ReplayRequest{FromSequence: 4}), w.redrive(messaging.RedriveRequest{Reason: "r"})
		cancelled := []messaging.Job{w.replay(messaging.ReplayRequest{}), w.redrive(messaging.RedriveRequest{Reason: "other"})}
		after(time.Minute)
		w.halt()
		claims := w.store.claims()
		w.run(persist.JobsConfig{BatchSize: 10}) // no sink
		after(time.Minute)
		if shown := w.wantJob(replay.ID, messaging.JobRunning, 0, 27, 0); !strings.Contains(shown.Error, "DJANGO_API_URL") {
			w.Errorf("the replay's error is %q", shown.Error)
		}
		w.wantJob(redrive.ID, messaging.JobRunning, 0, 3, 0)
		if n := w.store.claims(); n != claims {
			w.Errorf("%d are claimed, want %d as before", n, claims)
		}
		if w.jobs.Running() != 4 || w.jobs.Keep(1000) != 1 {
			w.Errorf("%d run, and they hold retention at %d; want 4 and 1", w.jobs.Running(), w.jobs.Keep(1000))
		}
		for _, j := range cancelled {
			w.cancel(j.ID)
			after(time.Second)
			w.wantJob(j.ID, messaging.JobCancelled, 0, j.Total, 0)
		}
		after(24 * time.Hour)
		if keep := w.jobs.Keep(1000); keep != 1000 {
			w.Errorf("after a day they hold retention at %d", keep)
		}
		w.halt()
		w.backend.set(stored)
		w.start()
		after(time.Hour)
		w.wantJob(replay.ID, messaging.JobDone, 27, 27, 0)
		w.wantJob(redrive.ID, messaging.JobDone, 3, 3, 0)
		w.store.wantNoClaim(w.T)
	})
}

// Without a backend, new jobs for it are refused.
func TestNewJobForTheBackendIsRefusedWhileItIsOff(t *testing.T) {
	work(t, func(w *jobsTest) {
		w.numbered(3)
		refused := w.dead(messaging.Refused, "r", "u/a")
		undeliverable := w.dead(messaging.Undeliverable, "n", "u/b")
		w.halt()
		w.run(persist.JobsConfig{})
		_, err := w.jobs.Replay(messaging.ReplayRequest{FromSequence: 1})
		for _, request := range []messaging.RedriveRequest{
			{All: true},
			{Reason: "r"},
			{All: true, Kind: messaging.Refused},
			{IDs: append(refused, undeliverable...)},
		} {
			if messaging.CodeOf(err) != messaging.CodeInvalidField || !strings.Contains(err.Error(), "DJANGO_API_URL is off") {
				w.Errorf("before %+v: %v", request, err)
			}
			_, err = w.jobs.Redrive(request)
		}
		if err == nil || w.jobs.Running() != 0 {
			w.Errorf("%v, and %d jobs run", err, w.jobs.Running())
		}
		j := w.redrive(messaging.RedriveRequest{All: true, Kind: messaging.Undeliverable})
		after(time.Second)
		w.wantJob(j.ID, messaging.JobDone, 1, 1, 0)
	})
}

func TestForgottenJobDoesNotComeBack(t *testing.T) {
	work(t, func(w *jobsTest) {
		w.numbered(3)
		w.backend.delay = 10 * time.Second // a request is in flight
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
			w.Error("the forgotten job exists again")
		}
	})
}

func TestJobWaitsWhileTheDiskIsFull(t *testing.T) {
	work(t, func(w *jobsTest) {
		w.dead(messaging.Undeliverable, "nobody acknowledged it", "u1/a", "u2/b")
		w.store.setFail(errFull, nil)
		j := w.redrive(messaging.RedriveRequest{All: true})
		after(time.Hour)
		w.wantJob(j.ID, messaging.JobRunning, 0, 2, 0)
		w.store.setFail(nil, nil)
		after(time.Minute)
		w.wantJob(j.ID, messaging.JobDone, 2, 2, 0)
		if len(w.store.requeued) != 2 {
			t.Errorf("requeued are %v", w.store.requeued)
		}
	})
}

// Replays at their limit do not count against the limit of redrives.
func TestRedrivesHaveTheirOwnLimit(t *testing.T) {
	work(t, func(w *jobsTest) {
		w.numbered(100)
		names := w.letters(messaging.Refused, 5)
		for range 8 {
			w.replay(messaging.ReplayRequest{FromSequence: 1, Rate: 1, User: "somebody"})
		}
		j := w.redrive(messaging.RedriveRequest{All: true})
		after(time.Second)
		w.wantJob(j.ID, messaging.JobDone, 5, 5, 0)
		got, _ := w.backend.log()
		w.once("redriven", got, names)
		w.backend.set(always(persist.Response{Class: persist.Unreached}))
		w.letters(messaging.Refused, 8)
		page, _ := w.store.ListDeadLetters(messaging.DeadLetterFilter{Limit: 8})
		for _, d := range page.DeadLetters {
			w.redrive(messaging.RedriveRequest{IDs: []string{d.ID}})
			after(time.Second)
		}
		if _, err := w.jobs.Redrive(messaging.RedriveRequest{All: true}); messaging.CodeOf(err) != messaging.CodeTooManyRequests {
			w.Errorf("one more: %v", err)
		}
	})
}

// Eight replays run at one message per second. The two oldest hold back retention, for
// a day. Sequences that are trimmed before the others read them are counted in their
// jobs.
func TestTwoOldestReplaysHoldRetentionForADay(t *testing.T) {
	work(t, func(w *jobsTest) {
		w.numbered(300_000)
		var jobs []messaging.Job
		for i := range 8 {
			from := []uint64{1000, 500, 100, 1, 1, 1, 1, 1}[i]
			jobs = append(jobs, w.replay(messaging.ReplayRequest{FromSequence: from, Rate: 1}))
			after(time.Millisecond)
		}
		after(10 * time.Second)
		if keep := w.jobs.Keep(300_001); keep < 500 || keep > 520 {
			w.Errorf("retention must keep sequences from %d on, want about 510", keep)
		}
		w.cancel(jobs[1].ID)
		if keep := w.jobs.Keep(300_001); keep < 100 || keep > 120 {
			w.Errorf("without the second, the third holds retention at %d, want about 110", keep)
		}
		after(24*time.Hour - 11*time.Second)
		if keep := w.jobs.Keep(300_001); keep > 87_000 {
			w.Errorf("a second before the end of their day they hold retention at %d", keep)
		}
		after(2 * time.Second)
		if keep := w.jobs.Keep(300_001); keep != 300_001 {
			w.Errorf("after their day they hold retention at %d", keep)
		}
		w.restart()
		if keep := w.jobs.Keep(300_001); keep != 300_001 {
			w.Errorf("after a restart they hold retention at %d", keep)
		}
	})
}

// A slow commit delays neither listings nor retention.
func TestListingAndRetentionDoNotWaitForACommit(t *testing.T) {
	work(t, func(w *jobsTest) {
		w.numbered(100)
		w.store.perCommit = time.Hour
		began := time.Now()
		go func() { _, _ = w.jobs.Replay(messaging.ReplayRequest{FromSequence: 1}) }()
		for range 3 { // the commits at its start, for its progress and at its end
			after(time.Hour - time.Minute)
			w.jobs.Keep(100)
			if _, err := w.jobs.ListJobs(); err != nil {
				w.Error(err)
			}
			w.jobs.Running()
		}
		if waited := time.Since(began); waited != 3*(time.Hour-time.Minute) {
			w.Errorf("they took %s", waited-3*(time.Hour-time.Minute))
		}
		after(10 * time.Hour)
	})
}

// A job whose end cannot be saved ends when the disk has space again, and can be
// cancelled before.
func TestEndOfAJobWaitsForSpace(t *testing.T) {
	work(t, func(w *jobsTest) {
		w.letters(messaging.Refused, 2)
		w.backend.set(always(persist.Response{Class: persist.Unreached}))
		j := w.redrive(messaging.RedriveRequest{All: true})
		after(time.Second)
		w.cancel(j.ID)
		w.store.setFail(errFull, errFull)
		after(time.Hour)
		if n := w.store.claims(); n != 2 {
			w.Errorf("%d are claimed, want 2: the end is not saved", n)
		}
		w.store.setFail(nil, nil)
		after(time.Minute)
		w.wantJob(j.ID, messaging.JobCancelled, 0, 2, 0)
		w.store.wantNoClaim(w.T)
		w.restart()
		w.wantJob(j.ID, messaging.JobCancelled, 0, 2, 0)
	})
}
