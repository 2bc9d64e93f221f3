package persist_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/persist"
)

func TestRedriveOfRefusedLettersRemovesTheStored(t *testing.T) {
	work(t, func(w *jobsTest) {
		var names []string
		for i := range 25 {
			names = append(names, fmt.Sprintf("u%d/%c", i, 'a'+i))
		}
		w.dead(messaging.Refused, "no such row", names...)
		w.backend.set(each(func(name string) persist.Result {
			return persist.Result{Stored: !strings.HasSuffix(name, "/c"), Error: "still no such row"}
		}))
		after(time.Second)
		j := w.redrive(messaging.RedriveRequest{All: true})
		after(time.Second)
		w.wantJob(j.ID, messaging.JobDone, 25, 25, 1)
		page, err := w.store.ListDeadLetters(messaging.DeadLetterFilter{Limit: 100})
		if err != nil || len(page.DeadLetters) != 1 || page.Total != 1 {
			w.Fatalf("%d dead letters are left, %d are counted (%v)", len(page.DeadLetters), page.Total, err)
		}
		d := page.DeadLetters[0]
		if d.Reason != "still no such row" || d.Attempts != 2 || name(d.Message.Body) != "u2/c" {
			w.Errorf("%+v", d)
		}
		if w.jobs.Redriven() != 24 {
			w.Errorf("%d are counted", w.jobs.Redriven())
		}
	})
}

func TestRedriveHalvesRejectedBatchesAndWaitsOutAnOutage(t *testing.T) {
	work(t, func(w *jobsTest) {
		w.dead(messaging.Refused, "r", "u/a", "u/b", "u/c", "u/d")
		w.backend.set(always(persist.Response{Class: persist.Unreached}))
		after(time.Second)
		j := w.redrive(messaging.RedriveRequest{Reason: "r"})
		after(10 * time.Second)
		w.wantJob(j.ID, messaging.JobRunning, 0, 4, 0)
		w.backend.set(func(batch []string) persist.Response {
			if slices.Contains(batch, "u/b") {
				return persist.Response{Class: persist.Rejected, Status: 400, Reason: "bad"}
			}
			return stored(batch)
		})
		after(time.Minute)
		w.wantJob(j.ID, messaging.JobDone, 4, 4, 1)
		got, _ := w.backend.log()
		wantNames(w.T, "stored", got, "u/a", "u/c", "u/d")
	})
}

func TestRedriveOfUndeliverableLettersGoesToTheirQueues(t *testing.T) {
	work(t, func(w *jobsTest) {
		ids := w.dead(messaging.Undeliverable, "nobody", "u/a", "v/b", "u/c")
		w.dead(messaging.Refused, "other", "u/d")
		after(time.Second)
		j := w.redrive(messaging.RedriveRequest{IDs: ids[:2]})
		after(time.Second)
		w.wantJob(j.ID, messaging.JobDone, 2, 2, 0)
		wantNames(w.T, "requeued", w.store.requeued, "u:u/a", "v:v/b")
		w.store.refusal = "the log does not have it"
		j = w.redrive(messaging.RedriveRequest{All: true, Kind: messaging.Undeliverable})
		after(time.Second)
		if shown := w.wantJob(j.ID, messaging.JobDone, 1, 1, 1); !strings.Contains(shown.Error, "the log does not have it") {
			w.Errorf("the job's error is %q", shown.Error)
		}
		if u, r := w.store.count(messaging.Undeliverable), w.store.count(messaging.Refused); u != 1 || r != 1 {
			w.Errorf("%d undeliverable and %d refused are left, want 1 and 1", u, r)
		}
		if _, err := w.jobs.Redrive(messaging.RedriveRequest{IDs: ids[:1]}); messaging.CodeOf(err) != messaging.CodeNotFound {
			w.Errorf("a letter that is gone: %v", err)
		}
	})
}

func TestRedriveOfABroadcastSendsACopyToEachReceiver(t *testing.T) {
	work(t, func(w *jobsTest) {
		origin := messaging.MessageID{9}
		base := messaging.Message{ID: origin, Origin: origin, Position: messaging.Position{Sequence: 7}, CreatedAt: time.Now(), Body: []byte(`{"text":"all"}`)}
		var letters []messaging.DeadLetter
		for i := range uint32(25) { // more than a batch
			m := base.CopyTo(i, messaging.Receiver{User: messaging.UserID(fmt.Sprint("u", i)), Quoted: true})
			letters = append(letters, messaging.DeadLetter{
				ID: messaging.DeadLetterID(messaging.Refused, m.ID), Kind: messaging.Refused, Reason: "r",
				FailedAt: time.Now(), Message: m,
			})
		}
		if err := w.store.AddDeadLetters(letters, messaging.Progress{}); err != nil {
			w.Fatal(err)
		}
		seen := make(map[messaging.MessageID]bool)
		w.backend.set(stored)
		after(time.Second)
		sink := &recording{Sink: w.backend, seen: seen}
		w.halt()
		w.run(persist.JobsConfig{Sink: sink, BatchSize: 10})
		j := w.redrive(messaging.RedriveRequest{All: true})
		after(time.Second)
		w.wantJob(j.ID, messaging.JobDone, 1, 1, 0)
		for i := range letters {
			if !seen[letters[i].Message.ID] {
				w.Errorf("the copy for %s was not sent", letters[i].Message.Receiver.User)
			}
		}
		if n := w.store.count(messaging.Refused); n != 0 {
			w.Errorf("%d dead letters are left", n)
		}
	})
}

// recording records the ids that it delivers.
type recording struct {
	persist.Sink

	seen map[messaging.MessageID]bool
}

func (r *recording) Deliver(ctx context.Context, batch []messaging.Message) persist.Response {
	for i := range batch {
		r.seen[batch[i].ID] = true
	}
	return r.Sink.Deliver(ctx, batch)
}

func TestRedriveTakesLettersDatedInTheFuture(t *testing.T) {
	work(t, func(w *jobsTest) {
		w.numbered(1)
		m := w.log.messages[0]
		m.Receiver.User = "u"
		id := messaging.DeadLetterID(messaging.Refused, m.ID)
		for _, q := range []messaging.RedriveRequest{{IDs: []string{id}}, {All: true}} {
			if err := w.store.AddDeadLetters([]messaging.DeadLetter{{ID: id, Kind: messaging.Refused, Reason: "r", FailedAt: time.Now().Add(time.Hour), Message: m}},
				messaging.Progress{}); err != nil {
				w.Fatal(err)
			}
			j := w.redrive(q)
			after(time.Second)
			w.wantJob(j.ID, messaging.JobDone, 1, 1, 0)
			if n := w.store.count(messaging.Refused); n != 0 {
				w.Errorf("the job is done and the letter still there (%+v)", q)
			}
		}
	})
}

// This runs in real time: in a synctest bubble the race detector would not see the
// race.
func TestCancelDuringARedriveIsNoRace(t *testing.T) {
	store := newMemoryStore()
	for i := range 200 {
		m := messaging.Message{
			ID: messaging.MessageID{15: byte(i)}, Position: messaging.Position{Sequence: uint64(i + 1)},
			Receiver: messaging.Receiver{User: "u"}, Body: []byte("{}"),
		}
		if err := store.AddDeadLetters([]messaging.DeadLetter{{
			ID: messaging.DeadLetterID(messaging.Undeliverable, m.ID), Kind: messaging.Undeliverable,
			Reason: "r", FailedAt: time.Now(), Message: m,
		}}, messaging.Progress{}); err != nil {
			t.Fatal(err)
		}
	}
	jobs, err := persist.NewJobs(persist.JobsConfig{
		Store: store, History: history{newLog()}, DeadLetters: store, Letters: store, BatchSize: 1,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- jobs.Run(ctx) }()
	j, err := jobs.Redrive(messaging.RedriveRequest{All: true})
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(20 * time.Millisecond)
	if _, _, err := jobs.CancelJob(j.ID); err != nil {
		t.Fatal(err)
	}
	time.Sleep(100 * time.Millisecond)
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	t.Log(store.count(messaging.Undeliverable), "left")
}
