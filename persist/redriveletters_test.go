package persist_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/persist"
)

// refusingSink is a backend that refuses the copies of some users. After some batches
// it stops responding.
type refusingSink struct {
	left, got atomic.Int64
	refuses   func(user messaging.UserID) (reason string)
}

func (b *refusingSink) Deliver(ctx context.Context, batch []messaging.Message) persist.Response {
	if b.left.Add(-1) < 0 {
		<-ctx.Done()
		return persist.Response{Class: persist.Unreached}
	}
	response := persist.Response{Class: persist.Accounted, Status: 200}
	for i := range batch {
		reason := b.refuses(batch[i].Receiver.User)
		if reason == "" {
			b.got.Add(1)
		}
		response.Results = append(response.Results, persist.Result{Stored: reason == "", Error: reason, Permanent: reason != ""})
	}
	return response
}

// redriveTest runs jobs over an engine that has the dead letters of one broadcast.
type redriveTest struct {
	*rigStore

	t       *testing.T
	backend *refusingSink
	jobs    *persist.Jobs
	copies  []messaging.Message
	end     func()
}

// redrives runs a test in a synctest bubble.
func redrives(t *testing.T, users int, test func(r *redriveTest)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := newRigStore(t)
		r := &redriveTest{rigStore: s, t: t, backend: &refusingSink{}}
		names := make([]string, users)
		for i := range names {
			names[i] = fmt.Sprintf(`"u%02d"`, i)
		}
		b, err := messaging.ParseBroadcast([]byte(`{"message":{"sender_id":1,"text":"all"},"user_ids":[` + strings.Join(names, ",") + `]}`))
		if err == nil {
			_, err = s.engine.Broadcast(b, messaging.IdempotencyKey{})
		}
		if err == nil {
			r.copies, _, err = s.Read(messaging.Position{Sequence: 1}, 100, 1<<20)
		}
		if err != nil || len(r.copies) != users {
			t.Fatal(len(r.copies), err)
		}
		r.run()
		test(r)
		r.end()
	})
}

func (r *redriveTest) run() {
	r.t.Helper()
	d := r.engine.DeadLetters()
	jobs, err := persist.NewJobs(persist.JobsConfig{Store: d, History: r.Log, DeadLetters: d, Letters: d, Sink: r.backend, BatchSize: 10})
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { _ = jobs.Run(ctx); close(done) }()
	r.jobs, r.end = jobs, func() { cancel(); <-done }
}

// refuse makes the copies dead letters for a reason.
func (r *redriveTest) refuse(reason string, copies []messaging.Message) {
	r.t.Helper()
	letters := make([]messaging.DeadLetter, len(copies))
	for i := range copies {
		letters[i] = messaging.DeadLetter{Kind: messaging.Refused, Reason: reason, Attempts: 1, FailedAt: time.Now(), Message: copies[i]}
	}
	if err := r.engine.DeadLetters().AddDeadLetters(letters, messaging.Progress{}); err != nil {
		r.t.Fatal(err)
	}
	time.Sleep(time.Second)
}

// letters returns the dead letters by reason.
func (r *redriveTest) letters() map[string]messaging.DeadLetter {
	r.t.Helper()
	page, err := r.engine.DeadLetters().ListDeadLetters(messaging.DeadLetterFilter{Limit: 100})
	if err != nil {
		r.t.Fatal(err)
	}
	byReason := make(map[string]messaging.DeadLetter)
	for _, d := range page.DeadLetters {
		byReason[d.Reason] = d
	}
	return byReason
}

func (r *redriveTest) redrive(q messaging.RedriveRequest) messaging.Job {
	r.t.Helper()
	job, err := r.jobs.Redrive(q)
	if err != nil {
		r.t.Fatal(err)
	}
	return job
}

// wantDone checks the final state of a job.
func (r *redriveTest) wantDone(job messaging.Job, total, failed uint64) {
	r.t.Helper()
	time.Sleep(time.Hour)
	synctest.Wait()
	shown, _, _ := r.jobs.FindJob(job.ID)
	if shown.State != messaging.JobDone || shown.Done != total || shown.Total != total || shown.Failed != failed {
		r.t.Errorf("the job is %s, %d of %d, %d failed (%s); want it done, %d of %d, %d failed",
			shown.State, shown.Done, shown.Total, shown.Failed, shown.Error, total, total, failed)
	}
}

// A named dead letter of a broadcast is redriven to its last recipient, even if a
// recipient that was refused again took the letter's id to another letter and the
// service was restarted.
func TestRedriveOfANamedBroadcastContinuesAfterARestart(t *testing.T) {
	redrives(t, 25, func(r *redriveTest) {
		r.refuse("r", r.copies)
		named := r.letters()["r"]
		r.backend.refuses = func(user messaging.UserID) string {
			if user == named.Message.Receiver.User {
				return "no such user"
			}
			return ""
		}
		r.backend.left.Store(1)
		job := r.redrive(messaging.RedriveRequest{IDs: []string{named.ID}})
		time.Sleep(time.Second) // the second batch is in flight
		if moved := r.letters()["no such user"]; moved.ID != named.ID {
			t.Fatalf("the id belongs to %+v: the test does not reach the case", moved)
		}
		r.end()
		r.backend.left.Store(1000)
		r.run()
		r.wantDone(job, 1, 1)
		if got := r.backend.got.Load(); got != 24 {
			t.Errorf("the backend has %d of 24", got)
		}
	})
}

// Recipients that move between letters while a job works on both are sent once and none
// is skipped, in the order of keys and by reason, also across a restart.
func TestRedriveOverAStoreSendsEachRecipientOnce(t *testing.T) {
	for name, restart := range map[string]bool{"without a restart": false, "with a restart": true} {
		t.Run(name, func(t *testing.T) {
			redrives(t, 40, func(r *redriveTest) {
				r.refuse("one", r.copies[:20])
				r.refuse("two", r.copies[20:])
				before := r.letters()
				sent := make(map[messaging.UserID]int)
				r.backend.refuses = func(user messaging.UserID) string {
					sent[user]++
					switch {
					case user[2] == '5':
						return ""
					case user < "u20":
						return "two"
					}
					return "one"
				}
				r.backend.left.Store(1000)
				if restart {
					r.backend.left.Store(1)
				}
				job := r.redrive(messaging.RedriveRequest{All: true})
				time.Sleep(time.Second)
				if restart {
					r.end()
					r.backend.left.Store(1000)
					r.run()
				}
				r.wantDone(job, 2, 36)
				for user, times := range sent {
					if times != 1 {
						t.Errorf("%s was sent %d times", user, times)
					}
				}
				if len(sent) != 40 {
					t.Errorf("%d recipients were sent, want 40", len(sent))
				}
				letters := r.letters()
				if one, two := letters["one"], letters["two"]; one.Recipients != 18 || two.Recipients != 18 || len(letters) != len(before) {
					t.Errorf("the letters are %+v", letters)
				}
				// Another job redrives them, selected by one reason.
				r.backend.refuses = func(messaging.UserID) string { return "" }
				r.wantDone(r.redrive(messaging.RedriveRequest{Reason: "two"}), 1, 0)
				if letters := r.letters(); len(letters) != 1 || r.backend.got.Load() != 22 {
					t.Errorf("%d are stored, and the letters are %+v", r.backend.got.Load(), letters)
				}
			})
		})
	}
}

// A scan returns each dead letter once, in the order of keys, for any page size.
func TestNextDeadLettersReturnsEachOnce(t *testing.T) {
	redrives(t, 30, func(r *redriveTest) {
		for i := range r.copies {
			r.refuse(fmt.Sprint("r", i%7), r.copies[i:i+1])
		}
		undeliverable := messaging.DeadLetter{Kind: messaging.Undeliverable, Reason: "r3", Attempts: 1, FailedAt: time.Now(), Message: r.copies[0]}
		d := r.engine.DeadLetters()
		if err := d.AddDeadLetters([]messaging.DeadLetter{undeliverable}, messaging.Progress{}); err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct {
			scan messaging.DeadLetterScan
			want int
		}{
			{messaging.DeadLetterScan{}, 8},
			{messaging.DeadLetterScan{Kind: messaging.Refused}, 7},
			{messaging.DeadLetterScan{Kind: messaging.Undeliverable}, 1},
			{messaging.DeadLetterScan{Reason: "r3"}, 2},
			{messaging.DeadLetterScan{Reason: "r3", Kind: messaging.Undeliverable}, 1},
			{messaging.DeadLetterScan{Reason: "r4", Kind: messaging.Undeliverable}, 0},
			{messaging.DeadLetterScan{Reason: "none"}, 0},
		} {
			for limit := 1; limit < 10; limit++ {
				seen := make(map[messaging.DeadLetterKey]bool)
				for c.scan.After, c.scan.Limit = (messaging.DeadLetterKey{}), limit; ; {
					page, err := d.NextDeadLetters(c.scan)
					if err != nil {
						t.Fatal(err)
					}
					if len(page) == 0 {
						break
					}
					for i := range page {
						k := page[i].Key()
						at, ok, err := d.DeadLetterAt(k)
						if err != nil || !ok || at.ID != page[i].ID || seen[k] {
							t.Errorf("%v: %t %v, seen %t", k, ok, err, seen[k])
						}
						seen[k] = true
						c.scan.After = k
					}
				}
				if len(seen) != c.want {
					t.Errorf("%+v returns %d letters, want %d", c.scan, len(seen), c.want)
				}
			}
		}
	})
}
