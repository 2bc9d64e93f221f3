package persist_test

import (
	"context"
	"slices"
	"testing"

	"github.com/gofrs/uuid/v5"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/bench/torture"
	"github.com/stayafrica/messaging/persist"
)

// catches plays a scenario in worlds that break the promise on purpose: the judge must
// detect it.
func catches(t *testing.T, s scenario, breakIt func(w *world)) {
	t.Helper()
	torture.Control(t, 3, func(r *torture.Round) {
		w := newWorld(r)
		breakIt(w)
		w.play(s, false)
	})
}

func TestRigDjangoCatchesAResponseTakenForStored(t *testing.T) {
	catches(t, scenario{fault: says(500, ""), requests: 2}, func(w *world) { w.sink.set(trustingSink{w.sink.get()}) })
}

// trustingSink treats every response as success.
type trustingSink struct{ persist.Sink }

func (c trustingSink) Deliver(ctx context.Context, batch []messaging.Message) persist.Response {
	a := c.Sink.Deliver(ctx, batch)
	if a.Class != persist.Accounted {
		a = persist.Response{Class: persist.Accounted, Results: make([]persist.Result, len(batch))}
		for i := range a.Results {
			a.Results[i].Stored = true
		}
	}
	return a
}

// TestRigDjangoCatchesAPositionAheadOfTheStored: after a restart, the messages that the
// position skipped are lost.
func TestRigDjangoCatchesAPositionAheadOfTheStored(t *testing.T) {
	s := scenario{fault: says(500, ""), requests: 3, net: func(w *world) {
		w.waitForStall()
		w.restart()
	}}
	catches(t, s, func(w *world) { w.progress = endPosition{w.strict} })
}

// endPosition reports after a restart that everything in the log was settled.
type endPosition struct{ *strictStore }

func (h endPosition) Position() (messaging.Position, error) {
	return messaging.Position{Sequence: h.store.Durable() + 1}, nil
}

// TestRigDjangoCatchesAPositionThatIsSavedTooEarly: detected even without a restart
// that would lose messages.
func TestRigDjangoCatchesAPositionThatIsSavedTooEarly(t *testing.T) {
	failing := errorsFor(func(n string) bool { return n == "a/3" }, "deadlock detected", "")
	catches(t, scenario{fault: failing, requests: forEver, dead: []string{"a/3"}}, func(w *world) {
		w.attempts, w.progress = 40, earlyStore{w.strict} // the fault outlasts the save interval of the position
	})
}

// earlyStore saves each position as if one more message were settled.
type earlyStore struct{ *strictStore }

func (e earlyStore) SaveProgress(p messaging.Progress) error {
	p.Position = &messaging.Position{Sequence: min(p.Position.Sequence+1, e.store.Durable()+1)}
	return e.strictStore.SaveProgress(p)
}

func TestRigDjangoCatchesADeadLetterThatIsForgotten(t *testing.T) {
	s := scenario{fault: refuses(hasPoison, 400), requests: forEver, dead: []string{"a/5"}}
	catches(t, s, func(w *world) { w.progress = forgetfulStore{w.strict} })
}

type forgetfulStore struct{ *strictStore }

func (forgetfulStore) AddDeadLetters([]messaging.DeadLetter, messaging.Progress) error { return nil }

func TestRigDjangoCatchesAnOutageTakenForPoison(t *testing.T) {
	s := scenario{fault: errorsFor(everything, `relation "chat_message" does not exist`, ""), requests: 6}
	catches(t, s, func(w *world) { w.sink.set(permanentSink{w.sink.get()}) })
}

// permanentSink treats every error as permanent.
type permanentSink struct{ persist.Sink }

func (h permanentSink) Deliver(ctx context.Context, batch []messaging.Message) persist.Response {
	a := h.Sink.Deliver(ctx, batch)
	for i := range a.Results {
		a.Results[i].Permanent = !a.Results[i].Stored
	}
	return a
}

func TestRigDjangoCatchesAnotherID(t *testing.T) {
	s := scenario{fault: storing(resetConnection), requests: 2}
	catches(t, s, func(w *world) { w.sink.set(renamingSink{w.sink.get()}) })
}

// renamingSink gives a message another id each time it is sent.
type renamingSink struct{ persist.Sink }

func (n renamingSink) Deliver(ctx context.Context, batch []messaging.Message) persist.Response {
	batch = slices.Clone(batch)
	for i := range batch {
		batch[i].ID = uuid.Must(uuid.NewV7())
	}
	return n.Sink.Deliver(ctx, batch)
}

func TestRigDjangoCatchesAnotherOrder(t *testing.T) {
	catches(t, scenario{}, func(w *world) { w.sink.set(reversingSink{w.sink.get()}) })
}

// reversingSink sends each batch in reverse order.
type reversingSink struct{ persist.Sink }

func (b reversingSink) Deliver(ctx context.Context, batch []messaging.Message) persist.Response {
	batch = slices.Clone(batch)
	slices.Reverse(batch)
	a := b.Sink.Deliver(ctx, batch)
	slices.Reverse(a.Results)
	return a
}

// TestRigDjangoCatchesAShortenedPause: a sink that hides Retry-After makes the drain
// return too soon.
func TestRigDjangoCatchesAShortenedPause(t *testing.T) {
	s := scenario{fault: says(429, "", "Retry-After", "3"), requests: 40}
	catches(t, s, func(w *world) { w.sink.dropRetryAfter = true })
}
