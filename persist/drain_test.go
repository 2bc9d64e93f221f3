package persist_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
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

// The drain has passed a message that the backend has already, found the end of
// the log and saves its position, which takes a while; what is appended
// meanwhile must not be slept through.
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

func TestHopelessErrorIsADeadLetterOnlyByEvidence(t *testing.T) {
	drain(t, func(l *memoryLog, b *backend, _ *persist.Drain) {
		b.set(each(func(n string) persist.Result {
			return persist.Result{Stored: n != "x/1", Hopeless: n == "x/1", Error: "matching query does not exist"}
		}))
		l.add("x/1")
		after(10 * time.Minute)
		wantNames(t, "dead without evidence", l.deadTexts())
		l.add("a/1")
		after(2 * time.Minute)
		wantNames(t, "dead with evidence", l.deadTexts(), "x/1")
	})
}

// Whether its first try was in company or alone, a hopeless message is tried
// twice, the second time alone, and its dead letter says so.
func TestHopelessErrorIsTriedOnceMoreAlone(t *testing.T) {
	for name, together := range map[string][]string{"alone": {"x/1"}, "in company": {"b/1", "x/1"}} {
		t.Run(name, func(t *testing.T) {
			drain(t, func(l *memoryLog, b *backend, _ *persist.Drain) {
				l.add("a/1")
				after(time.Second)
				b.set(each(func(n string) persist.Result {
					return persist.Result{Stored: n != "x/1", Hopeless: n == "x/1", Error: "matching query does not exist"}
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
		wantNames(t, "behind it", only(got, "x"), "x/2")
		wantNames(t, "dead", l.deadTexts(), "x/1")
		if l.dead[0].Attempts != 5 {
			t.Errorf("%d attempts, want 5", l.dead[0].Attempts)
		}
	})
}

func TestRejectedBatchIsHalvedUntilPoisonStandsAlone(t *testing.T) {
	drain(t, func(l *memoryLog, b *backend, _ *persist.Drain) {
		poison := "g/13"
		b.set(func(batch []string) persist.Answer {
			if slices.Contains(batch, poison) {
				return persist.Answer{Verdict: persist.Rejected, Status: 400, Reason: "bad text"}
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
		b.set(func(batch []string) persist.Answer {
			for _, n := range batch {
				if strings.HasPrefix(n, "p") {
					return persist.Answer{Verdict: persist.Rejected, Status: 422}
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
		b.set(func(batch []string) persist.Answer {
			if len(batch) > 1 {
				return persist.Answer{Verdict: persist.Mismatched, Status: 200}
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

func TestSickConversationHoldsUpNoOtherAndNoMemory(t *testing.T) {
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

func TestRestartGoesOnWhereItWas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, b := newLog(), &backend{answer: stored}
		for range 3 {
			l.add("a/"+fmt.Sprint(len(l.messages)), "b/"+fmt.Sprint(len(l.messages)))
			d, err := persist.New(persist.Config{Source: l, Ledger: l, Sink: b})
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

// What goes wrong within the service is said once, however often it is tried
// again: dead letters that a full disk does not take, messages that do not come
// back from the log.
func TestTroubleOfOurOwnIsToldOnce(t *testing.T) {
	for line, c := range map[string]struct {
		result     persist.Result
		unreadable bool
	}{
		"could not be written": {result: persist.Result{Permanent: true, Error: "no"}},
		"could not be read":    {result: persist.Result{Error: "locked"}, unreadable: true},
	} {
		t.Run(line, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l, b := newLog(), &backend{answer: each(func(string) persist.Result { return c.result })}
				l.deadFail = errors.New("disk full")
				lines := runFor(t, time.Hour, l, b, c.unreadable)
				if n := strings.Count(lines, line); n != 1 {
					t.Errorf("%d lines in an hour, want 1:\n%.2000s", n, lines)
				}
			})
		})
	}
}

// runFor drains twenty conversations for a time and gives what was logged.
func runFor(t *testing.T, d time.Duration, l *memoryLog, b *backend, unreadable bool) string {
	t.Helper()
	var lines bytes.Buffer
	var source persist.Source = l
	if unreadable {
		source = forgetfulLog{l}
	}
	drain, err := persist.New(persist.Config{Source: source, Ledger: l, Sink: b, Logger: slog.New(slog.NewTextHandler(&lines, nil))})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- drain.Run(ctx) }()
	for i := range 20 {
		l.add(fmt.Sprintf("c%d/1", i))
	}
	after(d)
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	return lines.String()
}

// forgetfulLog gives every message once.
type forgetfulLog struct{ *memoryLog }

func (l forgetfulLog) Read(from messaging.Position, limit, maxBytes int) ([]messaging.Message, messaging.Position, error) {
	if limit == 1 {
		return nil, from, errors.New("input/output error")
	}
	return l.memoryLog.Read(from, limit, maxBytes)
}
