package persist_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/persist"
)

// memoryLog is a log in memory that also stores the progress of its drain.
type memoryLog struct {
	mu       sync.Mutex
	messages []messaging.Message
	tail     chan struct{}
	saved    messaging.Position
	dead     []messaging.DeadLetter
	deadFail error
	reads    int
	floor    uint64          // sequences before it were trimmed
	trimmed  map[uint64]bool // sequences trimmed after floor
	saving   func()          // called while a position is saved
	page     int             // maximum number of messages per read; 0 for no limit
	perRead  time.Duration
}

func newLog() *memoryLog {
	return &memoryLog{tail: make(chan struct{}), saved: messaging.Position{Sequence: 1}}
}

// add appends messages named "conversation/text".
func (l *memoryLog) add(names ...string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, name := range names {
		conversation, text, _ := strings.Cut(name, "/")
		seq := uint64(len(l.messages) + 1)
		l.messages = append(l.messages, messaging.Message{
			ID: messaging.MessageID{15: byte(seq), 14: byte(seq >> 8)}, Position: messaging.Position{Sequence: seq}, CreatedAt: time.Now(),
			Conversation: conversation, NoPersist: text == "stored", Body: fmt.Appendf(nil, `{"text":%q}`, name),
		})
	}
	close(l.tail)
	l.tail = make(chan struct{})
}

func (l *memoryLog) Read(from messaging.Position, limit, _ int) ([]messaging.Message, messaging.Position, error) {
	time.Sleep(l.perRead)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.reads++
	if l.page > 0 {
		limit = min(limit, l.page)
	}
	first := min(int(max(from.Sequence, l.floor, 1))-1, len(l.messages))
	page := slices.Clone(l.messages[first:min(len(l.messages), first+limit)])
	next := messaging.Position{Sequence: uint64(first + len(page) + 1)}
	page = slices.DeleteFunc(page, func(m messaging.Message) bool { return l.trimmed[m.Position.Sequence] })
	return page, next, nil
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

func (l *memoryLog) FirstSequence() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return max(1, l.floor)
}

// trim removes the messages before a sequence, as retention does.
func (l *memoryLog) trim(first uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.floor = first
}

func (l *memoryLog) Position() (messaging.Position, error) { return l.saved, nil }

func (l *memoryLog) SaveProgress(p messaging.Progress) error {
	if l.saving != nil {
		l.saving()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.saved = *p.Position
	return nil
}

func (l *memoryLog) AddDeadLetters(letters []messaging.DeadLetter, p messaging.Progress) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.deadFail != nil {
		return l.deadFail
	}
	l.dead = append(l.dead, letters...)
	l.saved = *p.Position
	return nil
}

func (l *memoryLog) deadTexts() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var names []string
	for _, d := range l.dead {
		names = append(names, name(d.Message.Body))
	}
	return names
}

func name(body []byte) string {
	_, rest, _ := strings.Cut(string(body), `"text":"`)
	text, _, _ := strings.Cut(rest, `"`)
	return text
}

// backend is a sink whose responses the test scripts.
type backend struct {
	mu      sync.Mutex
	respond func(batch []string) persist.Response
	stored  []string
	batches [][]string
	delay   time.Duration
	slow    map[string]time.Duration // delay by the first message of a batch; set before it is sent
}

func (b *backend) Deliver(ctx context.Context, batch []messaging.Message) persist.Response {
	select {
	case <-time.After(b.delay + b.slow[name(batch[0].Body)]):
	case <-ctx.Done():
		return persist.Response{Class: persist.TimedOut}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	names := make([]string, len(batch))
	for i, m := range batch {
		names[i] = name(m.Body)
	}
	b.batches = append(b.batches, names)
	a := b.respond(names)
	for i, r := range a.Results {
		if r.Stored {
			b.stored = append(b.stored, names[i])
		}
	}
	return a
}

func (b *backend) set(respond func(batch []string) persist.Response) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.respond = respond
}

func (b *backend) log() (stored []string, batches [][]string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.stored), slices.Clone(b.batches)
}

// each responds to a batch message by message.
func each(result func(name string) persist.Result) func([]string) persist.Response {
	return func(batch []string) persist.Response {
		a := persist.Response{Class: persist.Accounted, Status: 200}
		for _, n := range batch {
			a.Results = append(a.Results, result(n))
		}
		return a
	}
}

var stored = each(func(string) persist.Result { return persist.Result{Stored: true} })

func always(a persist.Response) func([]string) persist.Response {
	return func([]string) persist.Response { return a }
}

// drain runs a test in a synctest bubble with a drain over log and backend.
func drain(t *testing.T, test func(l *memoryLog, b *backend, d *persist.Drain)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		l, b := newLog(), &backend{respond: stored, delay: time.Millisecond}
		d, err := persist.New(persist.Config{Source: l, Store: l, Sink: b, Linger: 10 * time.Millisecond, Grace: time.Second})
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
