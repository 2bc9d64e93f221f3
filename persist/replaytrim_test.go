package persist_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/persist"
)

// tombstones trims messages after the front of the log, which does not move.
func (l *memoryLog) tombstones(sequences ...uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.trimmed == nil {
		l.trimmed = make(map[uint64]bool)
	}
	for _, seq := range sequences {
		l.trimmed[seq] = true
	}
}

// Retention trims around a message that is due later, and a full disk trims around a
// queued message. A replay that has read the trimmed messages skips them and ends.
func TestReplaySkipsSequencesTrimmedAfterARetainedMessage(t *testing.T) {
	work(t, func(w *jobsTest) {
		w.numbered(9)
		w.backend.set(always(persist.Response{Class: persist.Unreached}))
		j := w.replay(messaging.ReplayRequest{})
		after(time.Minute)
		w.log.tombstones(4, 5) // 1 is in a queue, so the log still begins there
		w.backend.set(stored)
		after(2 * time.Hour)
		shown := w.wantJob(j.ID, messaging.JobDone, 9, 9, 2)
		if !strings.Contains(shown.Error, "2 sequences were trimmed by retention before the replay read them") {
			w.Errorf("the job's error is %q", shown.Error)
		}
		got, _ := w.backend.log()
		if len(got) != 7 {
			w.Errorf("stored are %v, want 7", got)
		}
	})
}

// A replay counts sequences that were trimmed before it read them, wherever they were.
// It does not count messages that exist and are not for the backend or not selected. A
// stop counts nothing twice.
func TestReplayCountsTombstonesAndNothingElse(t *testing.T) {
	for name, q := range map[string]messaging.ReplayRequest{
		"all": {Rate: 5}, "a conversation": {Rate: 5, Conversation: "c1"}, "an unknown conversation": {Rate: 5, Conversation: "none"},
	} {
		t.Run(name, func(t *testing.T) {
			work(t, func(w *jobsTest) {
				w.numbered(40)
				w.log.add("c1/stored", "c2/stored")
				w.numbered(8)
				w.log.page = 7
				w.log.tombstones(2, 9, 10, 11, 20, 41, 50)
				w.log.trim(2)
				j := w.replay(q)
				for range 5 {
					after(time.Second)
					w.restart()
				}
				after(time.Hour)
				w.wantJob(j.ID, messaging.JobDone, 49, 49, 7)
			})
		})
	}
}

// broadcastLog is a log of broadcast copies, three per sequence.
type broadcastLog struct{ *memoryLog }

func (c broadcastLog) Read(from messaging.Position, limit, maxBytes int) ([]messaging.Message, messaging.Position, error) {
	page, next, err := c.memoryLog.Read(messaging.Position{Sequence: from.Sequence}, limit, maxBytes)
	var list []messaging.Message
	for i := range page {
		for n := range uint32(3) {
			m := page[i]
			m.Position.Receiver, m.Conversation = n, fmt.Sprint(n)
			if m.Position.Before(from) {
				continue
			}
			if len(list) == limit {
				return list, m.Position, err
			}
			list = append(list, m)
		}
	}
	return list, next, err
}

// The copies of a broadcast share one sequence. A trimmed broadcast counts once,
// however many of its copies were sent.
func TestTrimmedBroadcastCountsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, b := broadcastLog{newLog()}, &backend{respond: always(persist.Response{Class: persist.Unreached}), delay: time.Millisecond}
		l.add("c/1", "c/2", "c/3", "c/4")
		gone := uint64(0)
		run := func(change func(d *persist.Drain)) {
			d, err := persist.New(persist.Config{Source: l, Store: l, Sink: b, BatchSize: 1, Grace: time.Second, MaxBackoff: time.Second})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- d.Run(ctx) }()
			after(time.Minute)
			change(d)
			after(time.Minute)
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
			gone += d.Gone()
		}
		run(func(*persist.Drain) {
			l.tombstones(2, 3)
			taken := 0 // the drain stops within the first broadcast, which is then trimmed
			b.set(func(batch []string) persist.Response {
				if taken++; taken > 4 {
					return persist.Response{Class: persist.Unreached}
				}
				return stored(batch)
			})
		})
		run(func(*persist.Drain) { b.set(stored) })
		if gone != 2 || l.saved.Sequence != 5 {
			t.Errorf("%d sequences were trimmed and the position is %v, want 2 and 5", gone, l.saved)
		}
	})
}
