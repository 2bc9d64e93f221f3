package engine

import (
	"fmt"
	"slices"
	"testing/synctest"
	"time"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/storage"
)

// beginTrim prepares a page of either policy, which trimSome commits later.
func (s *sharing) beginTrim() {
	if s.trim != nil || s.chance.IntN(4) > 0 {
		return
	}
	t, end := s.trimmer, s.log.Durable()+1
	if len(s.records) > 0 {
		end = min(end, slices.Min(s.records))
	}
	r := &trimRun{trimmer: t, policy: &t.age}
	t.age.begin(s.log.FirstSequence())
	from := t.age.cursor
	if n := len(t.age.kept); n > 0 && s.chance.IntN(2) == 0 {
		from = t.age.kept[s.chance.IntN(n)].sequence
		end = min(end, t.age.cursor)
	}
	if s.chance.IntN(3) == 0 {
		r.policy, t.early.free = &t.early, s.log.FirstSequence()
		from = t.early.free + uint64(s.chance.IntN(3))
	}
	if end = min(end, from+uint64(s.chance.IntN(8))); end <= from {
		return
	}
	p, err := r.prepare(span{from, end})
	if err != nil {
		s.Error(err)
		return
	}
	s.trim = func() {
		if _, err := r.commit(p); err != nil {
			s.Error(err)
		}
		r.unpinDrops(p.items)
	}
}

func (s *sharing) trimSome() {
	if trim := s.trim; trim != nil {
		s.trim = nil
		trim()
	}
}

// problem returns what is wrong with the queue on disk, or "".
func (s *sharing) problem() string {
	if missing := s.missing(); missing != "" {
		return missing
	}
	kept, err := s.store.QueueState("u")
	if err != nil {
		return err.Error()
	}
	for _, index := range []storage.Index{storage.Queued, storage.Delayed} {
		var there [messaging.Priorities]uint64
		low := ""
		err := s.store.AllEntries(index, func(user messaging.UserID, p messaging.Priority, seq uint64) bool {
			if user != "u" {
				return true
			}
			there[p]++
			if head := kept.On(index).Heads[p]; head > seq {
				low = fmt.Sprintf("head %d is above entry %d in index %c", head, seq, index)
			}
			return true
		})
		switch {
		case err != nil:
			return err.Error()
		case low != "":
			return low
		case kept.On(index).Counts != there:
			return fmt.Sprintf("%v are counted in index %c, %v are there", kept.On(index).Counts, index, there)
		}
	}
	return ""
}

// takeAll takes the remaining messages when every lease and delay has ended.
func (s *sharing) takeAll() {
	s.trimSome()
	for _, h := range s.open {
		h.Finish(false)
	}
	time.Sleep(10 * time.Minute)
	synctest.Wait()
	for more := true; more; {
		h := s.take(messaging.TakeOptions{Limit: 100})
		h.Finish(true)
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
