package engine_test

import (
	"flag"
	"strconv"
	"testing"

	"github.com/stayafrica/messaging/bench/torture"
	"github.com/stayafrica/messaging/engine/enginetest"
)

// TestRigModel compares the engine with the model over random moves: a round is one
// sequence of them.
func TestRigModel(t *testing.T) {
	setRapid(t, "rapid.checks", "1")
	setRapid(t, "rapid.seed", "1")
	torture.Run(t, 100/slower, bubbled(t, func(r *torture.Round) { likeModel(r, openServing) }))
}

func TestRigModelCatchesWrongQueues(t *testing.T) {
	setRapid(t, "rapid.checks", "1")
	setRapid(t, "rapid.seed", "1")
	setRapid(t, "rapid.nofailfile", "true")
	setRapid(t, "rapid.shrinktime", "0s")
	for name, wrong := range wrongQueues {
		t.Run(name, func(t *testing.T) {
			open := func(tb testing.TB, c enginetest.Config) enginetest.Rig {
				tb.Helper()
				return &wrongServing{Rig: openServing(tb, c), wrap: wrong}
			}
			torture.Control(t, 300, bubbled(t, func(r *torture.Round) { likeModel(r, open) }))
		})
	}
}

func likeModel(r *torture.Round, open enginetest.Open) {
	r.Helper()
	seed := max(1, r.Seed) // 0 makes rapid draw a seed
	if err := flag.Set("rapid.seed", strconv.FormatUint(seed, 10)); err != nil {
		r.Fatal(err)
	}
	enginetest.CheckModel(r, open)
}

// setRapid sets one of rapid's flags until the test ends.
func setRapid(t *testing.T, name, value string) {
	t.Helper()
	before := flag.Lookup(name).Value.String()
	if err := flag.Set(name, value); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := flag.Set(name, before); err != nil {
			t.Error(err)
		}
	})
}

// wrongServing is a rig whose engine has a fault.
type wrongServing struct {
	enginetest.Rig

	wrap    func(e enginetest.Engine) enginetest.Engine
	wrapped enginetest.Engine
}

// Engine implements [enginetest.Rig].
func (w *wrongServing) Engine() enginetest.Engine {
	if w.wrapped == nil {
		w.wrapped = w.wrap(w.Rig.Engine())
	}
	return w.wrapped
}

// Restart implements [enginetest.Rig].
func (w *wrongServing) Restart(crash bool) {
	w.Rig.Restart(crash)
	w.wrapped = nil
}
