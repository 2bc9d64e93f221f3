package persist_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/persist"
)

// deadBroadcast creates one dead letter of a broadcast to n users, whose names count up
// from a number.
func (w *jobsTest) deadBroadcast(kind messaging.DeadLetterKind, reason string, from, n uint32) (id string) {
	w.Helper()
	origin := messaging.MessageID{9}
	base := messaging.Message{ID: origin, Origin: origin, Position: messaging.Position{Sequence: 7}, CreatedAt: time.Now(), Body: []byte(`{"text":"all"}`)}
	letters := make([]messaging.DeadLetter, n)
	for i := range letters {
		number := from + uint32(i)
		m := base.CopyTo(number, messaging.Receiver{User: messaging.UserID(fmt.Sprintf("u%05d", number)), Quoted: true})
		m.Body = fmt.Appendf(nil, `{"text":"u%05d"}`, number)
		letters[i] = messaging.DeadLetter{Kind: kind, Reason: reason, Attempts: 1, FailedAt: time.Now(), Message: m}
	}
	if err := w.store.AddDeadLetters(letters, messaging.Progress{}); err != nil {
		w.Fatal(err)
	}
	after(time.Second)
	return messaging.DeadLetterID(kind, letters[0].Message.ID)
}

// sent returns how often the backend was sent each message.
func (w *jobsTest) sent() map[string]int {
	_, batches := w.backend.log()
	times := make(map[string]int)
	for _, batch := range batches {
		for _, name := range batch {
			times[name]++
		}
	}
	return times
}

// record returns the stored record of a job.
func (w *jobsTest) record(id string) []byte {
	jobs, err := w.store.Jobs()
	if err != nil {
		w.Fatal(err)
	}
	return jobs[id]
}

// Some recipients of a broadcast cannot be requeued now. After a stop within the
// letter, the job must not skip the recipients that follow.
func TestRedriveContinuesWithinALetterThatKeepsSomeRecipients(t *testing.T) {
	for _, named := range []bool{false, true} {
		t.Run(fmt.Sprint("named ", named), func(t *testing.T) {
			work(t, func(w *jobsTest) {
				request := messaging.RedriveRequest{All: true}
				if id := w.deadBroadcast(messaging.Undeliverable, "r", 0, 25); named { // two and a half batches
					request = messaging.RedriveRequest{IDs: []string{id}}
				}
				w.store.refusal = "its queue is full"
				w.store.perCommit = time.Second
				j := w.redrive(request)
				for shown := j; shown.Failed < 10; shown, _, _ = w.jobs.FindJob(j.ID) {
					after(100 * time.Millisecond)
				}
				w.halt()
				w.store.refusal = ""
				w.start()
				after(time.Minute)
				shown, _, _ := w.jobs.FindJob(j.ID)
				if got := len(w.store.requeued) + int(shown.Failed); shown.State != messaging.JobDone || got != 25 {
					w.Errorf("the job is %s; %d were requeued and %d failed, of 25: the others were not tried", shown.State, len(w.store.requeued), shown.Failed)
				}
			})
		})
	}
}

// The record of a job is written with each batch, so it must not grow with their
// number.
func TestRecordOfARedriveOfALargeLetterStaysSmall(t *testing.T) {
	work(t, func(w *jobsTest) {
		w.deadBroadcast(messaging.Undeliverable, "r", 0, 2000)
		w.store.refusal = strings.Repeat("\x01", messaging.MaxReason-1) + "\xc3" // cut within a character
		j := w.redrive(messaging.RedriveRequest{All: true})
		after(time.Minute)
		w.wantJob(j.ID, messaging.JobDone, 1, 1, 2000)
		if size := len(w.record(j.ID)); size > 8<<10 {
			w.Errorf("the record of a job about one letter has %d bytes", size)
		}
	})
}

// A job moves a recipient to an existing letter of another reason, which it visits
// later. It does not send that recipient again, but it sends the letter's own
// recipients.
func TestRedriveSendsEachRecipientOnceWhenLettersMerge(t *testing.T) {
	for _, restart := range []bool{false, true} {
		t.Run(fmt.Sprint("restart ", restart), func(t *testing.T) {
			work(t, func(w *jobsTest) {
				ids := []string{w.deadBroadcast(messaging.Refused, "one", 0, 15), w.deadBroadcast(messaging.Refused, "two", 15, 15)}
				// Refusals have the other letter's reason.
				w.backend.set(func(batch []string) persist.Response {
					r := persist.Response{Class: persist.Accounted, Status: 200}
					for _, name := range batch {
						reason := "two"
						if name >= "u00015" {
							reason = "one"
						}
						r.Results = append(r.Results, persist.Result{Stored: name[5] == '0', Error: reason, Permanent: true})
					}
					return r
				})
				w.backend.delay = time.Minute
				j := w.redrive(messaging.RedriveRequest{All: true})
				if restart {
					after(90 * time.Second) // the second batch is in flight
					w.restart()
				}
				after(time.Hour)
				w.wantJob(j.ID, messaging.JobDone, 2, 2, 27)
				for name, times := range w.sent() {
					if allowed := restart && name >= "u00010" && name < "u00025"; times > 1 && !allowed {
						w.Errorf("%s was sent %d times", name, times)
					}
				}
				if n := len(w.sent()); n != 30 {
					w.Errorf("%d recipients were sent, want 30", n)
				}
				w.store.wantNoClaim(w.T)
				second := w.redrive(messaging.RedriveRequest{IDs: ids[1:]}) // this is another job
				w.backend.set(stored)
				after(time.Hour)
				if shown, _, _ := w.jobs.FindJob(second.ID); shown.State != messaging.JobDone || shown.Failed != 0 {
					w.Errorf("%+v", shown)
				}
			})
		})
	}
}

// Recipients that another job has stored meanwhile are skipped, although their letter
// has others left. Recipients that another job has claimed are left to it.
func TestRedriveSkipsRecipientsStoredMeanwhile(t *testing.T) {
	work(t, func(w *jobsTest) {
		w.deadBroadcast(messaging.Refused, "r", 0, 25)
		letter := letterKey{messaging.Refused, 7, "r"}
		w.store.claiming = func() {
			for i := range 5 {
				w.store.removeLocked(letter, messaging.UserID(fmt.Sprintf("u%05d", i)))
			}
			if l := w.store.letters[letter]; l != nil {
				l.recipients["u00024"].job = "another"
			}
		}
		w.store.running["another"] = true
		j := w.redrive(messaging.RedriveRequest{All: true})
		after(time.Minute)
		if shown := w.wantJob(j.ID, messaging.JobDone, 1, 1, 1); !strings.Contains(shown.Error, "another job redrives it") {
			w.Errorf("the job's error is %q", shown.Error)
		}
		if got, _ := w.backend.log(); len(got) != 19 {
			w.Errorf("%d were stored, want 19", len(got))
		}
	})
}

// A job of an older version identifies its letters by id and stores how many are done.
func TestRedriveOfAnOlderVersionContinues(t *testing.T) {
	work(t, func(w *jobsTest) {
		ids := w.dead(messaging.Undeliverable, "r", "u/a", "v/b", "w/c")
		w.halt()
		for id, request := range map[string]messaging.RedriveRequest{"named": {IDs: ids}, "all": {All: true}} {
			text, err := json.Marshal(map[string]any{
				"ID": id, "Kind": messaging.Redrive, "State": messaging.JobRunning, "Done": 1, "Total": 3, "CreatedAt": time.Now(), "Claims": true,
				"Redrive": request, "Cursor": ids[0], "Passed": ids[:1], "Letter": ids[1], "After": "",
			})
			if err != nil {
				t.Fatal(err)
			}
			if err := w.store.SaveProgress(messaging.Progress{Job: id, Record: text}); err != nil {
				t.Fatal(err)
			}
			w.start()
			after(time.Minute)
			w.wantJob(id, messaging.JobDone, 3, 3, 0)
			w.halt()
		}
		w.start()
		if n := w.store.count(messaging.Undeliverable); n != 0 {
			w.Errorf("%d letters are left", n)
		}
	})
}
