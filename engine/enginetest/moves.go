package enginetest

import (
	"context"
	"fmt"
	"slices"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/stayafrica/messaging"
)

func (m *machine) moves() map[string]func(*rapid.T) {
	return map[string]func(*rapid.T){
		"send":      m.send,
		"batch":     m.batch,
		"broadcast": m.broadcast,
		"twin":      m.twin,
		"take":      m.take,
		"lease":     m.lease,
		"ack":       m.ack,
		"nack":      m.nack,
		"extend":    m.extend,
		"clear":     m.clear,
		"redrive":   m.redrive,
		"pass":      m.pass,
		"restart":   m.restart,
		"":          m.check,
	}
}

func (m *machine) user() messaging.UserID {
	return rapid.SampledFrom([]messaging.UserID{"a", "b"}).Draw(m.T, "user")
}

func (m *machine) priority() messaging.Priority {
	return messaging.Priority(rapid.IntRange(0, 2).Draw(m.T, "priority")) //nolint:gosec // one of three
}

// times draws when a message is due and when it expires, in seconds; 0 is not.
func (m *machine) times() (delay, ttl int) {
	delay = rapid.SampledFrom([]int{0, 0, 0, 5, 20}).Draw(m.T, "delay")
	ttl = rapid.SampledFrom([]int{0, 0, 0, 10, 30}).Draw(m.T, "ttl")
	if ttl != 0 && ttl <= delay {
		ttl = 0
	}
	return delay, ttl
}

func fieldsOf(delay, ttl int) string {
	fields := ""
	if delay > 0 {
		fields += fmt.Sprintf(`,"delay_seconds":%d`, delay)
	}
	if ttl > 0 {
		fields += fmt.Sprintf(`,"ttl_seconds":%d`, ttl)
	}
	return fields
}

func (m *machine) nextText() string {
	m.sent++
	return fmt.Sprint("m", m.sent)
}

func (m *machine) send(*rapid.T) {
	user, p, text := m.user(), m.priority(), m.nextText()
	delay, ttl := m.times()
	receipt, err := m.rig.Engine().Send(message(m, string(user), text, p, fieldsOf(delay, ttl)), messaging.Once{})
	if err != nil {
		m.Fatalf("send: %v", err)
	}
	m.enter(user, receipt.Sequence, p, text, delay, ttl)
}

func (m *machine) batch(*rapid.T) {
	n := rapid.IntRange(1, 10).Draw(m.T, "messages")
	drafts := make([]messaging.Draft, n)
	var enter []func(seq uint64)
	for i := range drafts {
		user, p, text := m.user(), m.priority(), m.nextText()
		delay, ttl := m.times()
		drafts[i] = message(m, string(user), text, p, fieldsOf(delay, ttl))
		enter = append(enter, func(seq uint64) {
			e := &modelEntry{sequence: seq, priority: p, text: text}
			if delay > 0 {
				e.due = time.Now().Add(time.Duration(delay) * time.Second)
			}
			if ttl > 0 {
				e.expires = time.Now().Add(time.Duration(ttl) * time.Second)
			}
			m.queues[user] = append(m.queues[user], e)
		})
	}
	receipt, err := m.rig.Engine().SendAll(drafts, messaging.Once{})
	if err != nil {
		m.Fatalf("batch: %v", err)
	}
	for i := range enter {
		enter[i](receipt.Sequence + uint64(i))
	}
	for user := range m.queues {
		m.evict(user)
	}
}

func (m *machine) broadcast(*rapid.T) {
	text := m.nextText()
	delay, ttl := m.times()
	b, err := messaging.ParseBroadcast(fmt.Appendf(nil, `{"message":{"sender_id":1,"text":%q%s},"user_ids":["a","b"]}`, text, fieldsOf(delay, ttl)))
	if err != nil {
		m.Fatal(err)
	}
	receipt, err := m.rig.Engine().Broadcast(b, messaging.Once{})
	if err != nil {
		m.Fatalf("broadcast: %v", err)
	}
	for _, user := range []messaging.UserID{"a", "b"} {
		m.enter(user, receipt.Sequence, messaging.Normal, text, delay, ttl)
	}
}

// twin sends with one of a few idempotency keys.
func (m *machine) twin(*rapid.T) {
	key := rapid.SampledFrom([]string{"k1", "k2", "k3"}).Draw(m.T, "key")
	receipt, err := m.rig.Engine().Send(message(m, "a", key, messaging.Normal, ""), messaging.NewOnce("", "send", key, [32]byte{}))
	if err != nil {
		m.Fatalf("send with a key: %v", err)
	}
	first, used := m.keys[key]
	if used != receipt.Duplicate || (used && first.ID != receipt.ID) {
		m.Fatalf("key %s: %+v, first %+v (used %t)", key, receipt, first, used)
	}
	if !used {
		if m.keys == nil {
			m.keys = make(map[string]messaging.Receipt)
		}
		m.keys[key] = receipt
		m.enter("a", receipt.Sequence, messaging.Normal, key, 0, 0)
	}
}

// handOut takes from the engine and the model, and compares.
func (m *machine) handOut(user messaging.UserID, o messaging.TakeOptions, delivered bool) []*modelEntry {
	want := m.next(user, o.Limit)
	h, err := m.rig.Engine().Take(context.Background(), user, o)
	if err != nil {
		m.Fatalf("take: %v", err)
	}
	names := make([]string, len(want))
	for i, e := range want {
		names[i] = e.text
	}
	if got := texts(h.Messages); fmt.Sprint(got) != fmt.Sprint(names) {
		m.Fatalf("user %s got %v, want %v", user, got, names)
	}
	if o.Lease > 0 {
		for i, e := range want {
			e.deliveries++
			if h.Messages[i].Deliveries != e.deliveries {
				m.Fatalf("%s has %d deliveries, want %d", e.text, h.Messages[i].Deliveries, e.deliveries)
			}
			m.receipts = append(m.receipts, &modelReceipt{user: user, text: h.Messages[i].Receipt, entry: e, deliveries: e.deliveries, boot: m.boot})
		}
	}
	h.Settle(delivered)
	synctest.Wait()
	return want
}

func (m *machine) take(*rapid.T) {
	user, delivered := m.user(), rapid.Bool().Draw(m.T, "delivered")
	taken := m.handOut(user, messaging.TakeOptions{Limit: rapid.IntRange(1, 4).Draw(m.T, "limit")}, delivered)
	if delivered {
		for _, e := range taken {
			m.remove(user, e)
		}
	}
}

func (m *machine) lease(*rapid.T) {
	term := time.Duration(rapid.SampledFrom([]int{5, 15, 60}).Draw(m.T, "lease")) * time.Second
	arrived := rapid.IntRange(0, 9).Draw(m.T, "arrived") > 0
	for _, e := range m.handOut(m.user(), messaging.TakeOptions{Limit: rapid.IntRange(1, 4).Draw(m.T, "limit"), Lease: term}, arrived) {
		if arrived {
			e.lease = time.Now().Add(term)
		} else {
			e.deliveries--
			m.receipts[len(m.receipts)-1].deliveries = 0 // one that was never given out
		}
	}
	if !arrived {
		m.receipts = slices.DeleteFunc(m.receipts, func(r *modelReceipt) bool { return r.deliveries == 0 || r.deliveries > r.entry.deliveries })
	}
}

// some draws a few of the receipts of one user, old ones among them.
func (m *machine) some() (user messaging.UserID, chosen []*modelReceipt) {
	user = m.user()
	for _, r := range m.receipts {
		if r.user == user && rapid.Bool().Draw(m.T, "receipt") {
			chosen = append(chosen, r)
		}
	}
	return user, chosen
}

// settle calls the engine with receipts and compares the outcomes; done is what
// a good one becomes, which change does to the model.
func (m *machine) settle(call func(user messaging.UserID, receipts []string) ([]messaging.Outcome, error), done messaging.Outcome, change func(user messaging.UserID, e *modelEntry)) {
	user, chosen := m.some()
	if len(chosen) == 0 {
		return
	}
	list := make([]string, len(chosen))
	want := make([]messaging.Outcome, len(chosen))
	var good []*modelEntry
	for i, r := range chosen {
		list[i] = r.text
		if want[i] = ""; m.good(r) {
			want[i] = done
			good = append(good, r.entry)
		}
	}
	got, err := call(user, list)
	if err != nil {
		m.Fatalf("receipts: %v", err)
	}
	synctest.Wait()
	for _, e := range good {
		change(user, e)
	}
	for i, r := range chosen {
		switch {
		case want[i] != "":
		case r.boot != m.boot || m.stands(r):
			want[i] = messaging.Expired
		default:
			want[i] = messaging.Unknown
		}
		// What this very call gave up stands in its queue until it is a dead letter.
		if done == messaging.Nacked && want[i] == messaging.Unknown && slices.Contains(good, r.entry) && got[i] == messaging.Expired {
			continue
		}
		if got[i] != want[i] {
			m.Fatalf("receipt of %s (delivery %d of %d): %s, want %s", r.entry.text, r.deliveries, r.entry.deliveries, got[i], want[i])
		}
	}
}

func (m *machine) ack(*rapid.T) {
	m.settle(m.rig.Engine().Acknowledge, messaging.Acked, m.remove)
}

func (m *machine) extend(*rapid.T) {
	term := time.Duration(rapid.IntRange(1, 60).Draw(m.T, "term")) * time.Second
	m.settle(func(user messaging.UserID, receipts []string) ([]messaging.Outcome, error) {
		return m.rig.Engine().Extend(user, receipts, term)
	}, messaging.Extended, func(_ messaging.UserID, e *modelEntry) { e.lease = time.Now().Add(term) })
}

func (m *machine) nack(*rapid.T) {
	delay := time.Duration(rapid.SampledFrom([]int{0, 0, 5, 30}).Draw(m.T, "delay")) * time.Second
	m.settle(func(user messaging.UserID, receipts []string) ([]messaging.Outcome, error) {
		return m.rig.Engine().Reject(user, receipts, delay)
	}, messaging.Nacked, func(user messaging.UserID, e *modelEntry) {
		if delay > 0 && e.deliveries < modelMaxDeliveries {
			e.lease, e.due = time.Time{}, time.Now().Add(delay)
			if e.expired(time.Now()) {
				e.lingers = true // its event has come, and comes again within a minute
			}
			return
		}
		m.giveBack(user, e)
	})
}

func (m *machine) clear(*rapid.T) {
	user := m.user()
	n, err := m.rig.Engine().Clear(user)
	if err != nil {
		m.Fatalf("clear: %v", err)
	}
	m.settleLingering(user, n)
	if n != uint64(len(m.queues[user])) {
		m.Fatalf("cleared %d, want %d", n, len(m.queues[user]))
	}
	m.queues[user] = nil
}

// redrive puts the dead letters back that there are.
func (m *machine) redrive(*rapid.T) {
	for _, letter := range m.rig.Undeliverable() {
		at := slices.IndexFunc(m.dead, func(d deadEntry) bool {
			return d.user == letter.Message.Receiver.User && d.entry.sequence == letter.Message.Position.Sequence
		})
		if at < 0 {
			continue // it was redriven before
		}
		d := m.dead[at]
		refusal, err := m.rig.Engine().Requeue(&letter.Message, keep)
		if err != nil || (refusal != "") != d.entry.expired(time.Now()) {
			m.Fatalf("requeue: %q %v", refusal, err)
		}
		if refusal != "" {
			continue
		}
		m.dead = slices.Delete(m.dead, at, at+1)
		back := &modelEntry{sequence: d.entry.sequence, priority: d.entry.priority, text: d.entry.text, expires: d.entry.expires}
		m.insert(d.user, back)
		return
	}
}

// pass lets time go by, second after second.
func (m *machine) pass(*rapid.T) {
	for range rapid.SampledFrom([]int{1, 4, 10, 40}).Draw(m.T, "seconds") {
		pass(time.Second)
		m.happen()
	}
}

func (m *machine) restart(*rapid.T) {
	synctest.Wait()
	m.rig.Restart(rapid.Bool().Draw(m.T, "crash"))
	synctest.Wait()
	m.boot++
	for user := range m.queues {
		for _, e := range m.queues[user] {
			if e.leased() && e.expired(time.Now()) {
				e.lingers = true
			}
			e.lease = time.Time{}
		}
	}
}
