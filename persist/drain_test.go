package persist_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/persist"
)

// memoryLog is a log and a ledger in memory.
type memoryLog struct {
	mu       sync.Mutex
	messages []messaging.Message
	tail     chan struct{}
	saved    messaging.Position
	dead     []messaging.DeadLetter
	deadFail error
	reads    int
	saving   func() // called while a position is saved
}

func newLog() *memoryLog {
	return &memoryLog{tail: make(chan struct{}), saved: messaging.Position{Sequence: 1}}
}

// add appends messages as "conversation/text".
func (l *memoryLog) add(names ...string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, name := range names {
		conversation, text, _ := strings.Cut(name, "/")
		seq := uint64(len(l.messages) + 1)
		l.messages = append(l.messages, messaging.Message{
			ID: messaging.MessageID{15: byte(seq), 14: byte(seq >> 8)}, Position: messaging.Position{Sequence: seq}, CreatedAt: time.Now(),
			Conversation: conversation, Stored: text == "stored", Body: fmt.Appendf(nil, `{"text":%q}`, name),
		})
	}
	close(l.tail)
	l.tail = make(chan struct{})
}

func (l *memoryLog) Read(from messaging.Position, limit, _ int) ([]messaging.Message, messaging.Position, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.reads++
	first := min(int(from.Sequence)-1, len(l.messages))
	page := slices.Clone(l.messages[first:min(len(l.messages), first+limit)])
	return page, messaging.Position{Sequence: uint64(first + len(page) + 1)}, nil
}

func (l *memoryLog) Wait(ctx context.Context, from messaging.Position) error {
	for {
		l.mu.Lock()
		tail, there := l.tail, uint64(len(l.messages)) >= from.Sequence
		l.mu.Unlock()
		if there {
			return nil
		}
		select {
		case <-tail:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (l *memoryLog) Durable() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return uint64(len(l.messages))
}

func (l *memoryLog) Floor() uint64 { return 1 }

func (l *memoryLog) Position() (messaging.Position, error) { return l.saved, nil }

func (l *memoryLog) SavePosition(p messaging.Position) error {
	if l.saving != nil {
		l.saving()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.saved = p
	return nil
}

func (l *memoryLog) AddDeadLetters(letters []messaging.DeadLetter) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.deadFail != nil {
		return l.deadFail
	}
	l.dead = append(l.dead, letters...)
	return nil
}

func (l *memoryLog) deadTexts() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var names []string
	for _, d := range l.dead {
		names = append(names, name(d.Message))
	}
	return names
}

func name(body []byte) string {
	_, rest, _ := strings.Cut(string(body), `"text":"`)
	text, _, _ := strings.Cut(rest, `"`)
	return text
}

// backend is a sink that a test writes the answers of.
type backend struct {
	mu      sync.Mutex
	answer  func(batch []string) persist.Answer
	stored  []string
	batches [][]string
	delay   time.Duration
	slow    map[string]time.Duration // by the first message of a batch; set before it is sent
}

func (b *backend) Deliver(ctx context.Context, batch []messaging.Message) persist.Answer {
	select {
	case <-time.After(b.delay + b.slow[name(batch[0].Body)]):
	case <-ctx.Done():
		return persist.Answer{Verdict: persist.TimedOut}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	names := make([]string, len(batch))
	for i, m := range batch {
		names[i] = name(m.Body)
	}
	b.batches = append(b.batches, names)
	a := b.answer(names)
	for i, r := range a.Results {
		if r.Stored {
			b.stored = append(b.stored, names[i])
		}
	}
	return a
}

func (b *backend) set(answer func(batch []string) persist.Answer) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.answer = answer
}

func (b *backend) log() (stored []string, batches [][]string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.stored), slices.Clone(b.batches)
}

// each answers a batch message by message.
func each(result func(name string) persist.Result) func([]string) persist.Answer {
	return func(batch []string) persist.Answer {
		a := persist.Answer{Verdict: persist.Accounted, Status: 200}
		for _, n := range batch {
			a.Results = append(a.Results, result(n))
		}
		return a
	}
}

var stored = each(func(string) persist.Result { return persist.Result{Stored: true} })

func always(a persist.Answer) func([]string) persist.Answer {
	return func([]string) persist.Answer { return a }
}

// drain runs a test in a bubble with a drain over log and backend.
func drain(t *testing.T, test func(l *memoryLog, b *backend, d *persist.Drain)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		l, b := newLog(), &backend{answer: stored, delay: time.Millisecond}
		d, err := persist.New(persist.Config{Source: l, Ledger: l, Sink: b, Linger: 10 * time.Millisecond, Grace: time.Second})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- d.Run(ctx) }()
		test(l, b, d)
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the drain ended with %v", err)
		}
	})
}

// after lets time pass in the bubble.
func after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func wantNames(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

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

func TestOutageKeepsEverythingInOrder(t *testing.T) {
	for _, verdict := range []persist.Verdict{persist.Unavailable, persist.Unreached, persist.TimedOut, persist.Throttled, persist.Misconfigured} {
		t.Run(verdict.String(), func(t *testing.T) {
			drain(t, func(l *memoryLog, b *backend, d *persist.Drain) {
				l.add("a/0")
				after(time.Second)
				b.set(always(persist.Answer{Verdict: verdict, Status: 503}))
				l.add("a/1", "a/2", "b/1")
				after(time.Hour)
				if !d.Waiting() {
					t.Error("the drain does not know that the backend is out of order")
				}
				l.add("a/3")
				b.set(stored)
				after(2 * time.Minute)
				got, batches := b.log()
				wantNames(t, "stored", only(got, "a"), "a/0", "a/1", "a/2", "a/3")
				wantNames(t, "dead", l.deadTexts())
				if len(batches) > 600 {
					t.Errorf("%d tries in an hour: it does not back off", len(batches))
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
		b.set(always(persist.Answer{Verdict: persist.Throttled, RetryAfter: 3593 * time.Second}))
		l.add("a/1")
		after(3500 * time.Second)
		if _, batches := b.log(); len(batches) != 1 {
			t.Errorf("%d tries before the time that the backend named", len(batches))
		}
	})
}

// Two flights are on their way; one is told to come back later, and the other,
// which was sent before that, succeeds after it.
func TestSuccessDoesNotShortenAPauseThatWasAskedFor(t *testing.T) {
	for _, verdict := range []persist.Verdict{persist.Throttled, persist.Unavailable} {
		t.Run(verdict.String(), func(t *testing.T) {
			drain(t, func(l *memoryLog, b *backend, d *persist.Drain) {
				b.slow = map[string]time.Duration{"b/1": time.Second}
				b.set(func(batch []string) persist.Answer {
					if batch[0] == "a/1" {
						return persist.Answer{Verdict: verdict, RetryAfter: 10 * time.Minute}
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
					t.Error("the drain does not say that it waits")
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

// A flight that is being halved sends no further half during such a pause.
func TestHalvingStopsInAPauseThatWasAskedFor(t *testing.T) {
	drain(t, func(l *memoryLog, b *backend, _ *persist.Drain) {
		b.slow = map[string]time.Duration{"a/1": time.Second}
		b.set(func(batch []string) persist.Answer {
			switch {
			case batch[0] == "b/1":
				return persist.Answer{Verdict: persist.Throttled, RetryAfter: 10 * time.Minute}
			case len(batch) > 1:
				return persist.Answer{Verdict: persist.Rejected, Status: 413}
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

func TestSuccessEndsAPauseOfOurOwn(t *testing.T) {
	drain(t, func(l *memoryLog, b *backend, d *persist.Drain) {
		b.slow = map[string]time.Duration{"b/1": 20 * time.Second}
		back := false
		b.set(func(batch []string) persist.Answer {
			back = back || batch[0] == "b/1"
			if !back {
				return persist.Answer{Verdict: persist.Unavailable}
			}
			return stored(batch)
		})
		l.add("b/1")
		after(20 * time.Millisecond)
		l.add("a/1")
		after(19 * time.Second)
		if !d.Waiting() {
			t.Error("the drain does not say that it waits")
		}
		after(time.Second)
		got, _ := b.log()
		wantNames(t, "stored", got, "b/1", "a/1")
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

func TestRejectingEverythingIsAnOutage(t *testing.T) { // a wrong ALLOWED_HOSTS
	drain(t, func(l *memoryLog, b *backend, _ *persist.Drain) {
		l.add("a/0")
		after(time.Second)
		b.set(always(persist.Answer{Verdict: persist.Rejected, Status: 400}))
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

// After such an outage began, messages that come back one by one are not judged
// by what was stored before it.
func TestRejectingEverythingVoidsTheEvidence(t *testing.T) {
	drain(t, func(l *memoryLog, b *backend, _ *persist.Drain) {
		l.add("a/0")
		after(time.Second)
		b.set(always(persist.Answer{Verdict: persist.Rejected, Status: 400}))
		l.add("b/1", "c/1")
		after(20 * time.Millisecond)
		l.add("d/1")
		after(time.Hour)
		_, batches := b.log()
		if !slices.ContainsFunc(batches[4:], func(names []string) bool { return len(names) == 1 }) {
			t.Error("no message came back by itself")
		}
		wantNames(t, "dead", l.deadTexts())
	})
}

func TestMessageRejectedAloneIsADeadLetterOnlyByEvidence(t *testing.T) {
	drain(t, func(l *memoryLog, b *backend, d *persist.Drain) {
		b.set(func(batch []string) persist.Answer {
			if slices.Contains(batch, "x/1") {
				return persist.Answer{Verdict: persist.Rejected, Status: 400, Reason: "bad text"}
			}
			return stored(batch)
		})
		l.add("x/1")
		after(time.Hour)
		wantNames(t, "dead without evidence", l.deadTexts())
		if !d.Waiting() {
			t.Error("a backend that refuses all it gets does not count as out of order")
		}
		l.add("a/1")
		after(2 * time.Minute)
		wantNames(t, "dead with evidence", l.deadTexts(), "x/1")
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
