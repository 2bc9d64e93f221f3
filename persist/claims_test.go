package persist_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/persist"
)

// letters creates n dead letters and returns their names.
func (w *jobsTest) letters(kind messaging.DeadLetterKind, n int) (names []string) {
	w.Helper()
	for i := range n {
		names = append(names, fmt.Sprintf("u%02d/%02d", i, i))
	}
	for i, name := range names {
		id := messaging.MessageID{13: byte(i)}
		user, _, _ := strings.Cut(name, "/")
		m := messaging.Message{
			ID: id, Origin: id, Position: messaging.Position{Sequence: uint64(i + 1)}, CreatedAt: time.Now(),
			Receiver: messaging.Receiver{User: messaging.UserID(user)}, Body: fmt.Appendf(nil, `{"text":%q}`, name),
		}
		letter := messaging.DeadLetter{Kind: kind, Reason: "r", Attempts: 1, FailedAt: time.Now(), Message: m}
		if err := w.store.AddDeadLetters([]messaging.DeadLetter{letter}, messaging.Progress{}); err != nil {
			w.Fatal(err)
		}
	}
	after(time.Second) // a job skips letters that failed at or after its start
	return names
}

// once checks that each name was stored once.
func (w *jobsTest) once(what string, got, names []string) {
	w.Helper()
	slices.Sort(got)
	wantNames(w.T, what, got, names...)
}

func (w *jobsTest) cancel(id string) {
	w.Helper()
	if _, ok, err := w.jobs.CancelJob(id); !ok || err != nil {
		w.Fatal(ok, err)
	}
}

// A refusal while the backend stores nothing else is not the letter's fault: the letter
// is unchanged.
func TestRedriveRefusedWithoutEvidenceLeavesTheLetter(t *testing.T) {
	for name, respond := range map[string]func([]string) persist.Response{
		"an error for each": each(func(string) persist.Result { return persist.Result{Error: "locked"} }),
		"suspect errors": each(func(string) persist.Result {
			return persist.Result{Error: "matching query does not exist", Suspect: true}
		}),
		"refused batches": always(persist.Response{Class: persist.Rejected, Status: 400, Reason: "bad"}),
		"wrong numbers":   always(persist.Response{Class: persist.Mismatched, Status: 200, Reason: "odd"}),
	} {
		t.Run(name, func(t *testing.T) {
			work(t, func(w *jobsTest) {
				w.letters(messaging.Refused, 3)
				w.backend.set(respond)
				j := w.redrive(messaging.RedriveRequest{All: true})
				after(time.Minute)
				if shown := w.wantJob(j.ID, messaging.JobDone, 3, 3, 3); !strings.Contains(shown.Error, "3 messages stay dead letters") {
					w.Errorf("the job's error is %q", shown.Error)
				}
				page, _ := w.store.ListDeadLetters(messaging.DeadLetterFilter{Limit: 10, Reason: "r"})
				if len(page.DeadLetters) != 3 {
					w.Errorf("%d letters are left with their reason", len(page.DeadLetters))
				}
				for _, d := range page.DeadLetters {
					if d.Attempts != 1 || d.StatusCode != 0 {
						w.Errorf("%s has %d attempts and status %d", d.ID, d.Attempts, d.StatusCode)
					}
				}
				w.store.wantNoClaim(w.T)
			})
		})
	}
}

// A pause lasts as long as the backend asks for, at most an hour. A job can be
// cancelled during the pause and then holds no claims.
func TestRedriveIsCancelledInAPause(t *testing.T) {
	work(t, func(w *jobsTest) {
		names := w.letters(messaging.Refused, 3)
		w.backend.set(always(persist.Response{Class: persist.Throttled, Status: 429, RetryAfter: 5 * time.Hour}))
		j := w.redrive(messaging.RedriveRequest{All: true})
		after(59 * time.Minute)
		if _, batches := w.backend.log(); len(batches) != 1 {
			w.Errorf("%d tries in the pause", len(batches))
		}
		after(2 * time.Minute)
		if _, batches := w.backend.log(); len(batches) != 2 {
			w.Errorf("%d tries after an hour, want 2", len(batches))
		}
		if n := w.store.claims(); n != 3 {
			w.Errorf("%d are claimed in the pause, want 3", n)
		}
		w.cancel(j.ID)
		after(time.Millisecond)
		w.wantJob(j.ID, messaging.JobCancelled, 0, 3, 0)
		w.store.wantNoClaim(w.T)
		for _, l := range w.store.letters {
			for user, r := range l.recipients {
				if r.job != "" {
					w.Errorf("%s still has the claim of the job that was cancelled", user)
				}
			}
		}
		w.backend.set(stored)
		j = w.redrive(messaging.RedriveRequest{All: true})
		after(time.Second)
		w.wantJob(j.ID, messaging.JobDone, 3, 3, 0)
		got, _ := w.backend.log()
		w.once("stored", got, names)
	})
}

// The second of two redrives skips the letters that the first one has claimed.
func TestTwoRedrivesSendEachLetterOnce(t *testing.T) {
	work(t, func(w *jobsTest) {
		names := w.letters(messaging.Refused, 25)
		w.backend.delay = time.Minute
		first := w.redrive(messaging.RedriveRequest{All: true})
		after(time.Second)
		second := w.redrive(messaging.RedriveRequest{All: true})
		after(time.Hour)
		got, _ := w.backend.log()
		w.once("stored", got, names)
		var failed uint64
		for _, id := range []string{first.ID, second.ID} {
			j, _, _ := w.jobs.FindJob(id)
			if j.State != messaging.JobDone || j.Done != 25 || j.Total != 25 {
				w.Errorf("%+v", j)
			}
			failed += j.Failed
		}
		if failed == 0 || w.jobs.Redriven() != 25 || w.store.count(messaging.Refused) != 0 {
			w.Errorf("%d failed, %d redriven, %d are left", failed, w.jobs.Redriven(), w.store.count(messaging.Refused))
		}
		if j, _, _ := w.jobs.FindJob(second.ID); !strings.Contains(j.Error, "another job redrives it") {
			w.Errorf("the second job's error is %q", j.Error)
		}
	})
}

func TestTwoRedrivesRequeueEachMessageOnce(t *testing.T) {
	work(t, func(w *jobsTest) {
		names := w.letters(messaging.Undeliverable, 1000)
		w.store.perCommit = time.Millisecond
		first := w.redrive(messaging.RedriveRequest{All: true})
		second := w.redrive(messaging.RedriveRequest{All: true})
		after(time.Minute)
		w.wantJob(first.ID, messaging.JobDone, 1000, 1000, 0)
		w.wantJob(second.ID, messaging.JobDone, 1000, 1000, 0)
		if got := len(slices.Compact(slices.Sorted(slices.Values(w.store.requeued)))); got != len(names) || len(w.store.requeued) != len(names) {
			w.Errorf("%d messages were requeued, %d different ones, want %d", len(w.store.requeued), got, len(names))
		}
		if w.jobs.Redriven() != 1000 {
			w.Errorf("%d are counted", w.jobs.Redriven())
		}
	})
}

func TestSameIDTwiceInARedriveCountsOnce(t *testing.T) {
	work(t, func(w *jobsTest) {
		ids := w.dead(messaging.Undeliverable, "r", "u/a", "v/b")
		after(time.Second)
		j := w.redrive(messaging.RedriveRequest{IDs: []string{ids[0], ids[1], ids[0], ids[0]}})
		if j.Total != 2 {
			w.Errorf("the total is %d, want 2", j.Total)
		}
		after(time.Second)
		w.wantJob(j.ID, messaging.JobDone, 2, 2, 0)
		wantNames(w.T, "requeued", w.store.requeued, "u:u/a", "v:v/b")
	})
}

// A stop leaves the claims to the job, which continues after the restart and does not
// count its earlier failures again.
func TestRedriveContinuesAfterARestartWithItsClaims(t *testing.T) {
	work(t, func(w *jobsTest) {
		names := w.letters(messaging.Refused, 25) // three batches
		refused := each(func(n string) persist.Result {
			return persist.Result{Stored: n != names[3], Error: "no", Permanent: true}
		})
		w.backend.set(func(batch []string) persist.Response {
			if slices.Contains(batch, names[12]) {
				return persist.Response{Class: persist.Unavailable, Status: 503}
			}
			return refused(batch)
		})
		first := w.redrive(messaging.RedriveRequest{All: true})
		after(10 * time.Second)
		w.wantJob(first.ID, messaging.JobRunning, 10, 25, 1)
		w.halt()
		if n := w.store.claims(); n != 10 {
			w.Errorf("%d are claimed after the stop, want the second batch", n)
		}
		w.start()
		second := w.redrive(messaging.RedriveRequest{Reason: "r"})
		after(time.Second)
		w.backend.set(refused)
		after(time.Minute)
		w.wantJob(first.ID, messaging.JobDone, 25, 25, 1)
		if j, _, _ := w.jobs.FindJob(second.ID); j.State != messaging.JobDone {
			w.Errorf("%+v", j)
		}
		got, _ := w.backend.log()
		w.once("stored", got, slices.Delete(slices.Clone(names), 3, 4))
		w.store.wantNoClaim(w.T)
	})
}

// A letter that is deleted while it is being sent stays deleted, whatever the response.
func TestLetterIsDeletedWhileItIsRedriven(t *testing.T) {
	for name, result := range map[string]persist.Result{"stored": {Stored: true}, "refused": {Error: "never", Permanent: true}} {
		t.Run(name, func(t *testing.T) {
			work(t, func(w *jobsTest) {
				ids := w.dead(messaging.Refused, "r", "u/a")
				after(time.Second)
				w.backend.delay = time.Minute
				w.backend.set(each(func(string) persist.Result { return result }))
				j := w.redrive(messaging.RedriveRequest{All: true})
				after(time.Second)
				w.store.drop(ids[0])
				after(time.Hour)
				if shown, _, _ := w.jobs.FindJob(j.ID); shown.State != messaging.JobDone || shown.Done != 1 {
					w.Errorf("%+v", shown)
				}
				if n := w.store.count(messaging.Refused); n != 0 {
					w.Error("the deleted letter exists again")
				}
			})
		})
	}
}

// The recipients of one broadcast are refused again, for different reasons.
func TestRedrivenBroadcastGetsItsNewReasons(t *testing.T) {
	work(t, func(w *jobsTest) {
		origin := messaging.MessageID{9}
		base := messaging.Message{ID: origin, Origin: origin, Position: messaging.Position{Sequence: 7}, CreatedAt: time.Now(), Body: []byte(`{"text":"all"}`)}
		for i := range uint32(3) {
			m := base.CopyTo(i, messaging.Receiver{User: messaging.UserID(fmt.Sprint("u", i))})
			if err := w.store.AddDeadLetters([]messaging.DeadLetter{{Kind: messaging.Refused, Reason: "old", Attempts: 1, FailedAt: time.Now(), Message: m}},
				messaging.Progress{}); err != nil {
				w.Fatal(err)
			}
		}
		after(time.Second)
		turn := 0
		w.backend.set(each(func(string) persist.Result {
			turn++
			return persist.Result{Stored: turn == 1, Permanent: true, Error: []string{"", "", "new", "other"}[turn]}
		}))
		j := w.redrive(messaging.RedriveRequest{Reason: "old"})
		after(time.Second)
		w.wantJob(j.ID, messaging.JobDone, 1, 1, 2)
		for reason, want := range map[string]int{"old": 0, "new": 1, "other": 1} {
			page, _ := w.store.ListDeadLetters(messaging.DeadLetterFilter{Limit: 10, Reason: reason})
			if len(page.DeadLetters) != want {
				w.Errorf("%d letters of the reason %q, want %d", len(page.DeadLetters), reason, want)
			}
			for _, d := range page.DeadLetters {
				if d.Attempts != 2 || d.Recipients != 1 {
					w.Errorf("%s has %d attempts and %d recipients", reason, d.Attempts, d.Recipients)
				}
			}
		}
	})
}
