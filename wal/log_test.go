package wal

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.uber.org/goleak"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/storage"
)

// open opens a log, and checks at the end that none of its goroutines is left.
func open(t *testing.T) *Log {
	t.Helper()
	before := goleak.IgnoreCurrent()
	store, err := storage.Open(storage.Config{Dir: "/data", FS: vfs.NewMem(), Control: storage.NewMemoryControl().Open, MemTableBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	l, err := Open(Config{Store: store})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(l.Close(), store.Close()); err != nil {
			t.Error(err)
		}
		goleak.VerifyNone(t, before)
	})
	return l
}

// appended is a change that only appends.
type appended struct {
	record    Record
	sequence  uint64
	published func()
}

func (a *appended) Records() []Record { return []Record{a.record} }
func (a *appended) Stage(tx *Tx)      { a.sequence = tx.Sequence }
func (a *appended) OnDurable() {
	if a.published != nil {
		a.published()
	}
}

func record(at time.Time) Record {
	return Record{Message: messaging.Message{
		ID: messaging.MessageID{1}, CreatedAt: at, Conversation: "c", Receiver: messaging.Receiver{User: "u"}, Body: []byte(`{"text":"x"}`),
	}}
}

func TestInvariant1PublishedIsDurable(t *testing.T) {
	l := open(t)
	c := &appended{record: record(time.Now())}
	c.published = func() {
		if l.Durable() != c.sequence {
			t.Errorf("published at %d while %d is durable", c.sequence, l.Durable())
		}
	}
	before := l.Durable()
	if err := l.Commit(c); err != nil {
		t.Fatal(err)
	}
	if before != 0 || l.Durable() != 1 {
		t.Errorf("durable went from %d to %d", before, l.Durable())
	}
}

func TestInvariant2ConcurrentCommitsGetEachSequenceOnce(t *testing.T) {
	l := open(t)
	const workers, each = 8, 200
	var mu sync.Mutex
	seen := make(map[uint64]bool)
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for range each {
				c := &appended{record: record(time.Now())}
				if err := l.Commit(c); err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				seen[c.sequence] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if len(seen) != workers*each || !seen[1] || !seen[workers*each] {
		t.Errorf("%d sequences for %d commits", len(seen), workers*each)
	}
}

func TestInvariant8TooManyWaitingChangesAreRefused(t *testing.T) {
	l := open(t)
	l.config.MaxPending = 2
	hold := make(chan struct{})
	blocker := &blocking{hold: hold, begun: make(chan struct{})}
	if err := l.CommitAsync(blocker); err != nil {
		t.Fatal(err)
	}
	<-blocker.begun
	for range 2 {
		if err := l.CommitAsync(&appended{record: record(time.Now())}); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Commit(&appended{record: record(time.Now())}); messaging.CodeOf(err) != messaging.CodeOverloaded {
		t.Errorf("the change past the limit got %v", err)
	}
	close(hold)
}

// blocking blocks the committer until hold is closed.
type blocking struct{ hold, begun chan struct{} }

func (b *blocking) Records() []Record { return nil }
func (b *blocking) Stage(*Tx)         { close(b.begun); <-b.hold }
func (b *blocking) OnDurable()        {}

func TestClosedLogRefuses(t *testing.T) {
	l := open(t)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := l.Commit(&appended{record: record(time.Now())}); messaging.CodeOf(err) != messaging.CodeShuttingDown {
		t.Errorf("got %v", err)
	}
}

func TestWaitReturnsWhenThereIsMore(t *testing.T) {
	l := open(t)
	done := make(chan error, 1)
	go func() { done <- l.Wait(t.Context(), messaging.Position{Sequence: 2}) }()
	for range 2 {
		if err := l.Commit(&appended{record: record(time.Now())}); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.Wait(ctx, messaging.Position{Sequence: 3}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestExpiredBeforePassesRecordsOfAClockThatRanAhead(t *testing.T) {
	l := open(t)
	now := time.Now()
	for _, age := range []time.Duration{3 * time.Hour, -1000 * time.Hour, 2 * time.Hour, time.Minute, -1000 * time.Hour} {
		if err := l.Commit(&appended{record: record(now.Add(-age))}); err != nil {
			t.Fatal(err)
		}
	}
	keep, err := l.ExpiredBefore(1, now.Add(-time.Hour).UnixMilli(), now.UnixMilli(), 1000)
	if err != nil || keep != 4 {
		t.Errorf("keeps from %d (%v), want 4", keep, err)
	}
	if keep, err = l.ExpiredBefore(1, now.Add(-time.Hour).UnixMilli(), now.UnixMilli(), 1); err != nil || keep > 2 {
		t.Errorf("with a limit of one record: %d (%v)", keep, err)
	}
}

func TestReadStopsAtItsLimitsAndContinues(t *testing.T) {
	l := open(t)
	for range 10 {
		if err := l.Commit(&appended{record: record(time.Now())}); err != nil {
			t.Fatal(err)
		}
	}
	var got int
	for from := (messaging.Position{}); ; {
		page, next, err := l.Read(from, 3, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		if len(page) == 0 {
			break
		}
		got += len(page)
		from = next
	}
	if got != 10 {
		t.Errorf("read %d of 10", got)
	}
	if page, _, err := l.Read(messaging.Position{Sequence: 1}, 10, 1); err != nil || len(page) != 1 {
		t.Errorf("a page of one byte has %d messages (%v)", len(page), err)
	}
}

func FuzzDecodeRecord(f *testing.F) {
	for _, r := range []Record{record(time.UnixMilli(1)), {Recipients: 3, Message: messaging.Message{Body: []byte(`{}`)}}, {Trimmed: true}} {
		encoded := make([]byte, r.size())
		r.encode(encoded)
		f.Add(encoded)
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		r, err := DecodeRecord(src)
		if err != nil {
			return
		}
		again := make([]byte, r.size())
		r.encode(again)
		if !bytes.Equal(src, again) {
			t.Errorf("%x became %x", src, again)
		}
	})
}

// BenchmarkCommit1000 measures the commit alone: appends in commits of a thousand, on the
// real disk.
func BenchmarkCommit1000(b *testing.B) {
	store, err := storage.Open(storage.Config{Dir: b.TempDir(), Fatal: func(err error) { b.Fatal(err) }})
	if err != nil {
		b.Fatal(err)
	}
	l, err := Open(Config{Store: store})
	if err != nil {
		b.Fatal(err)
	}
	r := record(time.Now())
	r.Message.Body = bytes.Repeat([]byte("x"), 220)
	r.Message.Body[0], r.Message.Body[219] = '{', '}'
	b.ResetTimer()
	for b.Loop() {
		var last <-chan struct{}
		for range 1000 {
			if last, err = l.enqueue(&appended{record: r}, 1<<20); err != nil {
				b.Fatal(err)
			}
		}
		<-last
	}
	b.ReportMetric(float64(b.N)*1000/b.Elapsed().Seconds(), "messages/s")
	if err := errors.Join(l.Close(), store.Close()); err != nil {
		b.Error(err)
	}
}
