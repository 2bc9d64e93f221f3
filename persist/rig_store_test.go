package persist_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/engine"
	"github.com/stayafrica/messaging/storage"
	"github.com/stayafrica/messaging/wal"
)

// rigStore is the real log, with the progress and the dead letters in memory. Message
// names are "conversation/number"; a receiver's copy of a broadcast has a name of its
// own.
type rigStore struct {
	*wal.Log

	tb       testing.TB
	engine   *engine.Engine
	progress *memoryStore
}

func newRigStore(tb testing.TB) *rigStore {
	tb.Helper()
	store, err := storage.Open(storage.Config{
		Dir: "/data", FS: vfs.NewMem(), Control: storage.NewMemoryControl().Open, MemTableBytes: 1 << 20,
		CacheBytes: 1 << 20,
	})
	if err != nil {
		tb.Fatal(err)
	}
	s := &rigStore{tb: tb, progress: newMemoryStore()}
	if s.Log, err = wal.Open(wal.Config{Store: store}); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := errors.Join(s.Close(), store.Close()); err != nil {
			tb.Error(err)
		}
	})
	if s.engine, err = engine.Open(engine.Config{Store: store, Log: s.Log}); err != nil {
		tb.Fatal(err)
	}
	return s
}

// add appends messages in one commit. Every body also has a secret text, which must
// reach the backend unchanged and must not appear in the log output.
func (s *rigStore) add(names ...string) { s.send("", names...) }

// addOwn appends a message that the backend already has ("persist": false).
func (s *rigStore) addOwn(name string) { s.send(`,"persist":false`, name) }

func (s *rigStore) send(more string, names ...string) {
	s.tb.Helper()
	drafts := make([]messaging.Draft, len(names))
	for i, name := range names {
		conversation, _, _ := strings.Cut(name, "/")
		var err error
		drafts[i], err = messaging.ParseDraft(fmt.Appendf(nil,
			`{"conversation_id":%q,"sender_id":9007199254740993,"receiver_id":2,"text":%q,"metadata":{"é":1.50,"note":%q}%s}`, conversation, name, rigSecret, more))
		if err != nil {
			s.tb.Fatal(err)
		}
	}
	if _, err := s.engine.SendAll(drafts, messaging.IdempotencyKey{}); err != nil {
		s.tb.Fatal(err)
	}
}

// broadcast appends a message to five users.
func (s *rigStore) broadcast(name string) {
	s.tb.Helper()
	b, err := messaging.ParseBroadcast(fmt.Appendf(nil, `{"message":{"sender_id":1,"text":%q},"user_ids":[11,12,13,"x-14",15]}`, name))
	if err == nil {
		_, err = s.engine.Broadcast(b, messaging.IdempotencyKey{})
	}
	if err != nil {
		s.tb.Fatal(err)
	}
}

func copyName(text, receiver string) string { return text + ">" + receiver }

func nameOf(m *messaging.Message) string {
	if m.Copy {
		return copyName(name(m.Body), string(m.Receiver.User))
	}
	return name(m.Body)
}

// all returns the messages in the log for the backend.
func (s *rigStore) all() (all []messaging.Message) {
	s.tb.Helper()
	from := messaging.Position{Sequence: s.FirstSequence()}
	for {
		page, next, err := s.Read(from, 1000, 1<<20)
		if err != nil {
			s.tb.Error(err)
		}
		if err != nil || next == from {
			return slices.DeleteFunc(all, func(m messaging.Message) bool { return m.NoPersist })
		}
		all, from = append(all, page...), next
	}
}

// dead returns the dead letters.
func (s *rigStore) dead() []messaging.DeadLetter {
	s.tb.Helper()
	page, err := s.progress.ListDeadLetters(messaging.DeadLetterFilter{Limit: 1000})
	if err != nil {
		s.tb.Error(err)
	}
	return page.DeadLetters
}

func (s *rigStore) deadNames() []string {
	var names []string
	for _, d := range s.dead() {
		names = append(names, nameOf(&d.Message))
	}
	slices.Sort(names)
	return names
}

// strictStore checks every position before it is saved: all messages below it must be
// stored or dead letters, and it never decreases.
type strictStore struct {
	*memoryStore

	store           *rigStore
	django          *django
	mu              sync.Mutex
	last            messaging.Position
	deadLettersFail bool // dead letters cannot be written
}

func (l *strictStore) SaveProgress(p messaging.Progress) error {
	l.check(*p.Position)
	return l.memoryStore.SaveProgress(p)
}

func (l *strictStore) check(p messaging.Position) {
	l.mu.Lock()
	if p.Before(l.last) {
		l.store.tb.Errorf("the position went back from %v to %v", l.last, p)
	}
	l.last = p
	l.mu.Unlock()
	dead := l.store.deadNames()
	for _, m := range l.store.all() {
		if m.Position.Before(p) && !l.django.has(m.ID.String()) && !slices.Contains(dead, nameOf(&m)) {
			l.store.tb.Errorf("the position is %v, and %s is not settled", p, nameOf(&m))
		}
	}
}

func (l *strictStore) AddDeadLetters(letters []messaging.DeadLetter, p messaging.Progress) error {
	l.mu.Lock()
	jammed := l.deadLettersFail
	l.mu.Unlock()
	if jammed {
		return storage.ErrDiskFull
	}
	l.check(*p.Position)
	return l.memoryStore.AddDeadLetters(letters, p)
}

func (l *strictStore) failDeadLetters(on bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.deadLettersFail = on
}

// rewind resets the position, as a crash before the save does.
func (l *strictStore) rewind(to messaging.Position) {
	l.mu.Lock()
	l.last = to
	l.mu.Unlock()
	if err := l.memoryStore.SaveProgress(messaging.Progress{Position: &to}); err != nil {
		l.store.tb.Error(err)
	}
}

// logChecker checks the log output: an outage is logged once per change, and neither
// secrets nor texts appear.
type logChecker struct {
	tb       testing.TB
	mu       sync.Mutex
	lines    int
	outages  int
	lastLine string
}

func (j *logChecker) Enabled(_ context.Context, level slog.Level) bool {
	return level >= slog.LevelInfo
}
func (j *logChecker) WithAttrs([]slog.Attr) slog.Handler { return j }
func (j *logChecker) WithGroup(string) slog.Handler      { return j }

func (j *logChecker) Handle(_ context.Context, r slog.Record) error {
	line := r.Message
	r.Attrs(func(a slog.Attr) bool {
		line += " " + a.String()
		return true
	})
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines++
	if strings.Contains(line, rigSecret) {
		j.tb.Errorf("a secret is in the log: %s", line)
	}
	switch {
	case strings.Contains(line, "does not take messages"):
		j.outages++
		if line == j.lastLine {
			j.tb.Errorf("logged twice: %s", line)
		}
		j.lastLine = line
	case strings.Contains(line, "takes messages again"):
		j.lastLine = ""
	}
	return nil
}

// reset prepares the checker for a new process.
func (j *logChecker) reset() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lastLine = ""
}

func (j *logChecker) count() (lines, outages int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.lines, j.outages
}
