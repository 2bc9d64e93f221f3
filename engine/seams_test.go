package engine_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/bench/torture"
	"github.com/stayafrica/messaging/engine"
)

// The state of a message: nowhere, in its queue (including leased and delayed), or a dead
// letter.
const (
	nowhere = iota
	inQueue
	isLetter
)

// seams runs redrives, clears, deletes of letters, readers and trims concurrently, with
// crashes in between, and compares the state of each message before and after.
type seams struct {
	*serving

	chance *rand.Rand
	sent   int
}

func TestRigSeams(t *testing.T) {
	torture.Run(t, 2, bubbled(t, func(r *torture.Round) {
		config := engine.Config{MaxDeliveries: 1 + uint32(r.Rand.IntN(2)), MinFree: 1, Free: func() (uint64, error) { return 1 << 40, nil }}
		if r.Rand.IntN(2) == 0 {
			config.RetryBackoff = time.Second
		}
		s := &seams{serving: &serving{rig: newRig(t, config)}, chance: r.Rand}
		s.start()
		defer s.Close()
		for range 60 {
			if r.Count("groups", 1); !s.group() {
				return
			}
		}
	}))
}

// states returns the state of each message.
func (s *seams) states() map[string]int {
	time.Sleep(10 * time.Minute) // every lease and pause has ended
	synctest.Wait()
	// A take finds messages that were exhausted before a crash.
	h, err := s.engine.Take(context.Background(), "u", messaging.TakeOptions{Limit: 1000})
	if err != nil {
		s.tb.Fatal(err)
	}
	h.Finish(false)
	time.Sleep(time.Second)
	synctest.Wait()
	states := make(map[string]int)
	queued, err := s.engine.Peek("u", 1000)
	if err != nil {
		s.tb.Fatal(err)
	}
	for _, text := range texts(s.tb, queued) {
		if states[text] != nowhere {
			s.tb.Errorf("%s is twice in its queue", text)
		}
		states[text] = inQueue
	}
	for _, d := range s.Undeliverable() {
		text := texts(s.tb, []messaging.Message{d.Message})[0]
		if states[text] != nowhere {
			s.tb.Errorf("%s is a dead letter and in state %d", text, states[text])
		}
		states[text] = isLetter
	}
	return states
}

// seamsRound is what is known about one round of concurrent operations.
type seamsRound struct {
	*seams

	before            map[string]int
	letters           []messaging.DeadLetter
	sentBefore        int
	redriven, dropped map[string]bool // by text
	cleared, taken    bool
	ops               []string
}

// group runs some operations concurrently, possibly interrupted by a crash.
func (s *seams) group() bool {
	r := &seamsRound{
		seams: s, before: s.states(), letters: s.Undeliverable(), sentBefore: s.sent,
		redriven: make(map[string]bool), dropped: make(map[string]bool),
	}
	crash := s.chance.IntN(3) == 0
	var running sync.WaitGroup
	for range 2 + s.chance.IntN(4) {
		pause := time.Duration(s.chance.IntN(3)) * time.Millisecond
		if do := r.operation(); do != nil {
			running.Go(func() { time.Sleep(pause); do() })
		}
	}
	if crash {
		s.crash(&running)
	} else {
		running.Wait()
	}
	return r.verify(crash) && !s.tb.Failed()
}

// operation draws one operation; nil if there is nothing to do it with.
func (r *seamsRound) operation() func() {
	op, e := r.chance.IntN(7), r.engine
	r.ops = append(r.ops, fmt.Sprint(op))
	switch op {
	case 0, 1:
		r.sent++
		text := fmt.Sprint(r.sent)
		return func() { _, _ = e.Send(draft(r.tb, "u", text, messaging.Normal), messaging.IdempotencyKey{}) }
	case 2:
		r.cleared = true
		return func() { _, _ = e.Clear("u") }
	case 3:
		return r.requeue()
	case 4:
		if len(r.letters) == 0 {
			return nil
		}
		d := r.letters[r.chance.IntN(len(r.letters))]
		r.dropped[texts(r.tb, []messaging.Message{d.Message})[0]] = true
		return func() { _, _ = e.DeadLetters().DropDeadLetter(d.ID) }
	case 5:
		return r.lease()
	}
	return func() { _, _ = e.TrimEarly(context.Background(), 1) }
}

// requeue redrives about half of the dead letters.
func (r *seamsRound) requeue() func() {
	e := r.engine
	var recipients []messaging.DeadRecipient
	for i := range r.letters {
		if r.chance.IntN(2) == 0 {
			r.redriven[texts(r.tb, []messaging.Message{r.letters[i].Message})[0]] = true
			page, err := e.DeadLetters().DeadRecipients(&r.letters[i], "", 10)
			if err != nil {
				r.tb.Fatal(err)
			}
			recipients = append(recipients, page...)
		}
	}
	return func() { _, _ = e.DeadLetters().RequeueDeadLetters(recipients, messaging.Progress{}) }
}

// lease takes messages under a lease, and acknowledges or nacks all of them.
func (r *seamsRound) lease() func() {
	limit, nack := 1+r.chance.IntN(20), r.chance.IntN(2) == 0
	r.taken = r.taken || !nack
	e := r.engine
	return func() {
		h, err := e.Take(context.Background(), "u", messaging.TakeOptions{Limit: limit, Lease: time.Minute})
		if err != nil {
			return
		}
		h.Finish(true)
		var receipts []string
		for _, m := range h.Messages {
			receipts = append(receipts, m.Receipt)
		}
		if nack {
			_, _ = e.Nack("u", receipts, 0)
		} else {
			_, _ = e.Acknowledge("u", receipts)
		}
	}
}

// crash clones the disk while operations run, and opens the store from the clone.
func (s *seams) crash(running *sync.WaitGroup) {
	time.Sleep(time.Duration(s.chance.IntN(3)) * time.Millisecond)
	for range s.chance.IntN(200) {
		runtime.Gosched()
	}
	fs, control := s.fs.CrashClone(vfs.CrashCloneCfg{
		UnsyncedDataPercent: s.chance.IntN(101), RNG: rand.New(rand.NewPCG(s.chance.Uint64(), 1)),
	}), s.control.Clone()
	running.Wait()
	s.states()
	s.halt()
	s.close()
	s.fs, s.control = fs, control
	s.open()
	s.start()
}

// verify checks that every message is where the operations allow it to be.
func (r *seamsRound) verify(crash bool) (ok bool) {
	after := r.states()
	ok = true
	for n := range r.sentBefore {
		text := fmt.Sprint(n + 1)
		if fault := r.fault(text, r.before[text], after[text]); fault != "" {
			ok = false
			r.tb.Errorf("%s %s: %d and %d (crash %t, ops %v)", text, fault, r.before[text], after[text], crash, r.ops)
		}
	}
	return ok
}

// fault describes why a message may not have moved like this; "" if it may.
func (r *seamsRound) fault(text string, was, is int) string {
	switch {
	case was == nowhere && is != nowhere:
		return "came back from nowhere"
	case was == isLetter && is != isLetter && !r.redriven[text] && !r.dropped[text]:
		return "was a dead letter that no operation used"
	case was == isLetter && is == nowhere && !r.dropped[text] && !r.cleared && !r.taken:
		return "was redriven and is lost"
	case was == inQueue && is == nowhere && !r.cleared && !r.taken && !r.dropped[text]:
		return "was in its queue and is lost"
	}
	return ""
}
