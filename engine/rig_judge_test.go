package engine_test

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/storage"
)

// judge compares what a start found with the ledger, before anything runs, and
// takes into the ledger what has become of what was under way. It is told when
// the power was cut. False says that it was cut again, or that something is wrong.
func (b *boot) judge(at time.Time) bool {
	b.Helper()
	v := &verdict{boot: b, now: at}
	b.readCounts()
	v.readLog()
	v.readShelves()
	v.readDead()
	if b.Failed() {
		return false
	}
	v.judgeMessages()
	v.judgeGroups()
	v.judgeLarge()
	v.judgeDrain()
	for _, user := range users {
		v.judgePeek(user)
	}
	if b.Failed() || !b.ledger.note(v.resume) {
		return false
	}
	b.judgeReceipts()
	b.judgeKeys()
	return !b.Failed()
}

// readCounts compares counts with entries (invariant 9).
func (b *boot) readCounts() {
	b.Helper()
	(&rig{tb: b, store: b.store, log: b.log}).checkCounts()
}

// verdict is a judgement under way.
type verdict struct {
	*boot

	now time.Time // when the power was cut
	// found is what the log has of each message: its sequence.
	found map[address]uint64
	large map[uint64]string // texts of the large broadcasts in the log
	ids   map[uint64]messaging.MessageID
	born  map[uint64]time.Time
	// standing is where each message stands, with its entry.
	standing map[address]standing
	entries  map[uint64]int // of large broadcasts
	dead     map[address]bool
}

type standing struct {
	shelf    storage.Shelf
	priority messaging.Priority
	sequence uint64
	entry    storage.Entry
}

// readLog reads all records: there is no gap among them (invariant 2).
func (v *verdict) readLog() {
	v.Helper()
	v.found, v.large = make(map[address]uint64), make(map[uint64]string)
	v.ids, v.born = make(map[uint64]messaging.MessageID), make(map[uint64]time.Time)
	for seq := v.log.Floor(); seq <= v.log.Durable(); seq++ {
		record, err := v.log.Record(seq)
		if err != nil {
			v.Errorf("record %d of %d to %d: %v", seq, v.log.Floor(), v.log.Durable(), err)
			return
		}
		v.ids[seq], v.born[seq] = record.Message.ID, record.Message.CreatedAt
		text := texts(v, []messaging.Message{record.Message})[0]
		switch {
		case !record.IsBroadcast():
			v.note(address{record.Message.Receiver.User, text}, seq)
		case strings.HasPrefix(text, "large"):
			v.large[seq] = text
		default:
			receivers, err := v.log.Receivers(&record, 0)
			if err != nil {
				v.Errorf("receivers of %d: %v", seq, err)
			}
			for _, r := range receivers {
				v.note(address{r.User, text}, seq)
			}
		}
	}
}

func (v *verdict) note(a address, seq uint64) {
	if v.found[a] != 0 {
		v.Errorf("message %v is in the log at %d and at %d", a, v.found[a], seq)
	}
	if v.ledger.messages[a] == nil {
		v.Errorf("message %v is in the log at %d, and nobody sent it", a, seq)
	}
	v.found[a] = seq
}

// readShelves reads all entries: each has its record, and stands in one place
// (invariant 4).
func (v *verdict) readShelves() {
	v.Helper()
	v.standing, v.entries = make(map[address]standing), make(map[uint64]int)
	at := make(map[uint64]map[messaging.UserID]address)
	for a, seq := range v.found {
		if at[seq] == nil {
			at[seq] = make(map[messaging.UserID]address)
		}
		at[seq][a.user] = a
	}
	for _, shelf := range []storage.Shelf{storage.Queued, storage.Delayed} {
		err := v.store.AllEntries(shelf, func(user messaging.UserID, p messaging.Priority, seq uint64) bool {
			if v.large[seq] != "" {
				v.entries[seq]++
				return true
			}
			a, ok := at[seq][user]
			if !ok {
				v.Errorf("user %s has an entry of %d, which is no message of theirs", user, seq)
				return true
			}
			if before, twice := v.standing[a]; twice {
				v.Errorf("message %v stands on shelf %c and on shelf %c", a, before.shelf, shelf)
			}
			entry, _, err := v.store.Entry(shelf, user, p, seq)
			if err != nil {
				v.Errorf("entry %d of %s: %v", seq, user, err)
			}
			v.standing[a] = standing{shelf, p, seq, entry}
			return true
		})
		if err != nil {
			v.Errorf("read the queues: %v", err)
		}
	}
}

func (v *verdict) readDead() {
	v.Helper()
	v.dead = make(map[address]bool)
	page, err := v.store.Control().ListDeadLetters(messaging.DeadLetterFilter{Limit: 1000})
	if err != nil {
		v.Errorf("list dead letters: %v", err)
	}
	for i := range page.DeadLetters {
		copies, err := v.store.Control().DeadCopies(&page.DeadLetters[i], "", 1000)
		if err != nil {
			v.Errorf("list copies of a dead letter: %v", err)
		}
		for j := range copies {
			m := &copies[j].Message
			v.dead[address{m.Receiver.User, texts(v, []messaging.Message{*m})[0]}] = true
		}
	}
}

// judgeMessages looks for each message that a client knows of. What is missing
// without a reason must have been evicted.
func (v *verdict) judgeMessages() {
	v.Helper()
	missing := []string{}
	for a, m := range v.ledger.messages {
		seq := v.found[a]
		old := m.sequence != 0 && m.sequence < v.log.Floor()
		if m.acknowledged && seq != m.sequence && !old {
			v.Errorf("message %v was acknowledged at %d and is in the log at %d", a, m.sequence, seq)
			continue
		}
		s, stands := v.standing[a]
		switch {
		case !stands && seq != 0 && !v.explained(m):
			missing = append(missing, fmt.Sprintf("%+v", *m))
		case stands && m.gone != 0:
			v.Errorf("message %v had gone and is back", a)
		case stands:
			v.judgeEntry(m, s)
		}
	}
	if uint64(len(missing)) > v.evicted {
		v.Errorf("messages are in no queue at %s: %s; %d were evicted, with %+v", v.now, strings.Join(missing, ", "), v.evicted, v.config)
	}
}

// explained says whether a message that is in no queue may be in none. One that
// is as old as retention lets messages be may have gone before its record has.
func (v *verdict) explained(m *sent) bool {
	expired := !m.expires.IsZero() && !m.expires.After(v.now.Add(time.Millisecond))
	old := v.now.Sub(v.born[v.found[m.address]]) >= v.config.Retention
	return old || m.removing > 0 || m.unsure || m.gone != 0 || expired || v.dead[m.address]
}

// judgeEntry holds an entry to what its readers were answered.
func (v *verdict) judgeEntry(m *sent, s standing) {
	v.Helper()
	spent := v.config.MaxDeliveries > 0 && s.entry.Deliveries >= v.config.MaxDeliveries
	switch {
	case s.priority != m.priority:
		v.Errorf("message %v has priority %s and stands at %s", m.address, m.priority, s.priority)
	case s.entry.Deliveries < m.deliveries:
		v.Errorf("message %v was delivered %d times and %d count", m.address, m.deliveries, s.entry.Deliveries)
	case m.acknowledged && m.due.After(v.now) && s.shelf != storage.Delayed && !spent:
		v.Errorf("message %v is due at %s, and is in its queue at %s", m.address, m.due, v.now)
	case s.shelf == storage.Delayed && s.entry.Due < m.due.Truncate(time.Millisecond).UnixMilli():
		v.Errorf("message %v is due at %s, and in its entry at %s", m.address, m.due, time.UnixMilli(s.entry.Due))
	}
}

// judgeGroups finds all messages of a batch or none.
func (v *verdict) judgeGroups() {
	v.Helper()
	groups := make(map[*group]bool)
	for a, m := range v.ledger.messages {
		if m.group == nil || m.sequence != 0 && m.sequence < v.log.Floor() {
			continue
		}
		if !groups[m.group] {
			groups[m.group], m.group.found = true, 0
		}
		if v.found[a] != 0 {
			m.group.found++
		}
	}
	for g := range groups {
		if g.found != 0 && g.found != g.size && v.log.Floor() == 1 {
			v.Errorf("%d of the %d messages of a batch are in the log", g.found, g.size)
		}
	}
}

// judgeLarge finds each large broadcast in as many queues as its fan-out says.
func (v *verdict) judgeLarge() {
	v.Helper()
	jobs, err := v.store.Fanouts()
	if err != nil {
		v.Errorf("list fan-outs: %v", err)
	}
	sequences := make(map[string]uint64)
	for seq, text := range v.large {
		sequences[text] = seq
		large := v.ledger.large[text]
		if large == nil {
			v.Errorf("broadcast %q is in the log and nobody sent it", text)
			continue
		}
		want := large.recipients
		for _, job := range jobs {
			if job.Sequence == seq {
				want = int(job.Next)
			}
		}
		if v.entries[seq] != want {
			v.Errorf("broadcast %d is in %d queues, and its fan-out came to %d of %d", seq, v.entries[seq], want, large.recipients)
		}
	}
	for text, large := range v.ledger.large {
		if large.acknowledged && sequences[text] != large.sequence {
			v.Errorf("broadcast %q was acknowledged at %d and is at %d", text, large.sequence, sequences[text])
		}
		if sequences[text] == 0 {
			delete(v.ledger.large, text)
		}
	}
	if stages, err := v.store.Stages(); err != nil || len(stages) != 0 {
		v.Errorf("stages %v are left of broadcasts that were not committed (%v)", stages, err)
	}
}

// judgeDrain finds everything settled before the drain's position (invariant 5),
// and retention behind it (invariant 6).
func (v *verdict) judgeDrain() {
	v.Helper()
	at, err := v.store.Control().Position()
	if err != nil {
		v.Errorf("read the drain's position: %v", err)
	}
	if at.Before(v.ledger.saved) || v.ledger.position.Before(at) {
		v.Errorf("the drain's position is %v; %v was durable, and it had come to %v", at, v.ledger.saved, v.ledger.position)
	}
	for seq := v.log.Floor(); seq < at.Sequence; seq++ {
		if id, ok := v.ids[seq]; !ok || id != v.ledger.persisted[seq] {
			v.Errorf("the drain's position is %v, and what the backend got as message %d is %s instead of %s", at, seq, v.ledger.persisted[seq], id)
		}
	}
	if v.log.Floor() > v.ledger.position.Sequence {
		v.Errorf("retention came to %d and the drain to %v", v.log.Floor(), v.ledger.position)
	}
	if mark, err := v.store.Control().Watermark(); err != nil || mark.Sequence < v.ledger.mark.Sequence {
		v.Errorf("the watermark is %+v and was %+v (%v)", mark, v.ledger.mark, err)
	}
}

// judgePeek finds in a queue what may be handed out, in its order (invariant 3).
func (v *verdict) judgePeek(user messaging.UserID) {
	v.Helper()
	type turn struct {
		priority messaging.Priority
		sequence uint64
	}
	now, spent := time.Now().UnixMilli(), v.config.MaxDeliveries
	var want []turn
	for a, s := range v.standing {
		if a.user == user && s.shelf == storage.Queued && (s.entry.Expires == 0 || s.entry.Expires > now) && (spent == 0 || s.entry.Deliveries < spent) {
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
		v.Errorf("user %s is shown %v; there are %v", user, got, want)
	}
}

// resume makes of the ledger what was found: there is nothing under way any
// more.
func (v *verdict) resume() {
	l := v.ledger
	maps.DeleteFunc(l.messages, func(a address, _ *sent) bool {
		return v.found[a] == 0 && !v.dead[a] // it was lost unanswered, or retention took it
	})
	for a, m := range l.messages {
		s, stands := v.standing[a]
		m.acknowledged, m.sequence = true, max(m.sequence, v.found[a])
		m.removing, m.redrives = 0, 0
		m.gone, m.unsure = 0, v.dead[a]
		if !stands && !v.dead[a] {
			l.went(m)
		}
		m.deliveries, m.due = s.entry.Deliveries, time.Time{}
		if s.shelf == storage.Delayed {
			m.due = time.UnixMilli(s.entry.Due)
		}
	}
	at, _ := v.store.Control().Position()
	maps.DeleteFunc(l.persisted, func(seq uint64, _ messaging.MessageID) bool { return seq >= at.Sequence || seq < v.log.Floor() })
	l.settled, l.durable = nil, 0
	l.position, l.saved, v.evicted = at, at, 0
	if first := (messaging.Position{Sequence: v.log.Floor()}); at.Before(first) {
		l.position = first
	}
	clear(l.clearing)
}

// judgeReceipts finds the receipts of before the start expired.
func (b *boot) judgeReceipts() {
	b.Helper()
	for _, l := range b.lent {
		outcomes, err := b.engine.Acknowledge(l.message.user, []string{l.receipt})
		if err != nil || outcomes[0] != messaging.Expired {
			b.Errorf("a receipt of before the start is %v (%v)", outcomes, err)
		}
	}
	b.lent = nil
}

// judgeKeys repeats the calls with idempotency keys that were answered.
func (b *boot) judgeKeys() {
	b.Helper()
	c := newClient(b, -1)
	for key := range b.ledger.keys {
		c.repeat(key)
	}
}

// judgeFanouts finds large broadcasts in all queues.
func (b *boot) judgeFanouts() {
	b.Helper()
	v := &verdict{boot: b, now: time.Now()}
	v.readLog()
	v.readShelves()
	v.judgeLarge()
	if jobs, err := b.store.Fanouts(); err != nil || len(jobs) != 0 {
		b.Errorf("fan-outs %v are left (%v)", jobs, err)
	}
}
