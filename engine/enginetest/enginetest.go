// Package enginetest is what an engine has to pass, whatever it keeps its
// queues in. [Run] holds it to the contract case by case, and then compares it
// with a model over random moves, restarts and crashes among them.
//
// Every case runs in a bubble of testing/synctest, where time passes only when
// everything waits: an hour's lease costs nothing, and "within 100 ms" is exact.
package enginetest

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-json-experiment/json"

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
	Requeue(m *messaging.Message) (refusal string, err error)
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

// Run holds an engine to the contract.
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
	t.Run("like the model over random moves", func(t *testing.T) { runModel(t, open) })
}

// run is one case under way.
type run struct {
	*testing.T

	rig Rig
}

func (r *run) engine() Engine { return r.rig.Engine() }

// fatal is what a test fails with: a test's, or the model's.
type fatal interface {
	Helper()
	Fatalf(format string, args ...any)
}

// message is a message to send; fields is more of its JSON.
func message(tb fatal, user, text string, p messaging.Priority, fields string) messaging.Draft {
	tb.Helper()
	d, err := messaging.ParseDraft(fmt.Appendf(nil, `{"conversation_id":1,"sender_id":2,"receiver_id":%q,"text":%q,"priority":%q%s}`, user, text, p, fields))
	if err != nil {
		tb.Fatalf("parse a message: %v", err)
	}
	return d
}

func (r *run) send(user, text string, p messaging.Priority, fields ...string) messaging.Receipt {
	r.Helper()
	if len(fields) > 0 {
		fields = append([]string{""}, fields...) // a comma before the first, too
	}
	receipt, err := r.engine().Send(message(r, user, text, p, strings.Join(fields, ",")), messaging.Once{})
	if err != nil {
		r.Fatalf("send %s: %v", text, err)
	}
	return receipt
}

// take takes messages under a lease (0 is for good) and gives them.
func (r *run) take(user string, limit int, lease time.Duration) []messaging.Message {
	r.Helper()
	h, err := r.engine().Take(r.Context(), messaging.UserID(user), messaging.TakeOptions{Limit: limit, Lease: lease})
	if err != nil {
		r.Fatalf("take: %v", err)
	}
	h.Settle(true)
	return h.Messages
}

func (r *run) wantTake(user string, limit int, lease time.Duration, want ...string) []messaging.Message {
	r.Helper()
	got := r.take(user, limit, lease)
	r.wantTexts("taken", got, want...)
	return got
}

func (r *run) wantPeek(user string, want ...string) {
	r.Helper()
	got, err := r.engine().Peek(messaging.UserID(user), 1000)
	if err != nil {
		r.Fatalf("peek: %v", err)
	}
	r.wantTexts("in the queue", got, want...)
}

func (r *run) wantTexts(what string, messages []messaging.Message, want ...string) {
	r.Helper()
	if got := texts(messages); fmt.Sprint(got) != fmt.Sprint(want) {
		r.Fatalf("%s: %v, want %v", what, got, want)
	}
}

func (r *run) wantSize(user string, want messaging.Counts) {
	r.Helper()
	got, err := r.engine().Size(messaging.UserID(user))
	if err != nil || got != want {
		r.Fatalf("size %+v (%v), want %+v", got, err, want)
	}
}

// wantOutcomes compares what a call on receipts answered.
func (r *run) wantOutcomes(got []messaging.Outcome, err error, want ...messaging.Outcome) {
	r.Helper()
	if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
		r.Fatalf("outcomes %v (%v), want %v", got, err, want)
	}
}

// pass lets time go by, and all that happens then happen.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func texts(messages []messaging.Message) []string {
	list := make([]string, len(messages))
	for i := range messages {
		list[i] = textOf(&messages[i])
	}
	return list
}

func textOf(m *messaging.Message) string {
	var said struct {
		Text string `json:"text"`
	}
	if err := json.Unmarshal(m.AppendJSON(nil), &said); err != nil {
		return err.Error()
	}
	return said.Text
}

func receipts(messages []messaging.Message) []string {
	list := make([]string, len(messages))
	for i := range messages {
		list[i] = messages[i].Receipt
	}
	return list
}
