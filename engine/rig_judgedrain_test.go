package engine_test

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/storage"
)

// judgeDrain expects everything before the drain's position to be settled (invariant 5),
// and retention not to pass it (invariant 6).
func (v *verdict) judgeDrain() {
	v.Helper()
	at, err := v.store.Position()
	if err != nil {
		v.Errorf("read the drain's position: %v", err)
	}
	if at.Before(v.ledger.saved) || v.ledger.position.Before(at) {
		v.Errorf("the drain's position is %v; %v was durable, and it had reached %v", at, v.ledger.saved, v.ledger.position)
	}
	for seq := v.log.FirstSequence(); seq < at.Sequence; seq++ {
		if id, ok := v.ids[seq]; !ok || (id != v.ledger.persisted[seq] && !v.ledger.trimmed[seq]) {
			v.Errorf("the drain's position is %v, and what the backend got as message %d is %s instead of %s", at, seq, v.ledger.persisted[seq], id)
		}
	}
	if v.log.FirstSequence() > v.ledger.position.Sequence {
		v.Errorf("retention reached %d and the drain %v", v.log.FirstSequence(), v.ledger.position)
	}
	for seq := range v.trimmed {
		if seq >= v.ledger.position.Sequence && !v.ledger.trimmed[seq] {
			v.Errorf("message %d was trimmed and the drain reached %v", seq, v.ledger.position)
		}
	}
	if mark, err := v.store.Control().Watermark(); err != nil || mark.Sequence < v.ledger.mark.Sequence {
		v.Errorf("the watermark is %+v and was %+v (%v)", mark, v.ledger.mark, err)
	}
}

// judgePeek expects the deliverable messages of a queue, in order (invariant 3).
func (v *verdict) judgePeek(user messaging.UserID) {
	v.Helper()
	type turn struct {
		priority messaging.Priority
		sequence uint64
	}
	now, maxDeliveries := time.Now().UnixMilli(), v.config.MaxDeliveries
	var want []turn
	for a, s := range v.entryOf {
		if a.user == user && s.index == storage.Queued && (s.entry.Expires == 0 || s.entry.Expires > now) &&
			(maxDeliveries == 0 || s.entry.Deliveries < maxDeliveries) {
			want = append(want, turn{s.priority, s.sequence})
		}
	}
	slices.SortFunc(want, func(a, b turn) int {
		return cmp.Or(cmp.Compare(a.priority, b.priority), cmp.Compare(a.sequence, b.sequence))
	})
	messages, err := v.engine.Peek(user, 10_000)
	if err != nil {
		v.Errorf("peek: %v", err)
	}
	got := make([]turn, len(messages))
	for i := range messages {
		got[i] = turn{messages[i].Priority, messages[i].Position.Sequence}
	}
	if !slices.Equal(got, want) {
		v.Errorf("user %s peeks %v; there are %v", user, got, want)
	}
}

// resume sets the ledger to what was found: no call is in progress any more.
func (v *verdict) resume() {
	l := v.ledger
	maps.DeleteFunc(l.messages, func(a address, _ *sent) bool {
		return v.found[a] == 0 && !v.dead[a] // it was lost unacknowledged, or retention removed it
	})
	for a, m := range l.messages {
		s, stands := v.entryOf[a]
		m.acknowledged, m.sequence = true, max(m.sequence, v.found[a])
		m.removing, m.redrives, m.trimmed = 0, 0, v.isTrimmed(m.sequence)
		m.gone, m.unsure = 0, v.dead[a]
		if !stands && !v.dead[a] {
			l.went(m)
		}
		m.deliveries, m.due = s.entry.Deliveries, time.Time{}
		if s.index == storage.Delayed {
			m.due = time.UnixMilli(s.entry.Due)
		}
	}
	at, _ := v.store.Position()
	maps.DeleteFunc(l.persisted, func(seq uint64, _ messaging.MessageID) bool { return seq >= at.Sequence || seq < v.log.FirstSequence() })
	l.taken, l.durable = nil, 0
	l.position, l.saved, v.evicted = at, at, 0
	if first := (messaging.Position{Sequence: v.log.FirstSequence()}); at.Before(first) {
		l.position = first
	}
	clear(l.clearing)
	l.trimmed = v.trimmed
}

// judgeReceipts expects the receipts of earlier boots to be expired.
func (b *boot) judgeReceipts() {
	b.Helper()
	for _, l := range b.receipts {
		outcomes, err := b.engine.Acknowledge(l.message.user, []string{l.receipt})
		if err != nil || outcomes[0] != messaging.Expired {
			b.Errorf("a receipt of before the start is %v (%v)", outcomes, err)
		}
	}
	b.receipts = nil
}

// judgeKeys repeats the acknowledged calls with idempotency keys.
func (b *boot) judgeKeys() {
	b.Helper()
	c := newClient(b, -1)
	for key := range b.ledger.keys {
		c.repeat(key)
	}
}

// judgeFanouts expects large broadcasts in all queues.
func (b *boot) judgeFanouts() {
	b.Helper()
	v := &verdict{boot: b, now: time.Now()}
	v.readLog()
	v.readIndexes()
	v.judgeLarge()
	if jobs, err := b.store.Fanouts(); err != nil || len(jobs) != 0 {
		b.Errorf("fan-outs %v are left (%v)", jobs, err)
	}
}
