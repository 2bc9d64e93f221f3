package persist_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
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
		Requeue: func(m *messaging.Message) (string, error) {
			if w.gone {
				return "the log does not have it", nil
			}
			w.requeued = append(w.requeued, fmt.Sprint(m.Receiver.User, ":", name(m.Body), "@", m.Position.Sequence))
			return "", nil
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

func TestReplaySendsItsRangeAgainInOrder(t *testing.T) {
	work(t, func(w *working) {
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
	work(t, func(w *working) {
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
		// What the backend had by itself is left out; the double's text is its whole name.
		wantNames(w.T, "replayed", got, "c1/late", "c1/later")
		w.log.messages[0].Receiver.User = "somebody"
		w.replay(messaging.ReplayRequest{FromSequence: 1, User: "somebody"})
		after(time.Second)
		got, _ = w.backend.log()
		wantNames(w.T, "replayed", got, "c1/late", "c1/later", "c0/0")
	})
}

func TestReplayKeepsToItsRateAndGoesOnAfterARestart(t *testing.T) {
	work(t, func(w *working) {
		w.numbered(100)
		j := w.replay(messaging.ReplayRequest{FromSequence: 1, Rate: 10})
		after(3*time.Second + 50*time.Millisecond)
		got, _ := w.backend.log()
		if len(got) < 28 || len(got) > 34 {
			w.Fatalf("%d were sent in 3 s at 10 a second", len(got))
		}
		shown, _, _ := w.jobs.FindJob(j.ID)
		if shown.ETA < 5*time.Second || shown.ETA > 9*time.Second {
			w.Errorf("%s are left by the estimate, want about 7 s", shown.ETA)
		}
		if keep := w.jobs.Keep(1000); keep > 34 {
			w.Errorf("retention may trim up to %d, and the replay is at %d", keep, len(got))
		}
		w.restart()
		after(10 * time.Second)
		w.wantJob(j.ID, messaging.JobDone, 100, 100, 0)
		all, _ := w.backend.log()
		if len(all) > 110 {
			w.Errorf("%d were sent: it began anew", len(all))
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

func TestReplayWaitsForABackendThatIsOutOfOrderAndIsCancelled(t *testing.T) {
	work(t, func(w *working) {
		w.numbered(20)
		w.backend.set(always(persist.Answer{Verdict: persist.Unavailable, Status: 503}))
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
			w.Error("it could not be forgotten")
		}
		if _, ok, _ := w.jobs.FindJob(j.ID); ok {
			w.Error("it is still there")
		}
	})
}

func TestReplayOfNothingIsRefused(t *testing.T) {
	work(t, func(w *working) {
		w.numbered(3)
		for _, q := range []messaging.ReplayRequest{{FromSequence: 4}, {FromSequence: 3, ToSequence: 2}, {FromTime: time.Now().Add(time.Hour)}} {
			if _, err := w.jobs.Replay(q); messaging.CodeOf(err) != messaging.CodeInvalidField {
				w.Errorf("%+v: %v", q, err)
			}
		}
	})
}

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

func TestRefusedReplayIsADeadLetterAndCounted(t *testing.T) {
	work(t, func(w *working) {
		w.numbered(5)
		w.backend.set(each(func(name string) persist.Result {
			return persist.Result{Stored: name != "c0/3", Error: "no", Permanent: true}
		}))
		j := w.replay(messaging.ReplayRequest{FromSequence: 1})
		after(time.Second)
		if shown := w.wantJob(j.ID, messaging.JobDone, 5, 5, 1); shown.Error == "" {
			w.Error("the job does not say what failed")
		}
		if n := w.control.DeadLetters(messaging.Refused); n != 1 {
			w.Errorf("%d dead letters", n)
		}
	})
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

func TestRedriveOfRefusedOnesSettlesWhatIsStored(t *testing.T) {
	work(t, func(w *working) {
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
		page, err := w.control.ListDeadLetters(messaging.DeadLetterFilter{Limit: 100})
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

func TestRedriveHalvesWhatIsRefusedWholeAndWaitsForAnOutage(t *testing.T) {
	work(t, func(w *working) {
		w.dead(messaging.Refused, "r", "u/a", "u/b", "u/c", "u/d")
		w.backend.set(always(persist.Answer{Verdict: persist.Unreached}))
		after(time.Second)
		j := w.redrive(messaging.RedriveRequest{Reason: "r"})
		after(10 * time.Second)
		w.wantJob(j.ID, messaging.JobRunning, 0, 4, 0)
		w.backend.set(func(batch []string) persist.Answer {
			if slices.Contains(batch, "u/b") {
				return persist.Answer{Verdict: persist.Rejected, Status: 400, Reason: "bad"}
			}
			return stored(batch)
		})
		after(time.Minute)
		w.wantJob(j.ID, messaging.JobDone, 4, 4, 1)
		got, _ := w.backend.log()
		wantNames(w.T, "stored", got, "u/a", "u/c", "u/d")
	})
}

func TestRedriveOfUndeliverableOnesGoesToTheirQueues(t *testing.T) {
	work(t, func(w *working) {
		ids := w.dead(messaging.Undeliverable, "nobody", "u/a", "v/b", "u/c")
		w.dead(messaging.Refused, "other", "u/d")
		after(time.Second)
		j := w.redrive(messaging.RedriveRequest{IDs: ids[:2]})
		after(time.Second)
		w.wantJob(j.ID, messaging.JobDone, 2, 2, 0)
		wantNames(w.T, "requeued", w.requeued, "u:u/a@1", "v:v/b@2")
		w.gone = true
		j = w.redrive(messaging.RedriveRequest{All: true, Kind: messaging.Undeliverable})
		after(time.Second)
		if shown := w.wantJob(j.ID, messaging.JobDone, 1, 1, 1); !strings.Contains(shown.Error, "the log does not have it") {
			w.Errorf("the job says %q", shown.Error)
		}
		if u, r := w.control.DeadLetters(messaging.Undeliverable), w.control.DeadLetters(messaging.Refused); u != 1 || r != 1 {
			w.Errorf("%d undeliverable and %d refused are left, want 1 and 1", u, r)
		}
		if _, err := w.jobs.Redrive(messaging.RedriveRequest{IDs: ids[:1]}); messaging.CodeOf(err) != messaging.CodeNotFound {
			w.Errorf("one that is gone: %v", err)
		}
	})
}

func TestRedriveOfABroadcastSendsACopyToEachReceiver(t *testing.T) {
	work(t, func(w *working) {
		origin := messaging.MessageID{9}
		base := messaging.Message{ID: origin, Origin: origin, Position: messaging.Position{Sequence: 7}, CreatedAt: time.Now(), Body: []byte(`{"text":"all"}`)}
		var letters []messaging.DeadLetter
		for i := range uint32(25) { // more than a batch
			m := base.CopyTo(i, messaging.Receiver{User: messaging.UserID(fmt.Sprint("u", i)), Quoted: true})
			letters = append(letters, messaging.DeadLetter{ID: messaging.DeadLetterID(messaging.Refused, m.ID), Kind: messaging.Refused, Reason: "r", FailedAt: time.Now(), Message: m})
		}
		if err := w.control.AddDeadLetters(letters); err != nil {
			w.Fatal(err)
		}
		seen := make(map[messaging.MessageID]bool)
		w.backend.set(stored)
		after(time.Second)
		sink := &recording{Sink: w.backend, seen: seen}
		w.halt()
		jobs, err := persist.NewJobs(persist.JobsConfig{Store: w.control, History: w.log, DeadLetters: w.control, Sink: sink, BatchSize: 10})
		if err != nil {
			w.Fatal(err)
		}
		ctx, cancel := context.WithCancel(w.Context())
		done := make(chan error, 1)
		go func() { done <- jobs.Run(ctx) }()
		w.jobs, w.halt = jobs, func() { cancel(); <-done }
		j := w.redrive(messaging.RedriveRequest{All: true})
		after(time.Second)
		w.wantJob(j.ID, messaging.JobDone, 1, 1, 0)
		for i := range letters {
			if !seen[letters[i].Message.ID] {
				w.Errorf("the copy for %s was not sent", letters[i].Message.Receiver.User)
			}
		}
		if n := w.control.DeadLetters(messaging.Refused); n != 0 {
			w.Errorf("%d dead letters are left", n)
		}
	})
}

// recording notes the ids that it delivers.
type recording struct {
	persist.Sink

	seen map[messaging.MessageID]bool
}

func (r *recording) Deliver(ctx context.Context, batch []messaging.Message) persist.Answer {
	for i := range batch {
		r.seen[batch[i].ID] = true
	}
	return r.Sink.Deliver(ctx, batch)
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

func TestReplayOfLittleIsSavedAndCancelledOnItsWay(t *testing.T) {
	work(t, func(w *working) {
		w.log.page = 10
		w.numbered(5000) // none of which is asked for
		w.log.perRead = 10 * time.Millisecond
		j := w.replay(messaging.ReplayRequest{FromSequence: 1, User: "nobody"})
		after(time.Second)
		if shown, _, _ := w.jobs.FindJob(j.ID); shown.Done == 0 || shown.Done > 2000 {
			w.Errorf("%d of %d are looked at after 1 s", shown.Done, shown.Total)
		}
		if _, ok, err := w.jobs.CancelJob(j.ID); !ok || err != nil {
			w.Fatal(ok, err)
		}
		after(100 * time.Millisecond)
		if n := w.jobs.Running(); n != 0 {
			w.Errorf("it still looks: %d", n)
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

// TestReplayTakesTheDrainsEvidence has a poison that the drain has buried
// replayed alone: what the drain stores meanwhile is evidence against it.
func TestReplayTakesTheDrainsEvidence(t *testing.T) {
	work(t, func(w *working) {
		w.halt()
		evidence := new(persist.Evidence)
		jobs, err := persist.NewJobs(persist.JobsConfig{Store: w.control, History: w.log, DeadLetters: w.control, Sink: w.backend, Evidence: evidence})
		if err != nil {
			w.Fatal(err)
		}
		drain, err := persist.New(persist.Config{Source: w.log, Ledger: w.log, Sink: w.backend, Evidence: evidence, Linger: time.Millisecond, Grace: time.Second})
		if err != nil {
			w.Fatal(err)
		}
		ctx, cancel := context.WithCancel(w.Context())
		done := make(chan error, 2)
		go func() { done <- jobs.Run(ctx) }()
		go func() { done <- drain.Run(ctx) }()
		w.jobs, w.halt = jobs, func() { cancel(); <-done; <-done }
		w.backend.set(func(batch []string) persist.Answer {
			if slices.Contains(batch, "c/poison") {
				return persist.Answer{Verdict: persist.Rejected, Status: 400, Reason: "bad"}
			}
			return stored(batch)
		})
		w.log.add("c/1", "c/poison", "c/3")
		after(time.Minute)
		j := w.replay(messaging.ReplayRequest{FromSequence: 2, ToSequence: 2})
		for range 30 { // the drain goes on storing
			w.log.add("d/more")
			after(5 * time.Second)
		}
		w.wantJob(j.ID, messaging.JobDone, 1, 1, 1)
	})
}
