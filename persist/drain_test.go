package persist_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/persist"
)

func TestEverythingIsStoredOnceAndThePositionFollows(t *testing.T) {
	drain(t, func(l *memoryLog, b *backend, d *persist.Drain) {
		l.add("a/1", "b/1", "a/2", "b/stored", "a/3")
		after(time.Second)
		got, _ := b.log()
		wantNames(t, "stored", got, "a/1", "a/2", "a/3", "b/1")
		if p := l.saved; p.Sequence != 6 {
			t.Errorf("position %v, want 6", p)
		}
		if lag, age := d.Lag(time.Now()); lag != 0 || age != 0 {
			t.Errorf("lag %d, %s", lag, age)
		}
	})
}

func TestDrainContinuesAfterSequencesTrimmedBeforeItsStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, b := newLog(), &backend{respond: stored}
		l.add("a/1", "a/2", "a/3", "a/4", "a/5")
		l.floor = 4
		d, err := persist.New(persist.Config{Source: l, Store: l, Sink: b, Until: 5})
		if err != nil {
			t.Fatal(err)
		}
		if lag, _ := d.Lag(time.Now()); lag != 2 {
			t.Errorf("lag %d before it runs, want 2", lag)
		}
		if err := d.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		got, _ := b.log()
		wantNames(t, "stored", got, "a/4", "a/5")
		if lag, _ := d.Lag(time.Now()); lag != 0 || l.saved.Sequence != 6 {
			t.Errorf("lag %d and position %v, want 0 and 6", lag, l.saved)
		}
	})
}

// The drain skips a message that the backend has already, reaches the end of the log
// and saves its position, which takes a while. It must not miss a message appended
// during the save.
func TestMessageAppendedWhileThePositionIsSavedIsNotMissed(t *testing.T) {
	drain(t, func(l *memoryLog, b *backend, _ *persist.Drain) {
		l.saving = func() {
			l.saving = nil
			l.add("a/2")
		}
		after(time.Second)
		l.add("a/stored")
		after(time.Minute)
		got, _ := b.log()
		wantNames(t, "stored", got, "a/2")
	})
}

func TestInvariant5PositionNeverPassesWhatIsNotSettled(t *testing.T) {
	drain(t, func(l *memoryLog, b *backend, _ *persist.Drain) {
		l.deadFail = errors.New("disk full") // so that it cannot become a dead letter meanwhile
		b.set(each(func(n string) persist.Result {
			return persist.Result{Stored: n != "a/2", Error: "odd"}
		}))
		l.add("a/1", "a/2", "b/1", "b/2")
		after(time.Minute)
		if p := l.saved; p.Sequence != 2 {
			t.Errorf("position %v, want 2", p)
		}
		b.set(stored)
		after(time.Minute)
		if p := l.saved; p.Sequence != 5 {
			t.Errorf("position %v, want 5", p)
		}
	})
}

func TestPermanentErrorIsADeadLetterAtOnce(t *testing.T) {
	drain(t, func(l *memoryLog, b *backend, _ *persist.Drain) {
		b.set(each(func(n string) persist.Result { return persist.Result{Permanent: true, Error: "no: " + n} }))
		l.add("a/1")
		after(time.Second)
		wantNames(t, "dead", l.deadTexts(), "a/1")
		if l.saved.Sequence != 2 {
			t.Errorf("position %v", l.saved)
		}
	})
}

func TestSuspectErrorIsADeadLetterOnlyByEvidence(t *testing.T) {
	drain(t, func(l *memoryLog, b *backend, _ *persist.Drain) {
		b.set(each(func(n string) persist.Result {
			return persist.Result{Stored: n != "x/1", Suspect: n == "x/1", Error: "matching query does not exist"}
		}))
		l.add("x/1")
		after(10 * time.Minute)
		wantNames(t, "dead without evidence", l.deadTexts())
		l.add("a/1")
		after(2 * time.Minute)
		wantNames(t, "dead with evidence", l.deadTexts(), "x/1")
	})
}

// A suspect message is tried twice, the second time alone, whether or not other
// messages were in the first batch. Its dead letter records both attempts.
func TestSuspectErrorIsTriedOnceMoreAlone(t *testing.T) {
	for name, together := range map[string][]string{"alone": {"x/1"}, "in company": {"b/1", "x/1"}} {
		t.Run(name, func(t *testing.T) {
			drain(t, func(l *memoryLog, b *backend, _ *persist.Drain) {
				l.add("a/1")
				after(time.Second)
				b.set(each(func(n string) persist.Result {
					return persist.Result{Stored: n != "x/1", Suspect: n == "x/1", Error: "matching query does not exist"}
				}))
				l.add(together...)
				after(10 * time.Second)
				_, batches := b.log()
				wantNames(t, "batches", []string{fmt.Sprint(batches[1:])}, fmt.Sprint([][]string{together, {"x/1"}}))
				wantNames(t, "dead", l.deadTexts(), "x/1")
				if len(l.dead) == 1 && l.dead[0].Attempts != 2 {
					t.Errorf("%d attempts, want 2", l.dead[0].Attempts)
				}
			})
		})
	}
}

func TestOtherErrorsAreTriedAgainAndThenDead(t *testing.T) {
	drain(t, func(l *memoryLog, b *backend, _ *persist.Drain) {
		b.set(each(func(n string) persist.Result { return persist.Result{Stored: n != "x/1", Error: "value too long"} }))
		l.add("a/1", "x/1", "x/2", "a/2")
		after(5 * time.Minute)
		got, _ := b.log()
		wantNames(t, "others", only(got, "a"), "a/1", "a/2")
		wantNames(t, "after it", only(got, "x"), "x/2")
		wantNames(t, "dead", l.deadTexts(), "x/1")
		if l.dead[0].Attempts != 5 {
			t.Errorf("%d attempts, want 5", l.dead[0].Attempts)
		}
	})
}

func TestRejectedBatchIsHalvedUntilPoisonStandsAlone(t *testing.T) {
	drain(t, func(l *memoryLog, b *backend, _ *persist.Drain) {
		poison := "g/13"
		b.set(func(batch []string) persist.Response {
			if slices.Contains(batch, poison) {
				return persist.Response{Class: persist.Rejected, Status: 400, Reason: "bad text"}
			}
			return stored(batch)
		})
		var want []string
		for i := range 40 {
			n := fmt.Sprintf("g/%d", i)
			l.add(n)
			if n != poison {
				want = append(want, n)
			}
		}
		after(time.Minute)
		got, batches := b.log()
		wantNames(t, "stored in order", got, want...)
		wantNames(t, "dead", l.deadTexts(), poison)
		if d := l.dead[0]; d.StatusCode != http.StatusBadRequest || d.Reason != "bad text" {
			t.Errorf("dead letter %+v", d)
		}
		if len(batches) > 20 {
			t.Errorf("%d requests to find one of 40", len(batches))
		}
	})
}

func TestPoisonFirstDoesNotBlockTheRest(t *testing.T) {
	drain(t, func(l *memoryLog, b *backend, _ *persist.Drain) {
		b.set(func(batch []string) persist.Response {
			for _, n := range batch {
				if strings.HasPrefix(n, "p") {
					return persist.Response{Class: persist.Rejected, Status: 422}
				}
			}
			return stored(batch)
		})
		for i := range 20 {
			l.add(fmt.Sprintf("p%d/1", i))
		}
		l.add("a/1")
		after(30 * time.Minute)
		got, _ := b.log()
		wantNames(t, "stored", got, "a/1")
		if n := len(l.deadTexts()); n != 20 {
			t.Errorf("%d dead letters, want 20", n)
		}
	})
}

func TestMismatchIsHalved(t *testing.T) {
	drain(t, func(l *memoryLog, b *backend, _ *persist.Drain) {
		b.set(func(batch []string) persist.Response {
			if len(batch) > 1 {
				return persist.Response{Class: persist.Mismatched, Status: 200}
			}
			return stored(batch)
		})
		l.add("a/1", "a/2", "a/3")
		after(time.Second)
		got, _ := b.log()
		wantNames(t, "stored", got, "a/1", "a/2", "a/3")
	})
}

func TestInvariant5DeadLetterThatCannotBeWrittenIsKept(t *testing.T) {
	drain(t, func(l *memoryLog, b *backend, _ *persist.Drain) {
		l.deadFail = errors.New("disk full")
		b.set(each(func(string) persist.Result { return persist.Result{Permanent: true, Error: "no"} }))
		l.add("a/1")
		after(time.Minute)
		if l.saved.Sequence != 1 {
			t.Errorf("position %v passed a message that is neither stored nor a dead letter", l.saved)
		}
		l.mu.Lock()
		l.deadFail = nil
		l.mu.Unlock()
		after(2 * time.Minute)
		wantNames(t, "dead", l.deadTexts(), "a/1")
	})
}

func TestBackingOffConversationDelaysNoOtherAndHoldsNoMemory(t *testing.T) {
	drain(t, func(l *memoryLog, b *backend, _ *persist.Drain) {
		l.add("a/0")
		after(time.Second)
		b.set(each(func(n string) persist.Result {
			return persist.Result{Stored: !strings.HasPrefix(n, "x/"), Error: "locked"}
		}))
		l.add("x/1")
		for i := range 3000 {
			l.add(fmt.Sprintf("c%d/1", i%50))
		}
		after(3 * time.Second)
		if got, _ := b.log(); len(got) != 3001 {
			t.Errorf("%d others are stored, want 3001", len(got))
		}
	})
}

func TestRestartContinuesAtTheSavedPosition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, b := newLog(), &backend{respond: stored}
		for range 3 {
			l.add("a/"+fmt.Sprint(len(l.messages)), "b/"+fmt.Sprint(len(l.messages)))
			d, err := persist.New(persist.Config{Source: l, Store: l, Sink: b})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- d.Run(ctx) }()
			after(time.Second)
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		if got, _ := b.log(); len(got) != 6 {
			t.Errorf("stored %v: something is missing or was stored twice", got)
		}
	})
}

// A drain starts at the first sequence of the log if retention has passed its position,
// and counts the trimmed sequences, including those trimmed during an outage.
func TestDrainStartsAtTheFirstSequenceAndCountsTheTrimmed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, b := newLog(), &backend{respond: stored}
		for i := range 20 {
			l.add(fmt.Sprintf("c%d/%d", i, i+1))
		}
		l.saved = messaging.Position{Sequence: 3}
		l.trim(8)
		run := func() (d *persist.Drain, halt func()) {
			d, err := persist.New(persist.Config{Source: l, Store: l, Sink: b, BatchSize: 4, MaxBackoff: time.Second})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- d.Run(ctx) }()
			return d, func() {
				cancel()
				if err := <-done; err != nil {
					t.Error(err)
				}
			}
		}
		b.set(always(persist.Response{Class: persist.Unreached}))
		d, halt := run()
		if d.Gone() != 5 || d.Position().Sequence != 8 {
			t.Errorf("the drain starts at %v with %d trimmed, want 8 and 5", d.Position(), d.Gone())
		}
		after(time.Minute)
		halt()
		if l.saved.Sequence != 8 {
			t.Errorf("the position that is saved is %v, want 8", l.saved)
		}
		l.trim(12)
		b.set(stored)
		d, halt = run()
		after(time.Minute)
		if d.Gone() != 4 || d.Position().Sequence != 21 {
			t.Errorf("the drain is at %v with %d trimmed, want 21 and 4", d.Position(), d.Gone())
		}
		halt()
		if got, _ := b.log(); len(got) != 9 {
			t.Errorf("%d were stored, want 9: %v", len(got), got)
		}
	})
}

// A record that predates the bounds on numbers is sent alone: a backend whose JSON
// library refuses the number would refuse the whole batch.
func TestMessageWithAnUnsafeNumberIsSentAlone(t *testing.T) {
	drain(t, func(l *memoryLog, b *backend, _ *persist.Drain) {
		l.mu.Lock()
		for i := range 5 {
			m := messaging.Message{
				ID: messaging.MessageID{byte(i + 1)}, Position: messaging.Position{Sequence: uint64(i + 1)}, CreatedAt: time.Now(),
				Conversation: "c", Body: fmt.Appendf(nil, `{"text":"%d"}`, i),
			}
			if i == 2 {
				m.Body = fmt.Appendf(nil, `{"text":"%d","metadata":{"n":%s}}`, i, strings.Repeat("1", 4301))
			}
			l.messages = append(l.messages, m)
		}
		close(l.tail)
		l.tail = make(chan struct{})
		l.mu.Unlock()
		after(time.Second)
		_, batches := b.log()
		if got := fmt.Sprint(batches); got != "[[0 1] [2] [3 4]]" {
			t.Errorf("the batches are %s", got)
		}
	})
}
