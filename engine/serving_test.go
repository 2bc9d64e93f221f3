package engine_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/engine"
	"github.com/stayafrica/messaging/engine/enginetest"
)

// serving is a rig whose services run.
type serving struct {
	*rig

	stop     context.CancelFunc
	services sync.WaitGroup
}

func (s *serving) start() {
	ctx, cancel := context.WithCancel(context.Background())
	s.stop = cancel
	for _, service := range s.engine.Services() {
		s.services.Go(func() {
			if err := service.Run(ctx); err != nil && !errors.Is(err, context.Canceled) {
				s.tb.Errorf("a service ended: %v", err)
			}
		})
	}
}

// Engine implements [enginetest.Rig].
func (s *serving) Engine() enginetest.Engine { return s.engine }

// Restart implements [enginetest.Rig].
func (s *serving) Restart(crash bool) {
	fs, control := s.fs, s.control
	if crash {
		// Acknowledged data is durable by now, and no other data needs to be.
		control = s.control.Clone()
		fs = s.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 0, RNG: rand.New(rand.NewPCG(1, 1))})
	}
	s.halt()
	s.close()
	s.fs, s.control = fs, control
	s.open()
	s.start()
}

func (s *serving) halt() {
	s.engine.StopWaiting()
	s.stop()
	s.services.Wait()
	_ = s.log.Close() // finished deliveries are committed by now
	if pins, leases := s.engine.Pinned(), s.engine.Stats().Leases; pins != leases {
		s.tb.Errorf("%d pins of queues are left, and %d leases", pins, leases)
	}
}

// DeadLetters implements [enginetest.Rig].
func (s *serving) DeadLetters() enginetest.DeadLetters { return s.engine.DeadLetters() }

// Undeliverable returns the undeliverable dead letters.
func (s *serving) Undeliverable() []messaging.DeadLetter {
	page, err := s.engine.DeadLetters().ListDeadLetters(messaging.DeadLetterFilter{Limit: 1000, Kind: messaging.Undeliverable})
	if err != nil {
		s.tb.Fatal(err)
	}
	return page.DeadLetters
}

// redrive requeues a dead letter.
func redrive(tb testing.TB, e *engine.Engine, letter *messaging.DeadLetter) []messaging.RequeueResult {
	tb.Helper()
	recipients, err := e.DeadLetters().DeadRecipients(letter, "", 1000)
	if err != nil {
		tb.Fatal(err)
	}
	results, err := e.DeadLetters().RequeueDeadLetters(recipients, messaging.Progress{})
	if err != nil {
		tb.Fatal(err)
	}
	return results
}

// Close implements [enginetest.Rig].
func (s *serving) Close() {
	s.halt()
	s.close()
}

func (s *serving) sendWith(text, fields string) {
	s.tb.Helper()
	d, err := messaging.ParseDraft([]byte(`{"conversation_id":1,"sender_id":2,"receiver_id":"u","text":"` + text + `"` + fields + `}`))
	if err != nil {
		s.tb.Fatal(err)
	}
	if _, err := s.engine.Send(d, messaging.IdempotencyKey{}); err != nil {
		s.tb.Fatal(err)
	}
}

func (s *serving) wantQueue(want ...string) {
	s.tb.Helper()
	synctest.Wait()
	got, err := s.engine.Peek("u", 100)
	if err != nil {
		s.tb.Fatal(err)
	}
	wantTexts(s.tb, texts(s.tb, got), want...)
}
