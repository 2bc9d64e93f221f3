// Package enginetest is the conformance suite for engines, independent of their storage.
// [Run] tests the contract case by case. [CheckModel] compares an engine with a model over
// random moves, including restarts and crashes.
//
// Every case runs in a testing/synctest bubble, where time passes only while all
// goroutines are blocked: an hour's lease costs nothing, and "within 100 ms" is exact.
package enginetest

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stayafrica/messaging"
)

// Engine is the part of an engine that the suite tests.
type Engine interface {
	Send(d messaging.Draft, o messaging.IdempotencyKey) (messaging.SendResult, error)
	SendAll(drafts []messaging.Draft, o messaging.IdempotencyKey) (messaging.SendResult, error)
	Broadcast(b messaging.Broadcast, o messaging.IdempotencyKey) (messaging.SendResult, error)
	Take(ctx context.Context, user messaging.UserID, o messaging.TakeOptions) (messaging.Delivery, error)
	Peek(user messaging.UserID, limit int) ([]messaging.Message, error)
	Size(user messaging.UserID) (messaging.Counts, error)
	Clear(user messaging.UserID) (uint64, error)
	Acknowledge(user messaging.UserID, receipts []string) ([]messaging.Outcome, error)
	Nack(user messaging.UserID, receipts []string, delay time.Duration) ([]messaging.Outcome, error)
	Extend(user messaging.UserID, receipts []string, term time.Duration) ([]messaging.Outcome, error)
	StopWaiting()
}

// DeadLetters is the part of an engine's store of dead letters that the suite tests.
type DeadLetters interface {
	ListDeadLetters(f messaging.DeadLetterFilter) (messaging.DeadLetterPage, error)
	DeadRecipients(letter *messaging.DeadLetter, after messaging.UserID, limit int) ([]messaging.DeadRecipient, error)
	RequeueDeadLetters(recipients []messaging.DeadRecipient, p messaging.Progress) ([]messaging.RequeueResult, error)
	DropDeadLetter(id string) (ok bool, err error)
}

// Config is how an engine is opened. Zero values take the engine's defaults.
type Config struct {
	QueueMax          uint64
	MaxDeliveries     uint32
	MaxLeased         int
	RetryBackoff      time.Duration
	Retention         time.Duration
	IdempotencyWindow time.Duration
	Weights           [messaging.Priorities]int
}

// Rig is an engine with its own store. All of its services run.
type Rig interface {
	Engine() Engine
	DeadLetters() DeadLetters
	// Restart stops the engine and opens it again on what it stored. With crash only
	// synced data remains.
	Restart(crash bool)
	// Close stops the engine and checks the invariants of its store at rest.
	Close()
}

// Open opens an engine on a new store.
type Open func(tb testing.TB, c Config) Rig

// Run tests an engine against the contract, case by case. [CheckModel] tests the rest.
func Run(t *testing.T, open Open) {
	t.Helper()
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := &run{T: t, rig: open(t, c.config)}
				defer r.rig.Close()
				c.test(r)
			})
		})
	}
}
