// Package enginetest is what an engine has to pass, whatever it keeps its
// queues in. [Run] holds it to the contract case by case, and [CheckModel]
// compares it with a model over random moves, restarts and crashes among them.
//
// Every case runs in a bubble of testing/synctest, where time passes only when
// everything waits: an hour's lease costs nothing, and "within 100 ms" is exact.
package enginetest

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stayafrica/messaging"
)

// Engine is what is tested.
type Engine interface {
	Send(d messaging.Draft, o messaging.Once) (messaging.Receipt, error)
	SendAll(drafts []messaging.Draft, o messaging.Once) (messaging.Receipt, error)
	Broadcast(b messaging.Broadcast, o messaging.Once) (messaging.Receipt, error)
	Take(ctx context.Context, user messaging.UserID, o messaging.TakeOptions) (messaging.Handout, error)
	Peek(user messaging.UserID, limit int) ([]messaging.Message, error)
	Size(user messaging.UserID) (messaging.Counts, error)
	Clear(user messaging.UserID) (uint64, error)
	Acknowledge(user messaging.UserID, receipts []string) ([]messaging.Outcome, error)
	Reject(user messaging.UserID, receipts []string, delay time.Duration) ([]messaging.Outcome, error)
	Extend(user messaging.UserID, receipts []string, term time.Duration) ([]messaging.Outcome, error)
	Requeue(m *messaging.Message, settle func() error) (refusal string, err error)
	StopWaiting()
}

// Config is how an engine is opened. Zero values take the engine's defaults.
type Config struct {
	QueueMax          uint64
	MaxDeliveries     uint32
	Retention         time.Duration
	IdempotencyWindow time.Duration
	Weights           [messaging.Priorities]int
}

// Rig is an engine with a store of its own. All of its services run.
type Rig interface {
	Engine() Engine
	// Restart stops the engine and opens it anew on what it stored; crash keeps
	// of that only what was synced.
	Restart(crash bool)
	// Undeliverable gives the dead letters of what nobody acknowledged.
	Undeliverable() []messaging.DeadLetter
	// Close stops the engine, and checks what must hold of its store at rest.
	Close()
}

// Open opens an engine on a new store.
type Open func(tb testing.TB, c Config) Rig

// Run holds an engine to the contract, case by case. [CheckModel] does the rest.
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
