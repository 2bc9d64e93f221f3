package engine_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/engine"
	"github.com/stayafrica/messaging/storage"
	"github.com/stayafrica/messaging/wal"
)

// trimEarly makes passes of so many bytes until nothing is left to trim.
func (r *rig) trimEarly(bytes uint64) {
	r.tb.Helper()
	if err := r.log.CommitUnbounded(nothing{}); err != nil { // the removals of takes are committed after their responses
		r.tb.Fatal(err)
	}
	for done := false; !done; {
		var err error
		if done, err = r.engine.TrimEarly(context.Background(), bytes); err != nil {
			r.tb.Fatal(err)
		}
	}
}

// nothing is a change that writes nothing. When it is durable, so are all changes before
// it.
type nothing struct{}

func (nothing) Records() []wal.Record { return nil }
func (nothing) Stage(*wal.Tx)         {}
func (nothing) OnDurable()            {}

// wantLeft checks which sequences a reader of the log still gets.
func (r *rig) wantLeft(want ...uint64) {
	r.tb.Helper()
	var got []uint64
	for from := (messaging.Position{}); from.Sequence <= r.log.Durable(); {
		page, next, err := r.log.Read(from, 3, 1<<20)
		if err != nil {
			r.tb.Fatal(err)
		}
		for i := range page {
			if n := len(got); n == 0 || got[n-1] != page[i].Position.Sequence {
				got = append(got, page[i].Position.Sequence)
			}
		}
		from = next
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		r.tb.Fatalf("the log has %v, want %v", got, want)
	}
}

func TestEarlyTrimRemovesSettledUnqueuedMessages(t *testing.T) {
	settled := messaging.Position{Sequence: 1}
	r := newRig(t, engine.Config{DrainPosition: func() messaging.Position { return settled }})
	r.send("u", "1", messaging.Normal)
	r.send("u", "2", messaging.Normal)
	r.send("never", "3", messaging.Normal)
	r.send("u", "4", messaging.High)
	r.broadcast("5", "u", "v")
	r.broadcast("6", "u", "w")
	r.send("u", "7", messaging.Normal)
	r.send("u", "8", messaging.Normal)
	wantTexts(t, r.take("u", 6), "4", "1", "2", "5", "6", "7")
	wantTexts(t, r.take("w", 1), "6")
	r.trimEarly(1 << 20)
	r.wantLeft(1, 2, 3, 4, 5, 6, 7, 8) // the drain has settled nothing
	settled.Sequence = 9
	r.trimEarly(1)
	r.wantLeft(3, 5, 8) // still queued: for never, v and u
	if first := r.log.FirstSequence(); first != 3 {
		t.Errorf("the first sequence is %d, want 3", first)
	}
	r.reopen()
	r.wantLeft(3, 5, 8)
	wantTexts(t, r.take("never", 9), "3")
	wantTexts(t, r.take("v", 9), "5")
	wantTexts(t, r.take("u", 9), "8")
	r.trimEarly(1 << 20)
	r.wantLeft()
	if got := r.send("u", "9", messaging.Normal).Sequence; got != 9 || r.log.FirstSequence() != 9 {
		t.Errorf("the next sequence is %d and the first sequence %d, want 9 and 9", got, r.log.FirstSequence())
	}
}

func TestEarlyTrimBeginsWithTheOldestAndStopsInTime(t *testing.T) {
	r := newRig(t, engine.Config{})
	long := strings.Repeat("x", 10_000)
	for range 2000 {
		r.send("u", long, messaging.Normal)
	}
	for n := 0; n < 2000; {
		n += len(r.take("u", 1000))
	}
	if err := r.log.CommitUnbounded(nothing{}); err != nil {
		t.Fatal(err)
	}
	if done, err := r.engine.TrimEarly(t.Context(), 1); err != nil || done {
		t.Fatalf("done %t, %v", done, err)
	}
	if first := r.log.FirstSequence(); first <= 1 || first > 600 {
		t.Errorf("a pass for one byte trimmed up to %d, want one page", first)
	}
}

func TestEarlyTrimKeepsLeasedDelayedAndDeadLetters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &serving{rig: newRig(t, engine.Config{MaxDeliveries: 1})}
		s.start()
		defer s.Close()
		s.sendWith("exhausted", "")
		take(t, s, time.Second)
		time.Sleep(2 * time.Second) // the lease expires
		s.wantQueue()
		s.sendWith("leased", "")
		leased := take(t, s, time.Hour)
		s.sendWith("later", `,"delay_seconds":60`)
		s.trimEarly(1 << 20)
		s.wantLeft(1, 2, 3)
		letters, err := s.engine.DeadLetters().ListDeadLetters(messaging.DeadLetterFilter{Limit: 10})
		if err != nil || len(letters.DeadLetters) != 1 {
			t.Fatalf("%d dead letters, %v", len(letters.DeadLetters), err)
		}
		if results := redrive(t, s.engine, &letters.DeadLetters[0]); results[0] != (messaging.RequeueResult{}) {
			t.Fatalf("the dead letter was not requeued: %+v", results)
		}
		s.wantQueue("exhausted")
		if _, err := s.engine.Acknowledge("u", []string{leased}); err != nil {
			t.Fatal(err)
		}
		s.trimEarly(1 << 20)
		s.wantLeft(1, 3)
	})
}

// The first sequence stops at the first record that stays, for whatever reason.
func TestEarlyTrimStopsAtADeadLetterBeforeAQueuedMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &serving{rig: newRig(t, engine.Config{MaxDeliveries: 1})}
		s.start()
		defer s.Close()
		s.sendWith("gone", "")
		wantTexts(t, s.take("u", 1), "gone")
		s.sendWith("exhausted", "")
		take(t, s, time.Second)
		time.Sleep(2 * time.Second) // the lease expires
		s.sendWith("queued", "")
		s.trimEarly(1 << 20)
		s.wantLeft(2, 3)
		if first := s.log.FirstSequence(); first != 2 {
			t.Errorf("the first sequence is %d, want 2", first)
		}
	})
}

func take(t *testing.T, s *serving, lease time.Duration) (receipt string) {
	t.Helper()
	h, err := s.engine.Take(t.Context(), "u", messaging.TakeOptions{Limit: 1, Lease: lease})
	if err != nil || len(h.Messages) != 1 {
		t.Fatalf("%d messages, %v", len(h.Messages), err)
	}
	h.Finish(true)
	return h.Messages[0].Receipt
}

func TestEarlyTrimmedMessageIsNotRedriven(t *testing.T) {
	r := newRig(t, engine.Config{})
	r.send("never", "1", messaging.Normal)
	r.send("u", "2", messaging.Normal)
	messages, err := r.engine.Peek("u", 1)
	if err != nil {
		t.Fatal(err)
	}
	wantTexts(t, r.take("u", 1), "2")
	r.trimEarly(1 << 20)
	if _, err := r.log.Record(2); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("the record returned %v", err)
	}
	messages[0].Receiver.User = "u"
	letter := messaging.DeadLetter{Kind: messaging.Undeliverable, Reason: "nobody acknowledged it", Recipients: 1, Message: messages[0]}
	if err := r.engine.DeadLetters().AddDeadLetters([]messaging.DeadLetter{letter}, messaging.Progress{}); err != nil {
		t.Fatal(err)
	}
	if results := redrive(t, r.engine, &letter); results[0].Refusal == "" {
		t.Errorf("it was requeued: %+v", results)
	}
	wantTexts(t, peek(t, r, "u"))
}

func TestAFullDiskTrimsEarlyAndLogsItOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		var free atomic.Uint64
		free.Store(1000)
		s := &serving{rig: newRig(t, engine.Config{
			MinFree: 100, Free: func() (uint64, error) { return free.Load(), nil }, Logger: slog.New(slog.NewTextHandler(&out, nil)),
		})}
		s.start()
		s.sendWith("gone", "")
		wantTexts(t, s.take("u", 1), "gone")
		s.sendWith("waits", "")
		time.Sleep(time.Second)
		s.wantLeft(1, 2) // there is enough space
		free.Store(99)
		time.Sleep(5 * time.Second)
		s.wantLeft(2)
		wantTexts(t, s.take("u", 1), "waits")
		time.Sleep(5 * time.Second)
		s.wantLeft()
		free.Store(1000)
		time.Sleep(15 * time.Second)
		s.Close()
		for _, line := range []string{
			"nearly full", "trimmed before MESSAGE_RETENTION_DAYS", "no more messages are trimmed early", "there is room on the disk again",
		} {
			if n := strings.Count(out.String(), line); n != 1 {
				t.Errorf("the log says %q %d times:\n%s", line, n, out.String())
			}
		}
		if got := s.engine.Stats().TrimmedEarly; got != 2 {
			t.Errorf("%d messages are counted as trimmed early, want 2", got)
		}
	})
}

func TestEarlyTrimStopsIfItCannotFreeEnough(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &serving{rig: newRig(t, engine.Config{MinFree: 1 << 50, Free: func() (uint64, error) { return 1000, nil }})}
		s.sendWith("gone", "") // before the disk is measured
		wantTexts(t, s.take("u", 1), "gone")
		s.start()
		defer s.Close()
		time.Sleep(time.Minute)
		s.wantLeft(1)
	})
}

// TestACrashWhileTrimmingEarlyLosesNothing crashes at every moment of an early trim: the
// log opens without gaps, and unread messages are there.
func TestACrashWhileTrimmingEarlyLosesNothing(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := newRig(t, engine.Config{})
	for n := range 3000 {
		user := "u"
		if n%7 == 3 {
			user = "never"
		}
		r.send(user, strconv.Itoa(n), messaging.Normal)
	}
	r.broadcast("b", "u", "v")
	for range 3 {
		r.take("u", 1000)
	}
	if err := r.log.CommitUnbounded(nothing{}); err != nil {
		t.Fatal(err)
	}
	wanted := r.log.Queued()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for end := false; !end; {
			var err error
			if end, err = r.engine.TrimEarly(context.Background(), 1); err != nil {
				t.Error(err)
				return
			}
		}
	}()
	chance := rand.New(rand.NewPCG(seed, 0))
	for running := true; running; {
		select {
		case <-done:
			running = false
		case <-time.After(time.Duration(chance.IntN(20)) * time.Millisecond):
		}
		control := r.control.Clone()
		crashed := &rig{
			tb: t, control: control, config: r.config,
			fs: r.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: chance.IntN(101), RNG: chance}),
		}
		crashed.open()
		if got := crashed.log.Queued(); got != wanted {
			t.Errorf("%d entries are left, want %d", got, wanted)
		}
		if got := len(crashed.take("never", 1000)); got != 429 {
			t.Errorf("the idle reader finds %d messages, want 429", got)
		}
		wantTexts(t, crashed.take("v", 1), "b")
		crashed.trimEarly(1 << 20)
		crashed.close()
	}
}

func TestRetentionSkipsEarlyTrimmedMessages(t *testing.T) {
	var mu sync.Mutex
	now := time.Now()
	r := newRig(t, engine.Config{Retention: time.Hour, Now: func() time.Time { mu.Lock(); defer mu.Unlock(); return now }})
	r.send("never", "1", messaging.Normal)
	r.send("u", "2", messaging.Normal)
	r.broadcast("3", "u", "v")
	wantTexts(t, r.take("u", 2), "2", "3")
	wantTexts(t, r.take("v", 2), "3")
	r.trimEarly(1 << 20)
	r.wantLeft(1)
	r.advanceWithoutJump(&mu, &now, 2*time.Hour)
	r.wantTrimmed(1) // each message counts once
	if first := r.log.FirstSequence(); first != 4 {
		t.Errorf("the first sequence is %d, want 4", first)
	}
	wantTexts(t, peek(t, r, "never"))
}

// If nothing drains, the backend need not have the messages that are trimmed early.
func TestEarlyTrimLogsTheBackendOnlyWithADrain(t *testing.T) {
	for want, settled := range map[string]func() messaging.Position{
		"the disk is full: messages that the backend has and nobody has in a queue are trimmed": func() messaging.Position { return messaging.Position{Sequence: 2} },
		"the disk is full: messages that nobody has in a queue are trimmed":                     nil,
	} {
		var log bytes.Buffer
		r := newRig(t, engine.Config{Logger: slog.New(slog.NewTextHandler(&log, nil)), DrainPosition: settled})
		r.send("u", "x", messaging.Normal)
		wantTexts(t, r.take("u", 10), "x")
		r.trimEarly(1)
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log has no %q:\n%s", want, log.String())
		}
	}
}
