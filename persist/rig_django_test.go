package persist_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stayafrica/messaging/bench/torture"
)

// scenarios returns all scenarios.
func scenarios() []scenario { return append(djangoScenarios(), networkScenarios()...) }

// TestRigDjango plays every scenario twice: unchanged, and with a crash of the drain in
// the middle. In its long form it plays the requested number of mixtures of scenarios.
func TestRigDjango(t *testing.T) {
	if torture.Long() {
		torture.Run(t, 1, mixture)
		return
	}
	list := scenarios()
	if len(list) < 40 {
		t.Errorf("there are %d scenarios", len(list))
	}
	names := make(map[string]bool)
	for _, s := range list {
		if names[s.name] {
			t.Errorf("two scenarios are named %s", s.name)
		}
		names[s.name] = true
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			newWorld(t).play(s, false)
		})
		t.Run(s.name+", and a crash", func(t *testing.T) {
			t.Parallel()
			newWorld(t).play(s, true)
		})
	}
	t.Run("mixtures", func(t *testing.T) {
		t.Parallel()
		torture.Run(t, 5, mixture)
	})
	t.Logf("%d scenarios", len(list))
}

// play runs a scenario: a message is stored, the fault begins during a chat, and then
// it ends. A crash resets the position to where the scenario began.
func (w *world) play(s scenario, crash bool) {
	w.Helper()
	w.start()
	if !s.cold {
		w.log.add("warm/0")
		w.waitUntilSettled()
	}
	position := w.drain.Position()
	if s.fault != nil {
		w.django.misbehave(s.fault, s.requests)
	}
	names := chat()
	w.log.add(names[:15]...)
	w.log.broadcast("all/0")
	if s.net != nil {
		s.net(w)
	}
	if crash {
		time.Sleep(20 * time.Millisecond)
		w.crash(position)
	}
	w.log.addOwn("own/0")
	w.log.add(names[15:]...)
	if s.requests > 0 && s.requests < forEver {
		w.eventually("the fault has answered its requests", func() bool { return w.django.faultsLeft() <= 0 || w.atTheEnd() })
		w.log.add("later/0", "later/1")
	}
	w.waitUntilSettled()
	w.judge(s.dead)
	w.checkDeadLetters(s)
}

// checkDeadLetters checks the status and attempts of dead letters, for scenarios in
// which no restart resets the attempts.
func (w *world) checkDeadLetters(s scenario) {
	w.Helper()
	for _, d := range w.log.dead() {
		if s.status != 0 && d.StatusCode != s.status {
			w.Errorf("%s: status %d, want %d", d.ID, d.StatusCode, s.status)
		}
		if s.attempts != 0 && w.restarts == 0 && d.Attempts != s.attempts {
			w.Errorf("%s: %d attempts, want %d", d.ID, d.Attempts, s.attempts)
		}
	}
}

// mixture runs several faults one after the other with crashes between them, drawn from
// a seed.
func mixture(r *torture.Round) {
	w := newWorld(r)
	list := slices.DeleteFunc(scenarios(), func(s scenario) bool { return s.endless })
	names := chat()
	var poisoned []string
	w.start()
	w.log.add("warm/0")
	w.waitUntilSettled()
	for len(names) > 0 {
		s := list[r.Rand.IntN(len(list))]
		poisoned = append(poisoned, s.dead...)
		n := min(len(names), 1+r.Rand.IntN(12))
		if s.fault != nil {
			w.django.misbehave(s.fault, min(s.requests, 1+r.Rand.IntN(6)))
		}
		position := w.drain.Position()
		w.log.add(names[:n]...)
		names = names[n:]
		if r.Rand.IntN(4) == 0 {
			w.log.broadcast(fmt.Sprintf("all/%d", len(names)))
		}
		if s.net != nil {
			s.net(w)
		}
		time.Sleep(time.Duration(r.Rand.IntN(60)) * time.Millisecond)
		if r.Rand.IntN(5) == 0 {
			w.crash(position)
			r.Count("crashes", 1)
		}
		r.Count("faults", 1)
	}
	w.django.clearFault()
	if w.waitUntilSettled() {
		w.judge(w.mayBeDead())
		w.checkBlame(r, poisoned)
	}
}

// checkBlame counts the dead letters, and those of messages that no scenario poisoned:
// the contract's evidence rule allows them after a second try.
func (w *world) checkBlame(r *torture.Round, poisoned []string) {
	w.Helper()
	for _, d := range w.log.dead() {
		r.Count("dead_letters", 1)
		if n := nameOf(&d.Message); !slices.Contains(poisoned, n) {
			r.Count("of_outages", 1)
			if d.Attempts < 2 {
				w.Errorf("%s is a dead letter after one try", n)
			}
		}
	}
}

// mayBeDead returns the dead letters of messages that had errors or were refused alone
// while others were stored. Consecutive outages may cause such dead letters.
func (w *world) mayBeDead() (dead []string) {
	for _, n := range w.log.deadNames() {
		if w.django.isHeld(n) {
			dead = append(dead, n)
		}
	}
	return dead
}

// TestRigDjangoPoisonDelaysNoOther: while one message cannot be settled, however the
// backend refuses it, all other conversations are stored, and the position stays before
// it.
func TestRigDjangoPoisonDelaysNoOther(t *testing.T) {
	for _, s := range scenarios() {
		if len(s.dead) != 1 || s.cold {
			continue
		}
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.strict.failDeadLetters(true) // no dead letter can be written
			w.start()
			w.log.add("warm/0")
			w.waitUntilSettled()
			w.django.misbehave(s.fault, s.requests)
			w.log.add(chat()...)
			w.log.broadcast("all/0")
			others := func() bool {
				got := w.django.names()
				return len(slices.DeleteFunc(got, func(n string) bool { return strings.HasPrefix(n, "a/") })) == 1+20+5
			}
			w.eventually("the others are stored", others)
			if p := w.drain.Position().Sequence; p > 17 {
				t.Errorf("the position is %d, and message 17 is not settled", p)
			}
			w.strict.failDeadLetters(false)
			w.waitUntilSettled()
			w.judge(s.dead)
		})
	}
}

// TestRigDjangoFailingConversationDelaysNoOther: the other conversations are stored
// while one fails.
func TestRigDjangoFailingConversationDelaysNoOther(t *testing.T) {
	w := newWorld(t)
	w.attempts = forEver
	w.start()
	w.log.add("warm/0")
	w.waitUntilSettled()
	w.django.misbehave(errorsFor(func(n string) bool { return strings.HasPrefix(n, "a/") }, "deadlock detected", ""), forEver)
	w.log.add(chat()...)
	w.eventually("the others are stored", func() bool { return len(w.django.names()) == 21 })
	if p := w.drain.Position().Sequence; p != 2 {
		t.Errorf("the position is %d, and message 2 is not settled", p)
	}
	w.django.clearFault()
	w.waitUntilSettled()
	w.judge(nil)
}
