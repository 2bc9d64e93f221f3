package engine_test

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/storage"
	"github.com/stayafrica/messaging/wal"
)

// judge compares what a start recovered with the ledger, before anything runs, and records
// in the ledger the outcome of calls that were in progress. The start has fired the timers
// that came due before it. It returns false if the power was cut again, or if something is
// wrong.
func (b *boot) judge() bool {
	b.Helper()
	v := &verdict{boot: b, now: time.Now()}
	b.readCounts()
	v.readLog()
	v.readIndexes()
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

// verdict is a judgement in progress.
type verdict struct {
	*boot

	now time.Time // when the service was started
	// found has the sequence of each message in the log.
	found map[address]uint64
	large map[uint64]string // texts of the large broadcasts in the log
	ids   map[uint64]messaging.MessageID
	born  map[uint64]time.Time
	// trimmed has the tombstones.
	trimmed map[uint64]bool
	// entryOf has the index and the entry of each message.
	entryOf map[address]indexEntry
	entries map[uint64]int // of large broadcasts
	dead    map[address]bool
}

type indexEntry struct {
	index    storage.Index
	priority messaging.Priority
	sequence uint64
	entry    storage.Entry
}

// readLog reads all records. There must be no gap (invariant 2).
func (v *verdict) readLog() {
	v.Helper()
	v.found, v.large = make(map[address]uint64), make(map[uint64]string)
	v.ids, v.born, v.trimmed = make(map[uint64]messaging.MessageID), make(map[uint64]time.Time), make(map[uint64]bool)
	for seq := v.log.FirstSequence(); seq <= v.log.Durable(); seq++ {
		record, err := v.record(seq)
		if err != nil {
			v.Errorf("record %d of %d to %d: %v", seq, v.log.FirstSequence(), v.log.Durable(), err)
			return
		}
		v.ids[seq], v.born[seq] = record.Message.ID, record.Message.CreatedAt
		if record.Trimmed {
			v.trimmed[seq] = true
			continue
		}
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

// record reads a record or a tombstone.
func (v *verdict) record(seq uint64) (wal.Record, error) {
	record, err := v.log.Record(seq)
	if !errors.Is(err, storage.ErrNotFound) {
		return record, err
	}
	raw, err := v.store.Record(seq)
	if err != nil {
		return record, err
	}
	return wal.DecodeRecord(raw)
}

// isTrimmed reports whether either policy has trimmed the record of a message.
func (v *verdict) isTrimmed(seq uint64) bool {
	return seq != 0 && (seq < v.log.FirstSequence() || v.trimmed[seq])
}

func (v *verdict) note(a address, seq uint64) {
	if v.found[a] != 0 {
		v.Errorf("message %v is in the log at %d and at %d", a, v.found[a], seq)
	}
	if v.ledger.messages[a] == nil {
		v.Errorf("message %v is in the log at %d, and was never sent", a, seq)
	}
	v.found[a] = seq
}

// readIndexes reads all entries. Each has its record, and is in one index only (invariant
// 4).
func (v *verdict) readIndexes() {
	v.Helper()
	v.entryOf, v.entries = make(map[address]indexEntry), make(map[uint64]int)
	at := make(map[uint64]map[messaging.UserID]address)
	for a, seq := range v.found {
		if at[seq] == nil {
			at[seq] = make(map[messaging.UserID]address)
		}
		at[seq][a.user] = a
	}
	for _, index := range []storage.Index{storage.Queued, storage.Delayed} {
		err := v.store.AllEntries(index, func(user messaging.UserID, p messaging.Priority, seq uint64) bool {
			if v.large[seq] != "" {
				v.entries[seq]++
				return true
			}
			a, ok := at[seq][user]
			if !ok {
				v.Errorf("user %s has an entry of %d, which is no message for this user", user, seq)
				return true
			}
			if before, twice := v.entryOf[a]; twice {
				v.Errorf("message %v is in index %c and in index %c", a, before.index, index)
			}
			entry, _, err := v.store.Entry(index, user, p, seq)
			if err != nil {
				v.Errorf("entry %d of %s: %v", seq, user, err)
			}
			v.entryOf[a] = indexEntry{index, p, seq, entry}
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
	page, err := v.engine.DeadLetters().ListDeadLetters(messaging.DeadLetterFilter{Limit: 1000})
	if err != nil {
		v.Errorf("list dead letters: %v", err)
	}
	for i := range page.DeadLetters {
		recipients, err := v.engine.DeadLetters().DeadRecipients(&page.DeadLetters[i], "", 1000)
		if err != nil {
			v.Errorf("list the recipients of a dead letter: %v", err)
		}
		for j := range recipients {
			m := &recipients[j].Message
			v.dead[address{m.Receiver.User, texts(v, []messaging.Message{*m})[0]}] = true
		}
	}
}

// judgeMessages checks each message that a client knows. One that is missing without a
// reason must have been evicted.
func (v *verdict) judgeMessages() {
	v.Helper()
	missing := []string{}
	for a, m := range v.ledger.messages {
		seq := v.found[a]
		trimmed := v.isTrimmed(m.sequence)
		if m.acknowledged && seq != m.sequence && !trimmed {
			v.Errorf("message %v was acknowledged at %d and is in the log at %d", a, m.sequence, seq)
			continue
		}
		s, stands := v.entryOf[a]
		switch {
		case trimmed && !m.trimmed && v.dead[a] && v.mayBeRedriven(m):
			v.Errorf("message %v was trimmed early, and a redrive of its dead letter needs it", a)
		case !stands && (seq != 0 || trimmed) && !v.explained(m):
			missing = append(missing, fmt.Sprintf("%+v", *m))
		case stands && m.gone != 0:
			v.Errorf("message %v was removed and is back", a)
		case stands:
			v.judgeEntry(m, s)
		}
	}
	if uint64(len(missing)) > v.evicted {
		v.Errorf("messages are in no queue at %s: %s; %d were evicted, with %+v", v.now, strings.Join(missing, ", "), v.evicted, v.config)
	}
}

// explained reports whether a message may be in no queue. At the age of the retention, its
// entry may be trimmed before its record.
func (v *verdict) explained(m *sent) bool {
	expired := !m.expires.IsZero() && !m.expires.After(v.now.Add(time.Millisecond))
	return !v.isEarly(m) || m.removing > 0 || m.unsure || m.gone != 0 || expired || v.dead[m.address]
}

// mayBeRedriven reports whether a dead letter's message is younger than the retention and
// was used by no other call. A letter may be written of a message that is cleared or
// evicted at the same time, and a crash may keep the letter although a redrive has removed
// it.
func (v *verdict) mayBeRedriven(m *sent) bool {
	return v.isEarly(m) && m.redrives == 0 && m.removals == 0 && !m.unsure && m.gone == 0 && v.evicted == 0
}

// isEarly reports whether a message is younger than the retention. If the retention is so
// short that a life may exceed it, messages below the first sequence count as older.
func (v *verdict) isEarly(m *sent) bool {
	born, known := v.born[max(v.found[m.address], m.sequence)]
	if !known {
		return v.config.Retention > time.Hour
	}
	return v.now.Sub(born) < v.config.Retention
}

// judgeEntry compares an entry with the responses that its readers got.
func (v *verdict) judgeEntry(m *sent, s indexEntry) {
	v.Helper()
	exhausted := v.config.MaxDeliveries > 0 && s.entry.Deliveries >= v.config.MaxDeliveries
	switch {
	case s.priority != m.priority:
		v.Errorf("message %v has priority %s and its entry %s", m.address, m.priority, s.priority)
	case s.entry.Deliveries < m.deliveries:
		v.Errorf("message %v was delivered %d times and its entry counts %d", m.address, m.deliveries, s.entry.Deliveries)
	case m.acknowledged && m.due.After(v.now) && s.index != storage.Delayed && !exhausted:
		v.Errorf("message %v is due at %s, and is in its queue at %s", m.address, m.due, v.now)
	case s.index == storage.Delayed && s.entry.Due < m.due.Truncate(time.Millisecond).UnixMilli():
		v.Errorf("message %v is due at %s, and in its entry at %s", m.address, m.due, time.UnixMilli(s.entry.Due))
	}
}

// judgeGroups expects all messages of a batch or none.
func (v *verdict) judgeGroups() {
	v.Helper()
	groups := make(map[*group]bool)
	for a, m := range v.ledger.messages {
		if m.group == nil || v.isTrimmed(m.sequence) {
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
		if g.found != 0 && g.found != g.size && v.log.FirstSequence() == 1 && len(v.trimmed) == 0 {
			v.Errorf("%d of the %d messages of a batch are in the log", g.found, g.size)
		}
	}
}

// judgeLarge expects each large broadcast in as many queues as its fan-out position says.
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
			v.Errorf("broadcast %q is in the log and was never sent", text)
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
