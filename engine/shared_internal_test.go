package engine

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/bench/torture"
	"github.com/stayafrica/messaging/storage"
)

// TestRigSharedCommits lets moves of one queue share commits, in every order and
// with readers that look across them, while leases, times and burials run; then
// counts must equal entries, and all that is there can be taken.
func TestRigSharedCommits(t *testing.T) {
	torture.Run(t, 60, func(r *torture.Round) {
		c := Config{QueueMax: uint64(5 + r.Rand.IntN(20)), CachedQueues: 1}
		if r.Rand.IntN(3) == 0 {
			c.MaxDeliveries = 2
		}
		if r.Rand.IntN(3) == 0 {
			c.Weights = &Weights{3, 2, 1}
		}
		onWorkbench(t, c, 0, func(w *workbench) { newSharing(w, r.Rand).run(r) })
	})
}

// TestRigSharedCommitsCatches: an entry that is counted and not there is found.
func TestRigSharedCommitsCatchesAWrongCount(t *testing.T) {
	onWorkbench(t, Config{}, 0, func(w *workbench) {
		w.send("x", "")
		batch := w.store.NewBatch()
		batch.DeleteEntry(storage.Queued, "u", messaging.Normal, 1)
		batch.Commit()
		batch.Close()
		if problem := newSharing(w, nil).problem(); problem == "" {
			t.Error("an entry was removed behind the counts, and nothing is found")
		}
	})
}

// sharing is a queue whose moves share commits, and what its clients have.
type sharing struct {
	*workbench
	chance   *rand.Rand
	mu       sync.Mutex          // moves of one commit end side by side
	taken    []messaging.Message // to be redriven
	open     []messaging.Handout
	receipts []string
	records  []uint64 // of broadcasts that are not in the queue yet
}

func newSharing(w *workbench, chance *rand.Rand) *sharing {
	return &sharing{workbench: w, chance: chance}
}

func (s *sharing) run(r *torture.Round) {
	ctx, cancel := context.WithCancel(context.Background())
	var services []chan error
	for _, serve := range []func(context.Context) error{s.Schedule, s.Leases, s.Bury} {
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

// someCommits makes moves that share commits, perhaps under the eyes of a reader
// that began before them.
func (s *sharing) someCommits() (moves int) {
	q, err := s.queues.pin("u")
	if err != nil {
		s.Fatal(err)
	}
	defer s.queues.unpin(q)
	look := s.beginLook(q)
	for range 1 + s.chance.IntN(3) {
		var together []func()
		for range 1 + s.chance.IntN(4) {
			together = append(together, s.move(look == nil))
		}
		s.together(together...)
		moves += len(together)
	}
	if look != nil {
		look()
	}
	if s.chance.IntN(3) == 0 {
		s.forgetQueues()
	}
	return moves
}

// beginLook lets a reader begin, sometimes; what it gives ends the look.
func (s *sharing) beginLook(q *queue) func() {
	if s.chance.IntN(3) > 0 || !q.reading.TryLock() {
		return nil
	}
	r := q.beginRead(s.log, 10)
	read := func() *page {
		pg, err := s.readPage(q, r, 3)
		if err != nil {
			s.Error(err)
		}
		return pg
	}
	var pg *page
	if s.chance.IntN(2) == 0 {
		pg = read()
	}
	return func() {
		if pg == nil {
			pg = read()
		}
		found, _ := s.endRead(q, r, pg, true, true)
		q.putBack(found)
		q.reading.Unlock()
	}
}

// forgetQueues asks for so many others that an unpinned queue is forgotten and
// read again.
func (s *sharing) forgetQueues() {
	for i := range 200 {
		q, err := s.queues.pin(messaging.UserID(fmt.Sprint("o", i)))
		if err != nil {
			s.Fatal(err)
		}
		s.queues.unpin(q)
	}
}

// move draws a move. A reader that is held up would wait for a take for ever.
func (s *sharing) move(mayTake bool) func() {
	moves := []func(){s.sendOne, s.clear, s.settleOne, s.useReceipt, s.redriveOne, s.fanOutStep, s.broadcastRecord, s.trimSome}
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

func (s *sharing) settleOne() {
	if len(s.open) > 0 {
		h := s.open[0]
		s.open = s.open[1:]
		h.Settle(s.chance.IntN(3) > 0)
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
		_, err = s.Reject("u", last, 0)
	case 2:
		_, err = s.Reject("u", last, 2*time.Second)
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
	if _, err := s.Requeue(&m, nothingToSettle); err != nil {
		s.Error(err)
	}
}

// broadcastRecord leaves a record in the log that is in no queue yet.
func (s *sharing) broadcastRecord() {
	d, err := messaging.ParseDraft([]byte(`{"conversation_id":1,"sender_id":2,"receiver_id":"z","text":"b"}`))
	if err != nil {
		s.Error(err)
		return
	}
	receipt, err := s.Send(d, messaging.Once{})
	if err != nil {
		s.Error(err)
		return
	}
	if _, err := s.Clear("z"); err != nil {
		s.Error(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.records = append(s.records, receipt.Sequence)
}

func (s *sharing) fanOutStep() {
	if len(s.records) == 0 {
		return
	}
	seq := s.records[0]
	s.records = s.records[1:]
	if seq < s.log.Floor() {
		return
	}
	places, err := s.pinAll([]messaging.Receiver{{User: "u"}, {User: "v"}})
	if err != nil {
		s.Error(err)
		return
	}
	defer s.unpinPlaces(places)
	c := &fanoutChange{engine: s.Engine, priority: messaging.Normal, places: places, job: storage.Fanout{Sequence: seq}, last: true}
	if err := s.log.Insist(c); err != nil {
		s.Error(err)
	}
}

func (s *sharing) trimSome() {
	floor := s.log.Floor()
	end := min(s.log.Durable()+1, floor+uint64(s.chance.IntN(4)))
	if len(s.records) > 0 {
		end = min(end, slices.Min(s.records))
	}
	if s.chance.IntN(4) == 0 && end > floor {
		_ = s.trimPage(floor, end) // it may find one that is due later
	}
}

// problem says what is wrong with the queue on disk.
func (s *sharing) problem() string {
	kept, err := s.store.User("u")
	if err != nil {
		return err.Error()
	}
	for _, shelf := range []storage.Shelf{storage.Queued, storage.Delayed} {
		var there [messaging.Priorities]uint64
		low := ""
		err := s.store.AllEntries(shelf, func(user messaging.UserID, p messaging.Priority, seq uint64) bool {
			if user != "u" {
				return true
			}
			there[p]++
			if head := kept.On(shelf).Heads[p]; head > seq {
				low = fmt.Sprintf("head %d is above entry %d on shelf %c", head, seq, shelf)
			}
			return true
		})
		switch {
		case err != nil:
			return err.Error()
		case low != "":
			return low
		case kept.On(shelf).Counts != there:
			return fmt.Sprintf("%v are counted on shelf %c, %v are there", kept.On(shelf).Counts, shelf, there)
		}
	}
	return ""
}

// takeAll takes what is left, once every lease and delay is over.
func (s *sharing) takeAll() {
	for _, h := range s.open {
		h.Settle(false)
	}
	time.Sleep(10 * time.Minute)
	synctest.Wait()
	for more := true; more; {
		h := s.take(messaging.TakeOptions{Limit: 100})
		h.Settle(true)
		synctest.Wait()
		more = len(h.Messages) > 0
	}
	if c, err := s.Size("u"); err != nil || c.Total() != 0 {
		s.Errorf("%+v cannot be taken (%v)", c, err)
	}
	if problem := s.problem(); problem != "" {
		s.Error(problem)
	}
	if pins := s.Pinned(); pins != 0 {
		s.Errorf("%d queues are still pinned", pins)
	}
}
