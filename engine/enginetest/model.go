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

// modelQueueMax is small, like all limits of the model's engine, so that random moves
// reach it.
const modelQueueMax = 6

// drawConfig draws the limits of an engine.
func drawConfig(rt *rapid.T) Config {
	return Config{
		QueueMax:      modelQueueMax,
		MaxDeliveries: rapid.SampledFrom([]uint32{3, 5}).Draw(rt, "max deliveries"),
		MaxLeased:     rapid.SampledFrom([]int{3, modelQueueMax}).Draw(rt, "max leased"),
		RetryBackoff:  rapid.SampledFrom([]time.Duration{0, 3 * time.Second}).Draw(rt, "backoff"),
	}
}

// CheckModel compares an engine with the model over random moves. rapid's flags set their
// number and the seed. It is called in a bubble. Each try opens its own engine.
func CheckModel(tb testing.TB, open Open) {
	tb.Helper()
	rapid.Check(bubbled{tb}, func(rt *rapid.T) {
		m := &machine{T: rt, config: drawConfig(rt)}
		m.rig = open(tb, m.config)
		defer m.rig.Close()
		m.queues = map[messaging.UserID][]*modelEntry{"a": nil, "b": nil}
		rt.Repeat(m.moves())
	})
}

// bubbled is a test without a deadline, because a bubble has none.
type bubbled struct{ testing.TB }

// Logf skips the report of each passed try, because millions of tries would fill the log.
func (b bubbled) Logf(format string, args ...any) {
	b.Helper()
	if !strings.HasPrefix(format, "[rapid] OK") {
		b.TB.Logf(format, args...)
	}
}

// machine is an engine and its model: each user's entries in the order of their sequences,
// and the receipts returned so far.
type machine struct {
	*rapid.T

	rig      Rig
	config   Config
	queues   map[messaging.UserID][]*modelEntry
	receipts []*modelReceipt
	dead     []deadEntry
	sent     int
	keys     map[string]messaging.SendResult
	boot     int
}

// modelEntry is a message in a queue.
type modelEntry struct {
	sequence   uint64
	priority   messaging.Priority
	text       string
	due        time.Time // zero: not delayed
	expires    time.Time // zero: never
	deliveries uint32
	lease      time.Time // zero: not leased
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

// enqueue adds a message in the model.
func (m *machine) enqueue(user messaging.UserID, seq uint64, p messaging.Priority, text string, delay, ttl int) {
	e := &modelEntry{sequence: seq, priority: p, text: text}
	if delay > 0 {
		e.due = time.Now().Add(time.Duration(delay) * time.Second)
	}
	if ttl > 0 {
		e.expires = time.Now().Add(time.Duration(ttl) * time.Second)
	}
	m.insert(user, e)
}

// insert inserts an entry by its sequence, and evicts entries above the limit.
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

// next returns the entries of the next delivery. Like a scan, it removes expired entries
// and dead-letters exhausted ones that it skips.
func (m *machine) next(user messaging.UserID, limit int) (next []*modelEntry) {
	for p := messaging.High; p <= messaging.Low; p++ {
		for _, e := range slices.Clone(m.queues[user]) {
			switch {
			case len(next) == limit:
				return next
			case e.priority != p || !e.ready():
			case e.expired(time.Now()):
				m.remove(user, e)
			case m.exhausted(e):
				m.deadLetter(user, e)
			default:
				next = append(next, e)
			}
		}
	}
	return next
}

func (m *machine) deadLetter(user messaging.UserID, e *modelEntry) {
	m.remove(user, e)
	m.dead = append(m.dead, deadEntry{user: user, entry: e})
}

// inForce reports whether a receipt's lease is in force.
func (m *machine) inForce(r *modelReceipt) bool {
	return r.boot == m.boot && m.has(r.user, r.entry) && r.entry.leased() && r.entry.deliveries == r.deliveries
}

// isQueued reports whether a receipt's message is in its queue, possibly after a redrive.
func (m *machine) isQueued(r *modelReceipt) bool {
	return slices.ContainsFunc(m.queues[r.user], func(e *modelEntry) bool { return e.sequence == r.entry.sequence })
}

func (m *machine) exhausted(e *modelEntry) bool { return e.deliveries >= m.config.MaxDeliveries }

// requeue ends a lease without an acknowledgement. The message comes back after the delay
// or, if that is 0, after its retry pause.
func (m *machine) requeue(user messaging.UserID, e *modelEntry, delay time.Duration) {
	e.lease = time.Time{}
	if delay == 0 && e.deliveries >= 3 {
		delay = min(m.config.RetryBackoff<<(e.deliveries-3), 5*time.Minute)
	}
	switch {
	case m.exhausted(e):
		m.deadLetter(user, e)
	case e.expired(time.Now()):
		m.remove(user, e)
	case delay > 0:
		e.due = time.Now().Add(delay)
	}
}

// freeLeases returns how many more messages of a queue may be leased.
func (m *machine) freeLeases(user messaging.UserID) int {
	free := m.config.MaxLeased
	for _, e := range m.queues[user] {
		if e.leased() {
			free--
		}
	}
	return free
}

// fire fires in the model what is due by now.
func (m *machine) fire() {
	now := time.Now()
	for user := range m.queues {
		for _, e := range slices.Clone(m.queues[user]) {
			if e.leased() && !e.lease.After(now) {
				m.requeue(user, e, 0)
			}
			if !m.has(user, e) || e.leased() {
				continue
			}
			if e.expired(now) {
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

// check compares every queue, complete and in order.
func (m *machine) check(*rapid.T) {
	synctest.Wait()
	m.checkDead()
	for _, user := range []messaging.UserID{"a", "b"} {
		size, err := m.rig.Engine().Size(user)
		if err != nil {
			m.Fatalf("size: %v", err)
		}
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
					if !e.expired(time.Now()) && !m.exhausted(e) {
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

// checkDead compares the dead letters, by messages and recipients.
func (m *machine) checkDead() {
	var got, want []string
	letters := undeliverable(m, m.rig)
	for i := range letters {
		for _, r := range recipientsOf(m, m.rig, &letters[i]) {
			got = append(got, fmt.Sprint(r.Message.Position.Sequence, " ", r.Message.Receiver.User))
		}
	}
	for _, d := range m.dead {
		want = append(want, fmt.Sprint(d.entry.sequence, " ", d.user))
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		m.Fatalf("the dead letters are %v, want %v", got, want)
	}
}

func (m *machine) describe(user messaging.UserID) string {
	var b strings.Builder
	for _, e := range m.queues[user] {
		fmt.Fprintf(&b, "%+v; ", *e)
	}
	return b.String()
}
