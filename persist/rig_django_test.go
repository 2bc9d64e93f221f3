package persist_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stayafrica/messaging/bench/torture"
)

// scenarios are all ways in which it goes wrong.
func scenarios() []scenario { return append(answers(), network()...) }

// TestRigDjango plays every scenario twice: as it is, and with a crash of the
// drain in its midst. In its long form it plays as many mixtures of them as are
// asked for.
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

// play goes through a scenario: something is stored, it goes wrong in the midst of
// a chat, and gets well. A crash takes the position back to where it began.
func (w *world) play(s scenario, crash bool) {
	w.Helper()
	w.start()
	if !s.cold {
		w.log.add("warm/0")
		w.settled()
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
		w.eventually("it went wrong often enough", func() bool { return w.django.faultsLeft() <= 0 || w.atTheEnd() })
		w.log.add("later/0", "later/1")
	}
	w.settled()
	w.judge(s.dead)
	w.judgeLetters(s)
}

// judgeLetters looks at what dead letters say, where no restart began to count
// anew.
func (w *world) judgeLetters(s scenario) {
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

// mixture lets several things go wrong, one after the other, with crashes among
// them, drawn from a seed.
func mixture(r *torture.Round) {
	w := newWorld(r)
	list := slices.DeleteFunc(scenarios(), func(s scenario) bool { return s.endless })
	names := chat()
	var poisoned []string
	w.start()
	w.log.add("warm/0")
	w.settled()
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
	w.django.heal()
	if w.settled() {
		w.judge(w.excused())
		w.judgeBlame(r, poisoned)
	}
}

// judgeBlame counts the dead letters, and those of messages that no scenario has
// poisoned: the contract's evidence allows them, after a second try.
func (w *world) judgeBlame(r *torture.Round, poisoned []string) {
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

// excused are the dead letters of messages that were refused alone, or in errors,
// while others were stored: what several outages in turn may do to one.
func (w *world) excused() (dead []string) {
	for _, n := range w.log.deadNames() {
		if w.django.isHeld(n) {
			dead = append(dead, n)
		}
	}
	return dead
}

// TestRigDjangoPoisonHoldsUpNobody: while one message cannot be got rid of, in
// whichever way the backend refuses it, all other conversations get through, and
// the position stays in front of it.
func TestRigDjangoPoisonHoldsUpNobody(t *testing.T) {
	for _, s := range scenarios() {
		if len(s.dead) != 1 || s.cold {
			continue
		}
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.strict.jam(true) // no dead letter can be written
			w.start()
			w.log.add("warm/0")
			w.settled()
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
			w.strict.jam(false)
			w.settled()
			w.judge(s.dead)
		})
	}
}

// TestRigDjangoSickConversationHoldsUpNoOther: for as long as it is sick.
func TestRigDjangoSickConversationHoldsUpNoOther(t *testing.T) {
	w := newWorld(t)
	w.attempts = forEver
	w.start()
	w.log.add("warm/0")
	w.settled()
	w.django.misbehave(errorsFor(func(n string) bool { return strings.HasPrefix(n, "a/") }, "deadlock detected", ""), forEver)
	w.log.add(chat()...)
	w.eventually("the others are stored", func() bool { return len(w.django.names()) == 21 })
	if p := w.drain.Position().Sequence; p != 2 {
		t.Errorf("the position is %d, and message 2 is not settled", p)
	}
	w.django.heal()
	w.settled()
	w.judge(nil)
}
