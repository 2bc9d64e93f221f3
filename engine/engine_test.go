package engine_test

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/engine"
	"github.com/stayafrica/messaging/storage"
	"github.com/stayafrica/messaging/wal"
)

// rig is an engine on a file system in memory, which can be closed, crashed and
// opened again.
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

// close checks what must hold at every rest: counts equal entries.
func (r *rig) close() {
	if r.store == nil {
		return
	}
	r.tb.Helper()
	_ = r.log.Close()
	r.checkCounts()
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

// checkCounts compares every user's counts and heads with their entries, and
// the total with all of them (invariant 9).
func (r *rig) checkCounts() {
	r.tb.Helper()
	seen := make(map[messaging.UserID]*storage.User)
	total := int64(0)
	for _, shelf := range []storage.Shelf{storage.Queued, storage.Delayed} {
		err := r.store.AllEntries(shelf, func(user messaging.UserID, p messaging.Priority, seq uint64) bool {
			u := seen[user]
			if u == nil {
				u = &storage.User{}
				seen[user] = u
			}
			u.On(shelf).Counts[p]++
			total++
			if kept, err := r.store.User(user); err != nil || kept.On(shelf).Heads[p] > seq {
				r.tb.Errorf("user %s, %s on shelf %c: head %d is above entry %d (%v)", user, p, shelf, kept.On(shelf).Heads[p], seq, err)
			}
			return true
		})
		if err != nil {
			r.tb.Fatalf("read all entries: %v", err)
		}
	}
	for user, want := range seen {
		got, err := r.store.User(user)
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

func (r *rig) send(user, text string, p messaging.Priority) messaging.Receipt {
	r.tb.Helper()
	receipt, err := r.engine.Send(draft(r.tb, user, text, p), messaging.Once{})
	if err != nil {
		r.tb.Fatalf("send: %v", err)
	}
	return receipt
}

func (r *rig) broadcast(text string, users ...string) messaging.Receipt {
	r.tb.Helper()
	b, err := messaging.ParseBroadcast(fmt.Appendf(nil, `{"message":{"sender_id":1,"text":%q},"user_ids":["%s"]}`, text, strings.Join(users, `","`)))
	if err != nil {
		r.tb.Fatal(err)
	}
	receipt, err := r.engine.Broadcast(b, messaging.Once{})
	if err != nil {
		r.tb.Fatalf("broadcast: %v", err)
	}
	return receipt
}

// take takes and settles; it gives the texts.
func (r *rig) take(user string, limit int) []string {
	r.tb.Helper()
	h, err := r.engine.Take(context.Background(), messaging.UserID(user), messaging.TakeOptions{Limit: limit})
	if err != nil {
		r.tb.Fatalf("take: %v", err)
	}
	h.Settle(true)
	return texts(r.tb, h.Messages)
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

func TestTakeGivesHigherPrioritiesFirstAndEachInOrder(t *testing.T) { // invariant 3
	r := newRig(t, engine.Config{})
	for i, p := range []messaging.Priority{messaging.Low, messaging.Normal, messaging.High, messaging.Normal, messaging.High, messaging.Low} {
		r.send("u", strconv.Itoa(i), p)
	}
	r.reopen()
	wantTexts(t, r.take("u", 3), "2", "4", "1")
	wantTexts(t, r.take("u", 10), "3", "0", "5")
	wantTexts(t, r.take("u", 10))
}

func TestSequencesHaveNoGapsAcrossRestarts(t *testing.T) { // invariant 2
	r := newRig(t, engine.Config{})
	want := uint64(1)
	for range 3 {
		for range 5 {
			if got := r.send("u", "x", messaging.Normal).Sequence; got != want {
				t.Fatalf("sequence %d, want %d", got, want)
			}
			want++
		}
		r.reopen()
	}
}

func TestUnsettledHandoutStandsWhereItStood(t *testing.T) { // invariant 4
	r := newRig(t, engine.Config{})
	for i := range 4 {
		r.send("u", strconv.Itoa(i), messaging.Normal)
	}
	first, err := r.engine.Take(context.Background(), "u", messaging.TakeOptions{Limit: 2})
	if err != nil {
		t.Fatal(err)
	}
	wantTexts(t, r.take("u", 1), "2") // nobody else gets 0 and 1 meanwhile
	first.Settle(false)
	wantTexts(t, r.take("u", 10), "0", "1", "3")
}

func TestCrashDuringHandoutLeavesItQueued(t *testing.T) {
	r := newRig(t, engine.Config{})
	r.send("u", "0", messaging.Normal)
	h, err := r.engine.Take(context.Background(), "u", messaging.TakeOptions{Limit: 1})
	if err != nil {
		t.Fatal(err)
	}
	wantTexts(t, texts(t, h.Messages), "0")
	r.reopen()
	wantTexts(t, r.take("u", 1), "0")
}

func TestFullQueueLosesOldestOfLowestPriority(t *testing.T) {
	r := newRig(t, engine.Config{QueueMax: 3})
	r.send("u", "h", messaging.High)
	r.send("u", "l1", messaging.Low)
	r.send("u", "l2", messaging.Low)
	r.send("u", "n", messaging.Normal) // l1 leaves
	r.send("u", "h2", messaging.High)  // l2 leaves
	wantTexts(t, peek(t, r, "u"), "h", "h2", "n")
	r.send("u", "h3", messaging.High) // n leaves
	r.send("u", "l3", messaging.Low)  // the newcomer itself leaves
	wantTexts(t, peek(t, r, "u"), "h", "h2", "h3")
	r.send("u", "h4", messaging.High) // of one priority, the oldest
	wantTexts(t, r.take("u", 10), "h2", "h3", "h4")
	if got := r.engine.Stats().Evicted; got != 5 {
		t.Errorf("%d are counted as evicted, want 5", got)
	}
	if got := r.log.Durable(); got != 8 {
		t.Errorf("the log ends at %d, want 8: evicted messages still go to the backend", got)
	}
}

func peek(t *testing.T, r *rig, user string) []string {
	t.Helper()
	messages, err := r.engine.Peek(messaging.UserID(user), 100)
	if err != nil {
		t.Fatal(err)
	}
	return texts(t, messages)
}

func TestManySendersIntoAFullQueueKeepCountsEqual(t *testing.T) { // invariant 9
	r := newRig(t, engine.Config{QueueMax: 5})
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for n := range 50 {
				r.send("u", fmt.Sprint(i, "-", n), messaging.Priority(n%3))
				if n%7 == 0 {
					h, err := r.engine.Take(context.Background(), "u", messaging.TakeOptions{Limit: 2})
					if err != nil {
						t.Error(err)
						return
					}
					h.Settle(n%2 == 0)
				}
			}
		})
	}
	wg.Wait()
	r.reopen()
	if got := len(r.take("u", 100)); got > 5 {
		t.Errorf("the queue held %d, at most 5 are allowed", got)
	}
}

func TestConcurrentTakersGetEachMessageOnce(t *testing.T) {
	r := newRig(t, engine.Config{})
	const n = 400
	for i := range n {
		r.send("u", strconv.Itoa(i), messaging.Priority(i%3))
	}
	var mu sync.Mutex
	got := make(map[string]int)
	var wg sync.WaitGroup
	for i := range 6 {
		wg.Go(func() {
			for n := i; ; n++ {
				h, err := r.engine.Take(context.Background(), "u", messaging.TakeOptions{Limit: 7})
				if err != nil {
					t.Error(err)
					return
				}
				if len(h.Messages) == 0 {
					h.Settle(true)
					return
				}
				delivered := n%3 != 0
				if delivered {
					mu.Lock()
					for _, text := range texts(t, h.Messages) {
						got[text]++
					}
					mu.Unlock()
				}
				h.Settle(delivered)
			}
		})
	}
	wg.Wait()
	for _, text := range r.take("u", 1000) {
		got[text]++
	}
	if len(got) != n {
		t.Errorf("%d of %d messages were handed out", len(got), n)
	}
	for text, times := range got {
		if times != 1 {
			t.Errorf("message %s was handed out %d times", text, times)
		}
	}
}

func TestBroadcastReachesEachReceiverOnce(t *testing.T) {
	r := newRig(t, engine.Config{})
	b, err := messaging.ParseBroadcast([]byte(`{"message":{"sender_id":1,"text":"b"},"user_ids":[1,"1",2,"x",2]}`))
	if err != nil {
		t.Fatal(err)
	}
	receipt, err := r.engine.Broadcast(b, messaging.Once{})
	if err != nil || receipt.Recipients != 3 {
		t.Fatalf("recipients %d (%v), want 3", receipt.Recipients, err)
	}
	r.reopen()
	for user, form := range map[string]string{"1": `"receiver_id":1,`, "x": `"receiver_id":"x",`} {
		h, err := r.engine.Take(context.Background(), messaging.UserID(user), messaging.TakeOptions{Limit: 10})
		if err != nil || len(h.Messages) != 1 {
			t.Fatalf("user %s got %d messages (%v)", user, len(h.Messages), err)
		}
		m := h.Messages[0]
		if text := string(m.AppendJSON(nil)); !strings.Contains(text, form) {
			t.Errorf("user %s: %s does not have %s", user, text, form)
		}
		if want := messaging.CopyID(receipt.ID, messaging.UserID(user)); m.ID != want {
			t.Errorf("user %s: id %s, want %s", user, m.ID, want)
		}
		h.Settle(true)
	}
}

// largeBroadcast is one with more receivers than fit into a commit.
func largeBroadcast(tb testing.TB, n int) messaging.Broadcast {
	tb.Helper()
	ids := make([]string, n)
	for i := range ids {
		ids[i] = strconv.Itoa(i)
	}
	b, err := messaging.ParseBroadcast([]byte(`{"message":{"sender_id":1,"text":"b"},"user_ids":[` + strings.Join(ids, ",") + `]}`))
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func TestLargeBroadcastGoesOnAfterRestartAndKeepsItsPlace(t *testing.T) {
	r := newRig(t, engine.Config{})
	const n = 3*messaging.ReceiversPerChunk + 5
	if _, err := r.engine.Broadcast(largeBroadcast(t, n), messaging.Once{}); err != nil {
		t.Fatal(err)
	}
	r.send("7", "later", messaging.Normal) // overtakes nothing: the broadcast came first
	r.reopen()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.engine.Fanout(ctx) }()
	waitFor(t, func() bool { return r.log.Queued() == n+1 })
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	r.reopen() // nothing is entered twice
	wantTexts(t, r.take("7", 10), "b", "later")
	wantTexts(t, r.take(strconv.Itoa(n-1), 10), "b")
}

func waitFor(t *testing.T, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); {
		if time.Now().After(deadline) {
			t.Fatal("it did not happen within 20 seconds")
		}
		time.Sleep(time.Millisecond)
	}
}

func TestRetentionTakesOldMessagesWithTheirEntriesAndNotPastTheDrain(t *testing.T) { // invariant 6
	var mu sync.Mutex
	now := time.Now()
	settled := messaging.Position{Sequence: 1}
	r := newRig(t, engine.Config{
		Retention: time.Hour,
		Now:       func() time.Time { mu.Lock(); defer mu.Unlock(); return now },
		Settled:   func() messaging.Position { mu.Lock(); defer mu.Unlock(); return settled },
	})
	for i := range 10 {
		r.send("u", strconv.Itoa(i), messaging.Normal)
	}
	r.broadcast("old", "u", "v")
	wantTexts(t, r.take("u", 2), "0", "1")
	r.advanceWithoutJump(&mu, &now, 30*time.Minute)
	r.send("u", "young", messaging.Normal)
	r.advanceWithoutJump(&mu, &now, 45*time.Minute)
	r.wantTrimmed(0) // the drain has settled nothing
	mu.Lock()
	settled.Sequence = 6
	mu.Unlock()
	r.wantTrimmed(5)
	mu.Lock()
	settled.Sequence = 1000
	mu.Unlock()
	r.wantTrimmed(6)
	r.reopen()
	wantTexts(t, r.take("u", 100), "young")
	wantTexts(t, r.take("v", 100))
	if got := r.send("u", "next", messaging.Normal).Sequence; got != 13 {
		t.Errorf("after trimming the next sequence is %d, want 13", got)
	}
}

// advanceWithoutJump moves the clock in a way that the guard takes for a new
// engine's: by opening it again.
func (r *rig) advanceWithoutJump(mu *sync.Mutex, now *time.Time, d time.Duration) {
	mu.Lock()
	*now = now.Add(d)
	mu.Unlock()
	r.reopen()
}

func (r *rig) wantTrimmed(want uint64) {
	r.tb.Helper()
	got, err := r.engine.Trim(context.Background())
	if err != nil || got != want {
		r.tb.Fatalf("%d records were trimmed (%v), want %d", got, err, want)
	}
}

func TestRetentionWaitsWhenTheClockWasSet(t *testing.T) {
	var mu sync.Mutex
	now := time.Now()
	r := newRig(t, engine.Config{Retention: time.Hour, Now: func() time.Time { mu.Lock(); defer mu.Unlock(); return now }})
	r.send("u", "x", messaging.Normal)
	mu.Lock()
	now = now.Add(24 * time.Hour) // no time has passed
	mu.Unlock()
	r.wantTrimmed(0)
	wantTexts(t, r.take("u", 1), "x")
}

func TestFullDiskRefusesSendsAndGoesOnGivingOut(t *testing.T) {
	free := uint64(1000)
	r := newRig(t, engine.Config{MinFree: 100, Free: func() (uint64, error) { return free, nil }})
	r.send("u", "x", messaging.Normal)
	free = 99
	if err := r.engine.MeasureDisk(); err != nil {
		t.Fatal(err)
	}
	_, err := r.engine.Send(draft(t, "u", "y", messaging.Normal), messaging.Once{})
	if messaging.CodeOf(err) != messaging.CodeDiskFull {
		t.Fatalf("a send on a full disk gave %v", err)
	}
	wantTexts(t, r.take("u", 10), "x")
	free = 1000
	if err := r.engine.MeasureDisk(); err != nil {
		t.Fatal(err)
	}
	r.send("u", "z", messaging.Normal)
	wantTexts(t, r.take("u", 10), "z")
}
