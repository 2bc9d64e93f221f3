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

func TestReplaySendsItsRangeAgainInOrder(t *testing.T) {
	work(t, func(w *jobsTest) {
		names := w.numbered(50)
		j := w.replay(messaging.ReplayRequest{FromSequence: 11, ToSequence: 40})
		after(time.Second)
		w.wantJob(j.ID, messaging.JobDone, 30, 30, 0)
		got, _ := w.backend.log()
		for c := range 3 { // each conversation in its order
			prefix := fmt.Sprintf("c%d/", c)
			other := func(n string) bool { return !strings.HasPrefix(n, prefix) }
			wantNames(w.T, "conversation "+prefix, slices.DeleteFunc(slices.Clone(got), other), slices.DeleteFunc(slices.Clone(names[10:40]), other)...)
		}
		if len(got) != 30 || w.jobs.Replayed() != 30 {
			w.Errorf("%d were sent, %d are counted", len(got), w.jobs.Replayed())
		}
	})
}

func TestReplayByTimeConversationAndUser(t *testing.T) {
	work(t, func(w *jobsTest) {
		w.numbered(6)
		after(time.Minute)
		from := time.Now()
		w.log.add("c1/late", "c2/late", "c1/stored", "c1/later", "stored")
		after(time.Minute)
		w.log.add("c1/last")
		j := w.replay(messaging.ReplayRequest{FromTime: from, ToTime: from.Add(30 * time.Second), Conversation: "c1"})
		after(time.Second)
		w.wantJob(j.ID, messaging.JobDone, 5, 5, 0)
		got, _ := w.backend.log()
		// Messages that the backend has already are skipped. The text in the test
		// backend is the full name.
		wantNames(w.T, "replayed", got, "c1/late", "c1/later")
		w.log.messages[0].Receiver.User = "somebody"
		w.replay(messaging.ReplayRequest{FromSequence: 1, User: "somebody"})
		after(time.Second)
		got, _ = w.backend.log()
		wantNames(w.T, "replayed", got, "c1/late", "c1/later", "c0/0")
	})
}

func TestReplayKeepsItsRateAndContinuesAfterARestart(t *testing.T) {
	work(t, func(w *jobsTest) {
		w.numbered(100)
		j := w.replay(messaging.ReplayRequest{FromSequence: 1, Rate: 10})
		after(3*time.Second + 50*time.Millisecond)
		got, _ := w.backend.log()
		if len(got) < 28 || len(got) > 34 {
			w.Fatalf("%d were sent in 3 s at 10 a second", len(got))
		}
		shown, _, _ := w.jobs.FindJob(j.ID)
		if shown.ETA < 5*time.Second || shown.ETA > 9*time.Second {
			w.Errorf("the estimate is %s, want about 7 s", shown.ETA)
		}
		if keep := w.jobs.Keep(1000); keep > 34 {
			w.Errorf("retention may trim up to %d while the replay is at %d", keep, len(got))
		}
		w.restart()
		after(10 * time.Second)
		w.wantJob(j.ID, messaging.JobDone, 100, 100, 0)
		all, _ := w.backend.log()
		if len(all) > 110 {
			w.Errorf("%d were sent: the replay started again from the beginning", len(all))
		}
		slices.Sort(all)
		if n := len(slices.Compact(all)); n != 100 {
			w.Errorf("%d of 100 arrived", n)
		}
		if keep := w.jobs.Keep(1000); keep != 1000 {
			w.Errorf("a replay that is done keeps retention from %d", keep)
		}
	})
}

func TestReplayWaitsOutAnOutageAndCanBeCancelled(t *testing.T) {
	work(t, func(w *jobsTest) {
		w.numbered(20)
		w.backend.set(always(persist.Response{Class: persist.Unavailable, Status: 503}))
		j := w.replay(messaging.ReplayRequest{FromSequence: 1})
		after(5 * time.Second)
		w.wantJob(j.ID, messaging.JobRunning, 0, 20, 0)
		if _, ok, err := w.jobs.CancelJob(j.ID); !ok || err != nil {
			w.Fatal(ok, err)
		}
		after(time.Second)
		w.wantJob(j.ID, messaging.JobCancelled, 0, 20, 0)
		w.backend.set(stored)
		w.restart()
		after(time.Minute)
		w.wantJob(j.ID, messaging.JobCancelled, 0, 20, 0)
		if got, _ := w.backend.log(); len(got) > 0 {
			w.Errorf("%d were sent after it was cancelled", len(got))
		}
		if _, ok, _ := w.jobs.CancelJob(j.ID); !ok {
			w.Error("the job could not be removed")
		}
		if _, ok, _ := w.jobs.FindJob(j.ID); ok {
			w.Error("the job still exists")
		}
	})
}

func TestReplayOfNothingIsRefused(t *testing.T) {
	work(t, func(w *jobsTest) {
		w.numbered(3)
		for _, q := range []messaging.ReplayRequest{{FromSequence: 4}, {FromSequence: 3, ToSequence: 2}, {FromTime: time.Now().Add(time.Hour)}} {
			if _, err := w.jobs.Replay(q); messaging.CodeOf(err) != messaging.CodeInvalidField {
				w.Errorf("%+v: %v", q, err)
			}
		}
	})
}

func TestRefusedReplayIsADeadLetterAndCounted(t *testing.T) {
	work(t, func(w *jobsTest) {
		w.numbered(5)
		w.backend.set(each(func(name string) persist.Result {
			return persist.Result{Stored: name != "c0/3", Error: "no", Permanent: true}
		}))
		j := w.replay(messaging.ReplayRequest{FromSequence: 1})
		after(time.Second)
		if shown := w.wantJob(j.ID, messaging.JobDone, 5, 5, 1); shown.Error == "" {
			w.Error("the job does not report the failure")
		}
		if n := w.store.count(messaging.Refused); n != 1 {
			w.Errorf("%d dead letters", n)
		}
	})
}

func TestReplayWithFewMatchesIsSavedAndCanBeCancelled(t *testing.T) {
	work(t, func(w *jobsTest) {
		w.log.page = 10
		w.numbered(5000) // none of them is selected
		w.log.perRead = 10 * time.Millisecond
		j := w.replay(messaging.ReplayRequest{FromSequence: 1, User: "nobody"})
		after(time.Second)
		if shown, _, _ := w.jobs.FindJob(j.ID); shown.Done == 0 || shown.Done > 2000 {
			w.Errorf("%d of %d are scanned after 1 s", shown.Done, shown.Total)
		}
		if _, ok, err := w.jobs.CancelJob(j.ID); !ok || err != nil {
			w.Fatal(ok, err)
		}
		after(100 * time.Millisecond)
		if n := w.jobs.Running(); n != 0 {
			w.Errorf("the replay still scans: %d", n)
		}
	})
}

// TestReplayTakesTheDrainsEvidence replays a message that is already a dead letter of
// the drain. Messages that the drain stores meanwhile are evidence against it.
func TestReplayTakesTheDrainsEvidence(t *testing.T) {
	work(t, func(w *jobsTest) {
		w.halt()
		evidence := new(persist.Evidence)
		drain, err := persist.New(persist.Config{Source: w.log, Store: w.log, Sink: w.backend, Evidence: evidence, Linger: time.Millisecond, Grace: time.Second})
		if err != nil {
			w.Fatal(err)
		}
		ctx, cancel := context.WithCancel(w.Context())
		done := make(chan error, 1)
		go func() { done <- drain.Run(ctx) }()
		w.run(persist.JobsConfig{Sink: w.backend, Evidence: evidence})
		defer func() { cancel(); <-done }()
		w.backend.set(func(batch []string) persist.Response {
			if slices.Contains(batch, "c/poison") {
				return persist.Response{Class: persist.Rejected, Status: 400, Reason: "bad"}
			}
			return stored(batch)
		})
		w.log.add("c/1", "c/poison", "c/3")
		after(time.Minute)
		j := w.replay(messaging.ReplayRequest{FromSequence: 2, ToSequence: 2})
		for range 30 { // the drain continues to store
			w.log.add("d/more")
			after(5 * time.Second)
		}
		w.wantJob(j.ID, messaging.JobDone, 1, 1, 1)
	})
}

// Sequences that are trimmed before a replay reads them are counted in its job, also
// after a restart.
func TestReplayCountsSequencesTrimmedBeforeItReadsThem(t *testing.T) {
	work(t, func(w *jobsTest) {
		w.numbered(100)
		w.log.page = 5
		j := w.replay(messaging.ReplayRequest{FromSequence: 11, Rate: 5})
		after(2 * time.Second)
		w.log.trim(51)
		after(2 * time.Second)
		shown, _, _ := w.jobs.FindJob(j.ID)
		if shown.Failed == 0 || shown.Failed > 40 || !strings.Contains(shown.Error, "trimmed by retention before the replay read them") {
			w.Errorf("%d failed, and the job's error is %q", shown.Failed, shown.Error)
		}
		w.halt()
		w.log.trim(61)
		w.start()
		after(time.Minute)
		end, _, _ := w.jobs.FindJob(j.ID)
		got, _ := w.backend.log()
		sent := len(slices.Compact(slices.Sorted(slices.Values(got))))
		if end.State != messaging.JobDone || end.Done != 90 || uint64(sent)+end.Failed != 90 || end.Failed <= shown.Failed {
			w.Errorf("%s, %d of 90 done, %d sent, %d failed (%d before the restart): %s", end.State, end.Done, sent, end.Failed, shown.Failed, end.Error)
		}
	})
}
