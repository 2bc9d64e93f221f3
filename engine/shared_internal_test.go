package engine

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/bench/torture"
	"github.com/stayafrica/messaging/storage"
	"github.com/stayafrica/messaging/wal"
)

// TestRigSharedCommits makes moves of one queue share commits, in every order and with
// readers that scan across them, while leases, timers and dead letters run. Afterwards
// counts equal entries, and every message can be taken.
func TestRigSharedCommits(t *testing.T) {
	torture.Run(t, 60, func(r *torture.Round) {
		c := Config{QueueMax: uint64(5 + r.Rand.IntN(20)), CachedQueues: 1}
		if r.Rand.IntN(3) == 0 {
			c.MaxDeliveries = 2
		}
		if r.Rand.IntN(3) == 0 {
			c.Weights = &Weights{3, 2, 1}
		}
		if r.Rand.IntN(3) == 0 {
			c.RetryBackoff = time.Second
		}
		onWorkbench(t, c, 0, func(w *workbench) { newSharing(w, r.Rand).run(r) })
	})
}

// TestRigSharedCommitsCatchesAWrongCount: an entry that is counted and missing must be
// found.
func TestRigSharedCommitsCatchesAWrongCount(t *testing.T) {
	onWorkbench(t, Config{}, 0, func(w *workbench) {
		w.send("x", "")
		batch := w.store.NewBatch()
		batch.DeleteEntry(storage.Queued, "u", messaging.Normal, 1)
		batch.Commit()
		batch.Close()
		if problem := newSharing(w, nil).problem(); problem == "" {
			t.Error("an entry was removed without its count, and no problem is found")
		}
		batch = w.store.NewBatch()
		batch.PutEntry(storage.Queued, "u", messaging.Normal, 1, storage.Entry{})
		batch.Commit()
		batch.Close()
	})
}

// sharing is a queue whose moves share commits, with the state of its clients.
type sharing struct {
	*workbench
	chance   *rand.Rand
	mu       sync.Mutex          // moves of one commit end concurrently
	taken    []messaging.Message // to be redriven
	open     []messaging.Delivery
	receipts []string
	records  []uint64 // of broadcasts that are not in the queue yet
	trim     func()   // commits a prepared page
}

func newSharing(w *workbench, chance *rand.Rand) *sharing {
	return &sharing{workbench: w, chance: chance}
}

func (s *sharing) run(r *torture.Round) {
	ctx, cancel := context.WithCancel(context.Background())
	var services []chan error
	for _, serve := range []func(context.Context) error{s.Schedule, s.FinishClears, s.Leases, s.DeadLetterExhausted} {
		ended := make(chan error, 1)
		services = append(services, ended)
		go func() { ended <- serve(ctx) }()
	}
	for range 120 {
		r.Count("moves", s.someCommits())
		time.Sleep(time.Duration(s.chance.IntN(700)) * time.Millisecond)
		synctest.Wait()
		if problem := s.problem(); problem != "" {
			s.Error(problem)
			break
		}
	}
	s.takeAll()
	cancel()
	for _, ended := range services {
		if err := <-ended; err != nil {
			s.Error(err)
		}
	}
}

// someCommits makes moves that share commits, sometimes during the scan of a reader that
// began before them.
func (s *sharing) someCommits() (moves int) {
	q, err := s.queues.pin("u")
	if err != nil {
		s.Fatal(err)
	}
	defer s.queues.unpin(q)
	endScan := s.beginScan(q)
	s.beginTrim()
	for range 1 + s.chance.IntN(3) {
		var together []func()
		for range 1 + s.chance.IntN(4) {
			together = append(together, s.move(endScan == nil))
		}
		s.together(together...)
		moves += len(together)
	}
	if endScan != nil {
		endScan()
	}
	if s.chance.IntN(3) == 0 {
		s.forgetQueues()
	}
	return moves
}

// beginScan sometimes starts a scan; the returned function ends it.
func (s *sharing) beginScan(q *queue) func() {
	if s.chance.IntN(3) > 0 || !q.scanning.TryLock() {
		return nil
	}
	r := q.beginScan(s.log, 10)
	read := func() *batch {
		b, err := s.readBatch(q, r, 3)
		if err != nil {
			s.Error(err)
		}
		return b
	}
	var b *batch
	if s.chance.IntN(2) == 0 {
		b = read()
	}
	return func() {
		if b == nil {
			b = read()
		}
		found, _ := s.endScan(q, r, b, true, true)
		s.putBack(q, found)
		q.scanning.Unlock()
	}
}

// forgetQueues uses so many other queues that an unpinned queue is evicted from memory and
// loaded again.
func (s *sharing) forgetQueues() {
	for i := range 200 {
		q, err := s.queues.pin(messaging.UserID(fmt.Sprint("o", i)))
		if err != nil {
			s.Fatal(err)
		}
		s.queues.unpin(q)
	}
}

// move draws a move. While a scan is held open, a take would wait for ever.
func (s *sharing) move(mayTake bool) func() {
	moves := []func(){s.sendOne, s.clear, s.finishOne, s.useReceipt, s.redriveOne, s.fanOutStep, s.broadcastRecord, s.trimSome}
	if mayTake {
		moves = append(moves, s.takeSome)
	}
	return moves[s.chance.IntN(len(moves))]
}

func (s *sharing) sendOne() {
	fields := fmt.Sprintf(`,"priority":%q`, messaging.Priority(s.chance.IntN(messaging.Priorities)))
	switch s.chance.IntN(4) {
	case 0:
		fields += `,"delay_seconds":2`
	case 1:
		fields += `,"ttl_seconds":3`
	}
	s.send("x", fields)
}

func (s *sharing) clear() {
	if _, err := s.Clear("u"); err != nil {
		s.Error(err)
	}
}

func (s *sharing) takeSome() {
	o := messaging.TakeOptions{Limit: 1 + s.chance.IntN(5)}
	if s.chance.IntN(2) == 0 {
		o.Lease = time.Duration(1+s.chance.IntN(5)) * time.Second
	}
	h, err := s.Take(context.Background(), "u", o)
	if err != nil {
		s.Error(err)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range h.Messages {
		if m.Receipt != "" {
			s.receipts = append(s.receipts, m.Receipt)
		}
		m.Receiver.User = "u"
		s.taken = append(s.taken, m)
	}
	s.open = append(s.open, h)
}

func (s *sharing) finishOne() {
	if len(s.open) > 0 {
		h := s.open[0]
		s.open = s.open[1:]
		h.Finish(s.chance.IntN(3) > 0)
	}
}

func (s *sharing) useReceipt() {
	if len(s.receipts) == 0 {
		return
	}
	last := s.receipts[len(s.receipts)-1:]
	s.receipts = s.receipts[:len(s.receipts)-1]
	var err error
	switch s.chance.IntN(4) {
	case 0:
		_, err = s.Acknowledge("u", last)
	case 1:
		_, err = s.Nack("u", last, 0)
	case 2:
		_, err = s.Nack("u", last, 2*time.Second)
	case 3:
		_, err = s.Extend("u", last, time.Second)
	}
	if err != nil {
		s.Error(err)
	}
}

func (s *sharing) redriveOne() {
	if len(s.taken) == 0 {
		return
	}
	m := s.taken[s.chance.IntN(len(s.taken))]
	// As the dead letter of a message that was taken. It may be in its queue, too.
	letter := messaging.DeadLetter{Kind: messaging.Undeliverable, Reason: "taken", FailedAt: time.Now(), Message: m}
	recipient := messaging.DeadRecipient{Kind: letter.Kind, Reason: letter.Reason, Message: m}
	err := s.letters.AddDeadLetters([]messaging.DeadLetter{letter}, messaging.Progress{})
	results, redriveErr := s.letters.RequeueDeadLetters([]messaging.DeadRecipient{recipient}, messaging.Progress{})
	if err = errors.Join(err, redriveErr); err != nil {
		s.Error(err)
	} else if results[0].Refusal != "" { // the log may have trimmed it
		if _, err := s.letters.DropDeadLetter(messaging.DeadLetterID(letter.Kind, m.ID)); err != nil {
			s.Error(err)
		}
	}
}

// broadcastRecord appends the record of a broadcast that is in no queue yet.
func (s *sharing) broadcastRecord() {
	b, err := messaging.ParseBroadcast([]byte(`{"message":{"sender_id":2,"text":"b"},"user_ids":["u","v"]}`))
	if err != nil {
		s.Error(err)
		return
	}
	c := &pendingBroadcast{records: []wal.Record{{Recipients: 2}}, receivers: &b.Receivers}
	id, now, err := s.stamp()
	if err == nil {
		c.records[0].Message, _, err = s.prepare(b.Draft, id, now)
	}
	if err == nil {
		err = s.log.CommitUnbounded(c)
	}
	if err != nil {
		s.Error(err)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.records = append(s.records, c.sequence)
}

// pendingBroadcast is a broadcast without its entries.
type pendingBroadcast struct {
	records   []wal.Record
	receivers *messaging.Receivers
	sequence  uint64
}

func (c *pendingBroadcast) Records() []wal.Record { return c.records }

func (c *pendingBroadcast) Stage(tx *wal.Tx) {
	c.sequence = tx.Sequence
	for n, chunk := range c.receivers.Chunks() {
		tx.PutReceivers(c.records[0].Message.ID, n, chunk)
	}
}

func (c *pendingBroadcast) OnDurable() {}

func (s *sharing) fanOutStep() {
	if len(s.records) == 0 {
		return
	}
	seq := s.records[0]
	s.records = s.records[1:]
	if seq < s.log.FirstSequence() {
		return
	}
	targets, err := s.pinAll([]messaging.Receiver{{User: "u"}, {User: "v"}})
	if err != nil {
		s.Error(err)
		return
	}
	defer s.unpinTargets(targets)
	c := &fanoutChange{engine: s.Engine, priority: messaging.Normal, targets: targets, job: storage.Fanout{Sequence: seq}, last: true}
	if err := s.log.CommitUnbounded(c); err != nil {
		s.Error(err)
	}
}
