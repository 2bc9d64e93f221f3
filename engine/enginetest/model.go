package enginetest

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/stayafrica/messaging"
)

// Limits of the model's engine: small, so that they are met.
const (
	modelQueueMax      = 6
	modelMaxDeliveries = 3
)

// CheckModel compares an engine with the model over random moves; rapid's flags
// say over how many, and from which seed. It is called in a bubble; each try has
// an engine of its own.
func CheckModel(tb testing.TB, open Open) {
	tb.Helper()
	rapid.Check(bubbled{tb}, func(rt *rapid.T) {
		m := &machine{T: rt, rig: open(tb, Config{QueueMax: modelQueueMax, MaxDeliveries: modelMaxDeliveries})}
		defer m.rig.Close()
		m.queues = map[messaging.UserID][]*modelEntry{"a": nil, "b": nil}
		rt.Repeat(m.moves())
	})
}

// bubbled is a test without a deadline, which a bubble does not have.
type bubbled struct{ testing.TB }

// Logf leaves out that a try went well: of millions the log would grow.
func (b bubbled) Logf(format string, args ...any) {
	b.Helper()
	if !strings.HasPrefix(format, "[rapid] OK") {
		b.TB.Logf(format, args...)
	}
}

// machine is an engine beside its model: each user's entries in the order of
// their sequences, and the receipts that were given out.
type machine struct {
	*rapid.T

	rig      Rig
	queues   map[messaging.UserID][]*modelEntry
	receipts []*modelReceipt
	dead     []deadEntry
	sent     int
	keys     map[string]messaging.Receipt
	boot     int
}

// modelEntry is a message in a queue.
type modelEntry struct {
	sequence   uint64
	priority   messaging.Priority
	text       string
	due        time.Time // zero: it is not delayed
	expires    time.Time // zero: never
	deliveries uint32
	lease      time.Time // zero: nobody has it
	// lingers says that it expired in somebody's hands before a restart: it goes
	// when someone looks or within a minute.
	lingers bool
}

type modelReceipt struct {
	user       messaging.UserID
	text       string
	entry      *modelEntry
	deliveries uint32
	boot       int
}

type deadEntry struct {
	user  messaging.UserID
	entry *modelEntry
}

func (e *modelEntry) expired(now time.Time) bool {
	return !e.expires.IsZero() && !e.expires.After(now)
}
func (e *modelEntry) delayed() bool { return !e.due.IsZero() }
func (e *modelEntry) leased() bool  { return !e.lease.IsZero() }
func (e *modelEntry) ready() bool   { return !e.delayed() && !e.leased() }

// enter puts a message into the model.
func (m *machine) enter(user messaging.UserID, seq uint64, p messaging.Priority, text string, delay, ttl int) {
	e := &modelEntry{sequence: seq, priority: p, text: text}
	if delay > 0 {
		e.due = time.Now().Add(time.Duration(delay) * time.Second)
	}
	if ttl > 0 {
		e.expires = time.Now().Add(time.Duration(ttl) * time.Second)
	}
	m.insert(user, e)
}

// insert puts an entry at the place of its sequence, and evicts what is then
// too much.
func (m *machine) insert(user messaging.UserID, e *modelEntry) {
	queue := append(slices.Clone(m.queues[user]), e)
	slices.SortFunc(queue, func(a, b *modelEntry) int { return cmp.Compare(a.sequence, b.sequence) })
	m.queues[user] = queue
	m.evict(user)
}

func (m *machine) evict(user messaging.UserID) {
	for len(m.queues[user]) > modelQueueMax {
		victim := m.queues[user][0]
		for _, e := range m.queues[user] {
			if e.priority > victim.priority {
				victim = e
			}
		}
		m.remove(user, victim)
	}
}

func (m *machine) remove(user messaging.UserID, e *modelEntry) {
	m.queues[user] = slices.DeleteFunc(m.queues[user], func(other *modelEntry) bool { return other == e })
}

func (m *machine) has(user messaging.UserID, e *modelEntry) bool {
	return slices.Contains(m.queues[user], e)
}

// next is what a look hands out, and what becomes of what it passes over.
func (m *machine) next(user messaging.UserID, limit int) (next []*modelEntry) {
	for p := messaging.High; p <= messaging.Low; p++ {
		for _, e := range slices.Clone(m.queues[user]) {
			switch {
			case len(next) == limit:
				return next
			case e.priority != p || !e.ready():
			case e.expired(time.Now()):
				m.remove(user, e)
			case e.deliveries >= modelMaxDeliveries:
				m.bury(user, e)
			default:
				next = append(next, e)
			}
		}
	}
	return next
}

func (m *machine) bury(user messaging.UserID, e *modelEntry) {
	m.remove(user, e)
	m.dead = append(m.dead, deadEntry{user: user, entry: e})
}

// good says whether a receipt's lease is in force.
func (m *machine) good(r *modelReceipt) bool {
	return r.boot == m.boot && m.has(r.user, r.entry) && r.entry.leased() && r.entry.deliveries == r.deliveries
}

// stands says whether a receipt's message is in its queue, perhaps redriven.
func (m *machine) stands(r *modelReceipt) bool {
	return slices.ContainsFunc(m.queues[r.user], func(e *modelEntry) bool { return e.sequence == r.entry.sequence })
}

// giveBack ends a lease without an acknowledgement.
func (m *machine) giveBack(user messaging.UserID, e *modelEntry) {
	e.lease = time.Time{}
	switch {
	case e.deliveries >= modelMaxDeliveries:
		m.bury(user, e)
	case e.expired(time.Now()):
		m.remove(user, e)
	}
}

// happen does in the model what has come by now.
func (m *machine) happen() {
	now := time.Now()
	for user := range m.queues {
		for _, e := range slices.Clone(m.queues[user]) {
			if e.leased() && !e.lease.After(now) {
				m.giveBack(user, e)
			}
			if !m.has(user, e) || e.leased() {
				continue
			}
			if e.expired(now) && !e.lingers {
				m.remove(user, e)
				continue
			}
			if e.delayed() && !e.due.After(now) {
				e.due = time.Time{}
				if e.expired(now) {
					m.remove(user, e)
				}
			}
		}
	}
}

// check compares every queue, whole and in order.
func (m *machine) check(*rapid.T) {
	synctest.Wait()
	for _, user := range []messaging.UserID{"a", "b"} {
		size, err := m.rig.Engine().Size(user)
		if err != nil {
			m.Fatalf("size: %v", err)
		}
		m.settleLingering(user, size.Total())
		var want messaging.Counts
		var names []string
		for p := messaging.High; p <= messaging.Low; p++ {
			for _, e := range m.queues[user] {
				switch {
				case e.priority != p:
				case e.delayed():
					want.Delayed++
				case e.leased():
					want.Leased++
				default:
					*map[messaging.Priority]*uint64{messaging.High: &want.High, messaging.Normal: &want.Normal, messaging.Low: &want.Low}[p]++
					if !e.expired(time.Now()) && e.deliveries < modelMaxDeliveries {
						names = append(names, e.text)
					}
				}
			}
		}
		if size != want {
			m.Fatalf("size of %s is %+v, want %+v: %s", user, size, want, m.describe(user))
		}
		peeked, err := m.rig.Engine().Peek(user, 1000)
		if err != nil {
			m.Fatalf("peek: %v", err)
		}
		if got := texts(peeked); fmt.Sprint(got) != fmt.Sprint(names) {
			m.Fatalf("queue of %s is %v, want %v", user, got, names)
		}
	}
}

// settleLingering lets those expired entries go of which it is left open when
// they do, if the engine has let them go.
func (m *machine) settleLingering(user messaging.UserID, total uint64) {
	for _, e := range slices.Clone(m.queues[user]) {
		if uint64(len(m.queues[user])) > total && e.lingers && !e.leased() {
			m.remove(user, e)
		}
	}
}

func (m *machine) describe(user messaging.UserID) string {
	var b strings.Builder
	for _, e := range m.queues[user] {
		fmt.Fprintf(&b, "%+v; ", *e)
	}
	return b.String()
}
