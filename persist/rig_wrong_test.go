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

// catches plays a scenario in worlds in which the promise is broken on purpose:
// the judge must see it.
func catches(t *testing.T, s scenario, breakIt func(w *world)) {
	t.Helper()
	torture.Control(t, 3, func(r *torture.Round) {
		w := newWorld(r)
		breakIt(w)
		w.play(s, false)
	})
}

func TestRigDjangoCatchesAnAnswerThatIsTakenForStored(t *testing.T) {
	catches(t, scenario{fault: says(500, ""), requests: 2}, func(w *world) { w.sink.set(credulous{w.sink.get()}) })
}

// credulous takes every answer for a good one.
type credulous struct{ persist.Sink }

func (c credulous) Deliver(ctx context.Context, batch []messaging.Message) persist.Answer {
	a := c.Sink.Deliver(ctx, batch)
	if a.Verdict != persist.Accounted {
		a = persist.Answer{Verdict: persist.Accounted, Results: make([]persist.Result, len(batch))}
		for i := range a.Results {
			a.Results[i].Stored = true
		}
	}
	return a
}

// TestRigDjangoCatchesAPositionThatRunsAhead: after a restart what it passed is
// lost.
func TestRigDjangoCatchesAPositionThatRunsAhead(t *testing.T) {
	s := scenario{fault: says(500, ""), requests: 3, net: func(w *world) {
		w.waits()
		w.restart()
	}}
	catches(t, s, func(w *world) { w.ledger = hasty{w.strict} })
}

// hasty says after a restart that all was settled that is in the log.
type hasty struct{ *strictLedger }

func (h hasty) Position() (messaging.Position, error) {
	return messaging.Position{Sequence: h.store.Durable() + 1}, nil
}

// TestRigDjangoCatchesAPositionThatIsSavedTooEarly: also where no restart shows
// what it costs.
func TestRigDjangoCatchesAPositionThatIsSavedTooEarly(t *testing.T) {
	sick := errorsFor(func(n string) bool { return n == "a/3" }, "deadlock detected", "")
	catches(t, scenario{fault: sick, requests: forEver, dead: []string{"a/3"}}, func(w *world) {
		w.attempts, w.ledger = 40, early{w.strict} // it is sick for longer than a position waits to be saved
	})
}

// early saves each position as if one message more were settled.
type early struct{ *strictLedger }

func (e early) SavePosition(p messaging.Position) error {
	p.Sequence = min(p.Sequence+1, e.store.Durable()+1)
	return e.strictLedger.SavePosition(p)
}

func TestRigDjangoCatchesADeadLetterThatIsForgotten(t *testing.T) {
	s := scenario{fault: refuses(hasPoison, 400), requests: forEver, dead: []string{"a/5"}}
	catches(t, s, func(w *world) { w.ledger = forgetful{w.strict} })
}

type forgetful struct{ *strictLedger }

func (forgetful) AddDeadLetters([]messaging.DeadLetter) error { return nil }

func TestRigDjangoCatchesAnOutageThatIsTakenForPoison(t *testing.T) {
	s := scenario{fault: errorsFor(everything, `relation "chat_message" does not exist`, ""), requests: 6}
	catches(t, s, func(w *world) { w.sink.set(hard{w.sink.get()}) })
}

// hard takes every error for one for good.
type hard struct{ persist.Sink }

func (h hard) Deliver(ctx context.Context, batch []messaging.Message) persist.Answer {
	a := h.Sink.Deliver(ctx, batch)
	for i := range a.Results {
		a.Results[i].Permanent = !a.Results[i].Stored
	}
	return a
}

func TestRigDjangoCatchesAnotherID(t *testing.T) {
	s := scenario{fault: storing(reseting), requests: 2}
	catches(t, s, func(w *world) { w.sink.set(renaming{w.sink.get()}) })
}

// renaming gives messages another id each time that they are sent.
type renaming struct{ persist.Sink }

func (n renaming) Deliver(ctx context.Context, batch []messaging.Message) persist.Answer {
	batch = slices.Clone(batch)
	for i := range batch {
		batch[i].ID = uuid.Must(uuid.NewV7())
	}
	return n.Sink.Deliver(ctx, batch)
}

func TestRigDjangoCatchesAnotherOrder(t *testing.T) {
	catches(t, scenario{}, func(w *world) { w.sink.set(backwards{w.sink.get()}) })
}

// backwards sends each batch from its end.
type backwards struct{ persist.Sink }

func (b backwards) Deliver(ctx context.Context, batch []messaging.Message) persist.Answer {
	batch = slices.Clone(batch)
	slices.Reverse(batch)
	a := b.Sink.Deliver(ctx, batch)
	slices.Reverse(a.Results)
	return a
}

// TestRigDjangoCatchesImpatience: a sink that does not say what it was asked for
// lets the drain come back too soon.
func TestRigDjangoCatchesImpatience(t *testing.T) {
	s := scenario{fault: says(429, "", "Retry-After", "3"), requests: 40}
	catches(t, s, func(w *world) { w.sink.deaf = true })
}
