package persist_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stayafrica/messaging/persist"
)

func TestOutageKeepsEverythingInOrder(t *testing.T) {
	for _, class := range []persist.Class{persist.Unavailable, persist.Unreached, persist.TimedOut, persist.Throttled, persist.Misconfigured} {
		t.Run(class.String(), func(t *testing.T) {
			drain(t, func(l *memoryLog, b *backend, d *persist.Drain) {
				l.add("a/0")
				after(time.Second)
				b.set(always(persist.Response{Class: class, Status: 503}))
				l.add("a/1", "a/2", "b/1")
				after(time.Hour)
				if !d.Waiting() {
					t.Error("the drain does not report the outage")
				}
				l.add("a/3")
				b.set(stored)
				after(2 * time.Minute)
				got, batches := b.log()
				wantNames(t, "stored", only(got, "a"), "a/0", "a/1", "a/2", "a/3")
				wantNames(t, "dead", l.deadTexts())
				if len(batches) > 600 {
					t.Errorf("%d tries in an hour: the drain does not back off", len(batches))
				}
			})
		})
	}
}

func only(names []string, conversation string) []string {
	return slices.DeleteFunc(slices.Clone(names), func(n string) bool { return !strings.HasPrefix(n, conversation+"/") })
}

func TestRetryAfterIsHonoured(t *testing.T) {
	drain(t, func(l *memoryLog, b *backend, _ *persist.Drain) {
		b.set(always(persist.Response{Class: persist.Throttled, RetryAfter: 3593 * time.Second}))
		l.add("a/1")
		after(3500 * time.Second)
		if _, batches := b.log(); len(batches) != 1 {
			t.Errorf("%d tries before the end of the requested pause", len(batches))
		}
	})
}

// Two batches are in flight. One is throttled; the other, which was sent before that,
// succeeds afterwards.
func TestSuccessDoesNotShortenARequestedPause(t *testing.T) {
	for _, class := range []persist.Class{persist.Throttled, persist.Unavailable} {
		t.Run(class.String(), func(t *testing.T) {
			drain(t, func(l *memoryLog, b *backend, d *persist.Drain) {
				b.slow = map[string]time.Duration{"b/1": time.Second}
				b.set(func(batch []string) persist.Response {
					if batch[0] == "a/1" {
						return persist.Response{Class: class, RetryAfter: 10 * time.Minute}
					}
					return stored(batch)
				})
				l.add("b/1")
				after(20 * time.Millisecond)
				l.add("a/1")
				after(9 * time.Minute)
				if got, batches := b.log(); len(got) != 1 || len(batches) != 2 {
					t.Errorf("stored %v in the batches %v, want b/1 and nothing after it", got, batches)
				}
				if !d.Waiting() {
					t.Error("the drain does not report that it waits")
				}
				b.set(stored)
				after(2 * time.Minute)
				if got, _ := b.log(); len(got) != 2 || d.Waiting() {
					t.Errorf("stored %v, waiting: %t, want both and false", got, d.Waiting())
				}
			})
		})
	}
}

// A batch that is being halved sends no further half during such a pause.
func TestHalvingStopsInARequestedPause(t *testing.T) {
	drain(t, func(l *memoryLog, b *backend, _ *persist.Drain) {
		b.slow = map[string]time.Duration{"a/1": time.Second}
		b.set(func(batch []string) persist.Response {
			switch {
			case batch[0] == "b/1":
				return persist.Response{Class: persist.Throttled, RetryAfter: 10 * time.Minute}
			case len(batch) > 1:
				return persist.Response{Class: persist.Rejected, Status: 413}
			}
			return stored(batch)
		})
		l.add("a/1", "a/2")
		after(20 * time.Millisecond)
		l.add("b/1")
		after(9 * time.Minute)
		if _, batches := b.log(); len(batches) != 2 {
			t.Errorf("the batches are %v, want no more than two", batches)
		}
		b.set(stored)
		after(2 * time.Minute)
		got, _ := b.log()
		wantNames(t, "stored in order", only(got, "a"), "a/1", "a/2")
	})
}

func TestSuccessEndsTheDrainsOwnPause(t *testing.T) {
	drain(t, func(l *memoryLog, b *backend, d *persist.Drain) {
		b.slow = map[string]time.Duration{"b/1": 20 * time.Second}
		back := false
		b.set(func(batch []string) persist.Response {
			back = back || batch[0] == "b/1"
			if !back {
				return persist.Response{Class: persist.Unavailable}
			}
			return stored(batch)
		})
		l.add("b/1")
		after(20 * time.Millisecond)
		l.add("a/1")
		after(19 * time.Second)
		if !d.Waiting() {
			t.Error("the drain does not report that it waits")
		}
		after(time.Second)
		got, _ := b.log()
		wantNames(t, "stored", got, "b/1", "a/1")
	})
}

func TestBatchOfNothingButErrorsIsAnOutage(t *testing.T) { // Django with its database down
	drain(t, func(l *memoryLog, b *backend, _ *persist.Drain) {
		l.add("a/0")
		after(time.Second)
		b.set(each(func(string) persist.Result { return persist.Result{Error: "could not connect to server"} }))
		l.add("a/1", "b/1", "c/1")
		after(time.Hour)
		wantNames(t, "dead", l.deadTexts())
		b.set(stored)
		after(2 * time.Minute)
		if got, _ := b.log(); len(got) != 4 {
			t.Errorf("stored %v", got)
		}
	})
}

func TestRejectingEverythingIsAnOutage(t *testing.T) { // a wrong ALLOWED_HOSTS
	drain(t, func(l *memoryLog, b *backend, _ *persist.Drain) {
		l.add("a/0")
		after(time.Second)
		b.set(always(persist.Response{Class: persist.Rejected, Status: 400}))
		for i := range 30 {
			l.add(fmt.Sprintf("c%d/1", i))
		}
		after(time.Hour)
		wantNames(t, "dead", l.deadTexts())
		b.set(stored)
		after(5 * time.Minute)
		if got, _ := b.log(); len(got) != 31 {
			t.Errorf("%d stored, want 31", len(got))
		}
	})
}

// Messages that were refused alone return to their conversation together with the
// untried ones and before them.
func TestOutageOfRefusalsKeepsTheOrder(t *testing.T) {
	drain(t, func(l *memoryLog, b *backend, _ *persist.Drain) {
		b.set(always(persist.Response{Class: persist.Rejected, Status: 400}))
		addMany(l, 30)
		after(time.Hour)
		b.set(stored)
		after(5 * time.Minute)
		got, _ := b.log()
		var want []string
		for i := range 30 {
			want = append(want, fmt.Sprintf("a/%d", i))
		}
		wantNames(t, "stored in order", got, want...)
	})
}

// After such an outage, messages that are retried one by one are not judged by what was
// stored before it.
func TestRejectingEverythingResetsTheEvidence(t *testing.T) {
	drain(t, func(l *memoryLog, b *backend, _ *persist.Drain) {
		l.add("a/0")
		after(time.Second)
		b.set(always(persist.Response{Class: persist.Rejected, Status: 400}))
		l.add("b/1", "c/1")
		after(20 * time.Millisecond)
		l.add("d/1")
		after(time.Hour)
		_, batches := b.log()
		if !slices.ContainsFunc(batches[4:], func(names []string) bool { return len(names) == 1 }) {
			t.Error("no message was retried alone")
		}
		wantNames(t, "dead", l.deadTexts())
	})
}

func TestMessageRejectedAloneIsADeadLetterOnlyByEvidence(t *testing.T) {
	drain(t, func(l *memoryLog, b *backend, d *persist.Drain) {
		b.set(func(batch []string) persist.Response {
			if slices.Contains(batch, "x/1") {
				return persist.Response{Class: persist.Rejected, Status: 400, Reason: "bad text"}
			}
			return stored(batch)
		})
		l.add("x/1")
		after(time.Hour)
		wantNames(t, "dead without evidence", l.deadTexts())
		if !d.Waiting() {
			t.Error("a backend that refuses everything does not count as an outage")
		}
		l.add("a/1")
		after(2 * time.Minute)
		wantNames(t, "dead with evidence", l.deadTexts(), "x/1")
	})
}

// A single message gets an error and nothing else is stored. Nothing shows whether the
// message or the backend is at fault, so it is reported as an outage.
func TestErrorOfTheOnlyMessageIsReportedAsAnOutage(t *testing.T) {
	for name, result := range map[string]persist.Result{"any": {Error: "locked"}, "suspect": {Suspect: true, Error: "matching query does not exist"}} {
		t.Run(name, func(t *testing.T) {
			drain(t, func(l *memoryLog, b *backend, d *persist.Drain) {
				b.set(each(func(string) persist.Result { return result }))
				l.add("x/1")
				after(time.Hour)
				wantNames(t, "dead", l.deadTexts())
				if !d.Waiting() {
					t.Error("the drain does not report that it waits")
				}
				b.set(each(func(n string) persist.Result {
					if n == "x/1" {
						return result
					}
					return persist.Result{Stored: true}
				}))
				l.add("a/1")
				after(2 * time.Minute)
				wantNames(t, "dead with evidence", l.deadTexts(), "x/1")
				if d.Waiting() {
					t.Error("the drain still reports that it waits")
				}
			})
		})
	}
}

// A backend whose database is full or read-only still recognizes duplicates.
func TestDuplicatesAreNoEvidence(t *testing.T) {
	drain(t, func(l *memoryLog, b *backend, _ *persist.Drain) {
		b.set(func(batch []string) persist.Response {
			a := persist.Response{Class: persist.Accounted, Status: 200, Old: true}
			for _, n := range batch {
				if n == "old/0" {
					a.Results = append(a.Results, persist.Result{Stored: true}) // "duplicates": 1
				} else {
					a.Results = append(a.Results, persist.Result{Error: "cannot execute INSERT in a read-only transaction"})
				}
			}
			return a
		})
		l.add("new/1")
		after(200 * time.Millisecond)
		for range 30 {
			l.add("old/0")
			after(30 * time.Second)
		}
		if dead := l.deadTexts(); len(dead) > 0 {
			t.Errorf("dead letters %v while nothing is stored", dead)
		}
	})
}

// The cost of counting the minute before the first try: see
// docs/explanation/outages.md.
func TestMessageAloneIsJudgedByTheMinuteBeforeIt(t *testing.T) {
	drain(t, func(l *memoryLog, b *backend, _ *persist.Drain) {
		l.add("a/0")
		after(time.Second)
		b.set(always(persist.Response{Class: persist.Rejected, Status: 400}))
		after(30 * time.Second)
		l.add("b/1")
		after(time.Hour)
		wantNames(t, "dead", l.deadTexts(), "b/1")
		l.add("c/1")
		after(time.Hour)
		wantNames(t, "dead later on", l.deadTexts(), "b/1")
	})
}
