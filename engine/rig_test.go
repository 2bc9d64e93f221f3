package engine_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/engine"
	"github.com/stayafrica/messaging/storage"
	"github.com/stayafrica/messaging/storage/fsck"
	"github.com/stayafrica/messaging/wal"
)

// rig is an engine on a file system in memory, which can be closed, crashed and opened
// again.
type rig struct {
	tb      testing.TB
	fs      *vfs.MemFS
	control *storage.MemoryControl
	config  engine.Config

	store  *storage.Store
	log    *wal.Log
	engine *engine.Engine
}

func newRig(tb testing.TB, config engine.Config) *rig {
	tb.Helper()
	r := &rig{tb: tb, fs: vfs.NewCrashableMem(), control: storage.NewMemoryControl(), config: config}
	r.open()
	tb.Cleanup(func() { r.close() })
	return r
}

func (r *rig) open() {
	r.tb.Helper()
	var err error
	r.store, err = storage.Open(storage.Config{Dir: "/data", FS: r.fs, Control: r.control.Open, MemTableBytes: 1 << 20, CacheBytes: 1 << 20})
	if err != nil {
		r.tb.Fatalf("open the store: %v", err)
	}
	if r.log, err = wal.Open(wal.Config{Store: r.store}); err != nil {
		r.tb.Fatalf("open the log: %v", err)
	}
	config := r.config
	config.Store, config.Log = r.store, r.log
	if r.engine, err = engine.Open(config); err != nil {
		r.tb.Fatalf("open the engine: %v", err)
	}
}

// close checks the invariants at rest: counts equal entries.
func (r *rig) close() {
	if r.store == nil {
		return
	}
	r.tb.Helper()
	_ = r.log.Close()
	r.checkCounts()
	r.checkTrimmed()
	if wrong := r.engine.Unreachable(); wrong != "" {
		r.tb.Error(wrong)
	}
	if err := r.store.Close(); err != nil {
		r.tb.Errorf("close the store: %v", err)
	}
	r.store = nil
}

func (r *rig) reopen() {
	r.tb.Helper()
	r.close()
	r.open()
}

// checkCounts compares every user's counts and heads with their entries, the total with
// all of them, and all tables with each other (invariant 9).
func (r *rig) checkCounts() {
	r.tb.Helper()
	for _, p := range fsck.Check(r.store.Reader, wal.Codec()).Problems {
		r.tb.Errorf("%s: %s", p.Where, p.What)
	}
	seen := make(map[messaging.UserID]*storage.QueueState)
	total := int64(0)
	for _, index := range []storage.Index{storage.Queued, storage.Delayed} {
		err := r.store.AllEntries(index, func(user messaging.UserID, p messaging.Priority, seq uint64) bool {
			u := seen[user]
			if u == nil {
				u = &storage.QueueState{}
				seen[user] = u
			}
			u.On(index).Counts[p]++
			total++
			if kept, err := r.store.QueueState(user); err != nil || kept.On(index).Heads[p] > seq {
				r.tb.Errorf("user %s, %s in index %c: head %d is above entry %d (%v)", user, p, index, kept.On(index).Heads[p], seq, err)
			}
			return true
		})
		if err != nil {
			r.tb.Fatalf("read all entries: %v", err)
		}
	}
	for user, want := range seen {
		got, err := r.store.QueueState(user)
		if err != nil || got.Counts != want.Counts || got.Delayed.Counts != want.Delayed.Counts {
			r.tb.Errorf("user %s: counts %v and %v, entries %v and %v (%v)", user, got.Counts, got.Delayed.Counts, want.Counts, want.Delayed.Counts, err)
		}
	}
	if got := r.log.Queued(); got != total {
		r.tb.Errorf("%d entries are counted, %d are there", got, total)
	}
}

func draft(tb testing.TB, user, text string, p messaging.Priority) messaging.Draft {
	tb.Helper()
	d, err := messaging.ParseDraft(fmt.Appendf(nil, `{"conversation_id":1,"sender_id":2,"receiver_id":%q,"text":%q,"priority":%q}`, user, text, p))
	if err != nil {
		tb.Fatal(err)
	}
	return d
}

// checkTrimmed compares the count of trimmed messages from the drain's position on with a
// new count.
func (r *rig) checkTrimmed() {
	r.tb.Helper()
	position, err := r.store.Position()
	if err != nil {
		r.tb.Fatal(err)
	}
	n, err := wal.CountTrimmed(r.store.Reader, r.log.FirstSequence(), position.Sequence, r.log.Durable()+1)
	if err != nil || n != r.log.Trimmed() {
		r.tb.Errorf("%d messages from %d on were trimmed (%v), and %d are counted", n, position.Sequence, err, r.log.Trimmed())
	}
}

func (r *rig) send(user, text string, p messaging.Priority) messaging.SendResult {
	r.tb.Helper()
	receipt, err := r.engine.Send(draft(r.tb, user, text, p), messaging.IdempotencyKey{})
	if err != nil {
		r.tb.Fatalf("send: %v", err)
	}
	return receipt
}

func (r *rig) broadcast(text string, users ...string) messaging.SendResult {
	r.tb.Helper()
	b, err := messaging.ParseBroadcast(fmt.Appendf(nil, `{"message":{"sender_id":1,"text":%q},"user_ids":["%s"]}`, text, strings.Join(users, `","`)))
	if err != nil {
		r.tb.Fatal(err)
	}
	receipt, err := r.engine.Broadcast(b, messaging.IdempotencyKey{})
	if err != nil {
		r.tb.Fatalf("broadcast: %v", err)
	}
	return receipt
}

// take takes messages and finishes the delivery; it returns their texts.
func (r *rig) take(user string, limit int) []string {
	r.tb.Helper()
	h, err := r.engine.Take(context.Background(), messaging.UserID(user), messaging.TakeOptions{Limit: limit})
	if err != nil {
		r.tb.Fatalf("take: %v", err)
	}
	h.Finish(true)
	return texts(r.tb, h.Messages)
}

func peek(t *testing.T, r *rig, user string) []string {
	t.Helper()
	messages, err := r.engine.Peek(messaging.UserID(user), 100)
	if err != nil {
		t.Fatal(err)
	}
	return texts(t, messages)
}

func texts(tb testing.TB, messages []messaging.Message) []string {
	tb.Helper()
	list := []string{}
	for _, m := range messages {
		_, rest, _ := strings.Cut(string(m.Body), `"text":"`)
		text, _, _ := strings.Cut(rest, `"`)
		list = append(list, text)
	}
	return list
}

func wantTexts(tb testing.TB, got []string, want ...string) {
	tb.Helper()
	if strings.Join(got, " ") != strings.Join(want, " ") {
		tb.Fatalf("got %v, want %v", got, want)
	}
}
