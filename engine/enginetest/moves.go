package enginetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/stayafrica/messaging"
)

func (m *machine) moves() map[string]func(*rapid.T) {
	return map[string]func(*rapid.T){
		"send":       m.send,
		"batch":      m.batch,
		"broadcast":  m.broadcast,
		"keyed send": m.sendWithKey,
		"take":       m.take,
		"lease":      m.lease,
		"ack":        m.ack,
		"nack":       m.nack,
		"extend":     m.extend,
		"clear":      m.clear,
		"redrive":    m.redrive,
		"drop":       m.drop,
		"pass":       m.pass,
		"restart":    m.restart,
		"":           m.check,
	}
}

func (m *machine) user() messaging.UserID {
	return rapid.SampledFrom([]messaging.UserID{"a", "b"}).Draw(m.T, "user")
}

func (m *machine) priority() messaging.Priority {
	return messaging.Priority(rapid.IntRange(0, 2).Draw(m.T, "priority")) //nolint:gosec // one of three
}

// times draws when a message is due and when it expires, in seconds; 0 means never.
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
	result, err := m.rig.Engine().Send(message(m, string(user), text, p, fieldsOf(delay, ttl)), messaging.IdempotencyKey{})
	if err != nil {
		m.Fatalf("send: %v", err)
	}
	m.enqueue(user, result.Sequence, p, text, delay, ttl)
}

func (m *machine) batch(*rapid.T) {
	n := rapid.IntRange(1, 10).Draw(m.T, "messages")
	drafts := make([]messaging.Draft, n)
	var enqueue []func(seq uint64)
	for i := range drafts {
		user, p, text := m.user(), m.priority(), m.nextText()
		delay, ttl := m.times()
		drafts[i] = message(m, string(user), text, p, fieldsOf(delay, ttl))
		enqueue = append(enqueue, func(seq uint64) {
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
	result, err := m.rig.Engine().SendAll(drafts, messaging.IdempotencyKey{})
	if err != nil {
		m.Fatalf("batch: %v", err)
	}
	for i := range enqueue {
		enqueue[i](result.Sequence + uint64(i))
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
	result, err := m.rig.Engine().Broadcast(b, messaging.IdempotencyKey{})
	if err != nil {
		m.Fatalf("broadcast: %v", err)
	}
	for _, user := range []messaging.UserID{"a", "b"} {
		m.enqueue(user, result.Sequence, messaging.Normal, text, delay, ttl)
	}
}

// sendWithKey sends with one of a few idempotency keys.
func (m *machine) sendWithKey(*rapid.T) {
	key := rapid.SampledFrom([]string{"k1", "k2", "k3"}).Draw(m.T, "key")
	result, err := m.rig.Engine().Send(message(m, "a", key, messaging.Normal, ""), messaging.NewIdempotencyKey("", "send", key, [32]byte{}))
	if err != nil {
		m.Fatalf("send with a key: %v", err)
	}
	first, used := m.keys[key]
	if used != result.Duplicate || (used && first.ID != result.ID) {
		m.Fatalf("key %s: %+v, first %+v (used %t)", key, result, first, used)
	}
	if !used {
		if m.keys == nil {
			m.keys = make(map[string]messaging.SendResult)
		}
		m.keys[key] = result
		m.enqueue("a", result.Sequence, messaging.Normal, key, 0, 0)
	}
}

// deliver takes from the engine and the model, and compares the messages.
func (m *machine) deliver(user messaging.UserID, o messaging.TakeOptions, delivered bool) []*modelEntry {
	free := o.Limit
	if o.Lease > 0 {
		free = m.freeLeases(user)
	}
	h, err := m.rig.Engine().Take(context.Background(), user, o)
	if free == 0 && messaging.CodeOf(err) == messaging.CodeTooManyRequests {
		return nil
	}
	want := m.next(user, o.Limit)
	want = want[:min(free, len(want))]
	if err != nil || free == 0 {
		m.Fatalf("take with room for %d leases: %v", free, err)
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
	h.Finish(delivered)
	synctest.Wait()
	return want
}

func (m *machine) take(*rapid.T) {
	user, delivered := m.user(), rapid.Bool().Draw(m.T, "delivered")
	taken := m.deliver(user, messaging.TakeOptions{Limit: rapid.IntRange(1, 4).Draw(m.T, "limit")}, delivered)
	if delivered {
		for _, e := range taken {
			m.remove(user, e)
		}
	}
}

func (m *machine) lease(*rapid.T) {
	term := time.Duration(rapid.SampledFrom([]int{5, 15, 60}).Draw(m.T, "lease")) * time.Second
	arrived := rapid.IntRange(0, 9).Draw(m.T, "arrived") > 0
	for _, e := range m.deliver(m.user(), messaging.TakeOptions{Limit: rapid.IntRange(1, 4).Draw(m.T, "limit"), Lease: term}, arrived) {
		if arrived {
			e.lease = time.Now().Add(term)
		} else {
			e.deliveries--
			m.receipts[len(m.receipts)-1].deliveries = 0 // of a delivery that did not arrive
		}
	}
	if !arrived {
		m.receipts = slices.DeleteFunc(m.receipts, func(r *modelReceipt) bool { return r.deliveries == 0 || r.deliveries > r.entry.deliveries })
	}
}

// some draws some receipts of one user, including old ones.
func (m *machine) some() (user messaging.UserID, chosen []*modelReceipt) {
	user = m.user()
	for _, r := range m.receipts {
		if r.user == user && rapid.Bool().Draw(m.T, "receipt") {
			chosen = append(chosen, r)
		}
	}
	return user, chosen
}

// callWithReceipts calls the engine with receipts and compares the outcomes. done is the
// outcome of a valid receipt, and change is its effect on the model.
func (m *machine) callWithReceipts(
	call func(user messaging.UserID, receipts []string) ([]messaging.Outcome, error),
	done messaging.Outcome, change func(user messaging.UserID, e *modelEntry),
) {
	user, chosen := m.some()
	if len(chosen) == 0 {
		return
	}
	list := make([]string, len(chosen))
	want := make([]messaging.Outcome, len(chosen))
	var good []*modelEntry
	for i, r := range chosen {
		list[i] = r.text
		if want[i] = ""; m.inForce(r) {
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
		case r.boot != m.boot || m.isQueued(r):
			want[i] = messaging.Expired
		default:
			want[i] = messaging.Unknown
		}
		// A message that this call exhausted is in its queue until it is a dead letter.
		if done == messaging.Nacked && want[i] == messaging.Unknown && slices.Contains(good, r.entry) && got[i] == messaging.Expired {
			continue
		}
		if got[i] != want[i] {
			m.Fatalf("receipt of %s (delivery %d of %d): %s, want %s", r.entry.text, r.deliveries, r.entry.deliveries, got[i], want[i])
		}
	}
}

func (m *machine) ack(*rapid.T) {
	m.callWithReceipts(m.rig.Engine().Acknowledge, messaging.Acked, m.remove)
}

func (m *machine) extend(*rapid.T) {
	term := time.Duration(rapid.IntRange(1, 60).Draw(m.T, "term")) * time.Second
	m.callWithReceipts(func(user messaging.UserID, receipts []string) ([]messaging.Outcome, error) {
		return m.rig.Engine().Extend(user, receipts, term)
	}, messaging.Extended, func(_ messaging.UserID, e *modelEntry) { e.lease = time.Now().Add(term) })
}

func (m *machine) nack(*rapid.T) {
	delay := time.Duration(rapid.SampledFrom([]int{0, 0, 5, 30}).Draw(m.T, "delay")) * time.Second
	m.callWithReceipts(func(user messaging.UserID, receipts []string) ([]messaging.Outcome, error) {
		return m.rig.Engine().Nack(user, receipts, delay)
	}, messaging.Nacked, func(user messaging.UserID, e *modelEntry) { m.requeue(user, e, delay) })
}

func (m *machine) clear(*rapid.T) {
	user := m.user()
	n, err := m.rig.Engine().Clear(user)
	if err != nil {
		m.Fatalf("clear: %v", err)
	}
	if n != uint64(len(m.queues[user])) {
		m.Fatalf("cleared %d, want %d", n, len(m.queues[user]))
	}
	m.queues[user] = nil
}

// redrive redrives a dead letter, with one or two concurrent calls. Each names every
// recipient twice. At most one requeue of each recipient succeeds.
func (m *machine) redrive(*rapid.T) {
	letters := undeliverable(m, m.rig)
	if len(letters) == 0 {
		return
	}
	letter := &letters[rapid.IntRange(0, len(letters)-1).Draw(m.T, "letter")]
	recipients := recipientsOf(m, m.rig, letter)
	n := rapid.IntRange(1, 2).Draw(m.T, "redrives")
	var results [2][]messaging.RequeueResult
	var errs [2]error
	var redrives sync.WaitGroup
	for i := range n {
		redrives.Go(func() {
			results[i], errs[i] = m.rig.DeadLetters().RequeueDeadLetters(append(slices.Clone(recipients), recipients...), messaging.Progress{})
		})
	}
	redrives.Wait()
	if err := errors.Join(errs[:]...); err != nil {
		m.Fatalf("redrive: %v", err)
	}
	synctest.Wait()
	for i := range recipients {
		var got []messaging.RequeueResult
		for _, r := range results[:n] {
			got = append(got, r[i], r[len(recipients)+i])
		}
		m.redriven(&recipients[i], got)
	}
}

// redriven compares the results of the redrives of one message.
func (m *machine) redriven(r *messaging.DeadRecipient, results []messaging.RequeueResult) {
	at := slices.IndexFunc(m.dead, func(d deadEntry) bool {
		return d.user == r.Message.Receiver.User && d.entry.sequence == r.Message.Position.Sequence
	})
	if at < 0 {
		m.Fatalf("there is a dead letter of message %d for %s that the model does not have", r.Message.Position.Sequence, r.Message.Receiver.User)
	}
	won, refused := 0, 0
	for _, result := range results {
		switch {
		case result.Refusal != "":
			refused++
		case !result.Gone:
			won++
		}
	}
	d := m.dead[at]
	if d.entry.expired(time.Now()) || len(m.queues[d.user]) >= modelQueueMax {
		if refused != len(results) {
			m.Fatalf("%d redrives of an expired message, or into a full queue: %d were refused, want all", len(results), refused)
		}
		return
	}
	if won != 1 || refused != 0 {
		m.Fatalf("of %d redrives %d requeued it and %d were refused, want 1 and 0", len(results), won, refused)
	}
	m.dead = slices.Delete(m.dead, at, at+1)
	back := &modelEntry{sequence: d.entry.sequence, priority: d.entry.priority, text: d.entry.text, expires: d.entry.expires}
	m.insert(d.user, back)
}

// drop deletes a dead letter.
func (m *machine) drop(*rapid.T) {
	letters := undeliverable(m, m.rig)
	if len(letters) == 0 {
		return
	}
	letter := &letters[rapid.IntRange(0, len(letters)-1).Draw(m.T, "letter")]
	for _, want := range []bool{true, false} {
		if ok, err := m.rig.DeadLetters().DropDeadLetter(letter.ID); ok != want || err != nil {
			m.Fatalf("delete a dead letter: %t, %v; want %t", ok, err, want)
		}
	}
	m.dead = slices.DeleteFunc(m.dead, func(d deadEntry) bool { return d.entry.sequence == letter.Message.Position.Sequence })
}

// pass advances the time, second by second.
func (m *machine) pass(*rapid.T) {
	for range rapid.SampledFrom([]int{1, 4, 10, 40}).Draw(m.T, "seconds") {
		pass(time.Second)
		m.fire()
	}
}

func (m *machine) restart(*rapid.T) {
	synctest.Wait()
	m.rig.Restart(rapid.Bool().Draw(m.T, "crash"))
	synctest.Wait()
	m.boot++
	for user := range m.queues {
		for _, e := range m.queues[user] {
			e.lease = time.Time{}
		}
	}
	m.fire() // leased messages that have expired are removed before the service is ready
}
