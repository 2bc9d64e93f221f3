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
	torture.Run(t, 3, bubbled(t, func(r *torture.Round) {
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

// group runs some operations concurrently, possibly interrupted by a crash.
func (s *seams) group() bool {
	before, letters := s.states(), s.Undeliverable()
	redriven, dropped := make(map[string]bool), make(map[string]bool)
	cleared, sentBefore := false, s.sent
	crash, taken := s.chance.IntN(3) == 0, false
	e := s.engine
	var running sync.WaitGroup
	var ops []string
	for range 2 + s.chance.IntN(4) {
		pause := time.Duration(s.chance.IntN(3)) * time.Millisecond
		op := s.chance.IntN(7)
		ops = append(ops, fmt.Sprint(op))
		var do func()
		switch op {
		case 0, 1:
			s.sent++
			text := fmt.Sprint(s.sent)
			do = func() { _, _ = e.Send(draft(s.tb, "u", text, messaging.Normal), messaging.IdempotencyKey{}) }
		case 2:
			cleared = true
			do = func() { _, _ = e.Clear("u") }
		case 3:
			var recipients []messaging.DeadRecipient
			for i := range letters {
				if s.chance.IntN(2) == 0 {
					redriven[texts(s.tb, []messaging.Message{letters[i].Message})[0]] = true
					r, err := e.DeadLetters().DeadRecipients(&letters[i], "", 10)
					if err != nil {
						s.tb.Fatal(err)
					}
					recipients = append(recipients, r...)
				}
			}
			do = func() { _, _ = e.DeadLetters().RequeueDeadLetters(recipients, messaging.Progress{}) }
		case 4:
			if len(letters) == 0 {
				continue
			}
			d := letters[s.chance.IntN(len(letters))]
			dropped[texts(s.tb, []messaging.Message{d.Message})[0]] = true
			do = func() { _, _ = e.DeadLetters().DropDeadLetter(d.ID) }
		case 5:
			limit, nack := 1+s.chance.IntN(20), s.chance.IntN(2) == 0
			taken = taken || !nack
			do = func() {
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
		case 6:
			do = func() { _, _ = e.TrimEarly(context.Background(), 1) }
		}
		running.Go(func() { time.Sleep(pause); do() })
	}
	if crash {
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
	} else {
		running.Wait()
	}
	after := s.states()
	ok := true
	for n := range s.sent {
		text := fmt.Sprint(n + 1)
		was, is := before[text], after[text]
		fault := ""
		switch {
		case n >= sentBefore:
		case was == nowhere && is != nowhere:
			fault = "came back from nowhere"
		case was == isLetter && is != isLetter && !redriven[text] && !dropped[text]:
			fault = "was a dead letter that no operation used"
		case was == isLetter && is == nowhere && !dropped[text] && !cleared && !taken:
			fault = "was redriven and is lost"
		case was == inQueue && is == nowhere && !cleared && !taken && !dropped[text]:
			fault = "was in its queue and is lost"
		}
		if fault != "" {
			ok = false
			s.tb.Errorf("%s %s: %d and %d (crash %t, ops %v)", text, fault, was, is, crash, ops)
		}
	}
	return ok && !s.tb.Failed()
}
