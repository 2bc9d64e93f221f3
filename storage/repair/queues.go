package repair

import (
	"errors"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/storage/fsck"
	"github.com/stayafrica/messaging/storage/internal/schema"
	"github.com/stayafrica/messaging/storage/internal/tables"
)

// rebuildQueues drops entries without a record, and rebuilds counts, heads and timers
// from the remaining ones.
func (r *repairer) rebuildQueues(c *fsck.Records) error {
	counted := r.meta.Queued
	r.meta.Queued = 0
	cleared, err := r.finishClears()
	if err != nil {
		return err
	}
	for _, index := range []schema.Index{schema.Queued, schema.Delayed} {
		m := &queueRebuilder{repairer: r, records: c, index: index, cleared: cleared, batch: r.newBatch()}
		err := tables.ScanTable(r.into, byte(index), m.entry)
		err = errors.Join(err, m.flush())
		r.write(m.batch)
		m.batch.Close()
		if err != nil {
			return err
		}
		if m.dropped > 0 {
			r.change("queue entries of table %c that could not be read or had no record: %d", index, m.dropped)
		}
	}
	if counted > r.meta.Queued {
		r.change("queued messages: %d before, %d now; the others are no longer delivered, but still go to the backend unless they are lost", counted, r.meta.Queued)
	}
	return nil
}

// finishClears removes the marks of clears and returns them. An unreadable mark marks
// nothing.
func (r *repairer) finishClears() (schema.Cleared, error) {
	cleared := make(schema.Cleared)
	batch := r.newBatch()
	defer batch.Close()
	err := tables.ScanTable(r.into, schema.TableClear, func(key, value []byte) (bool, error) {
		if c, err := schema.DecodeClear(key, value); err == nil {
			cleared[c.User] = c.UpTo
		}
		tables.Delete(batch, key)
		return true, nil
	})
	r.write(batch)
	return cleared, err
}

// queueRebuilder visits one index, user by user.
type queueRebuilder struct {
	repairer *repairer
	records  *fsck.Records
	index    schema.Index
	cleared  schema.Cleared
	batch    *tables.Batch
	user     messaging.UserID
	depth    schema.Depth
	dropped  int
}

func (m *queueRebuilder) entry(key, value []byte) (bool, error) {
	user, p, seq, err := schema.ParseEntryKey(key)
	if err == nil && m.cleared.Has(user, seq) {
		tables.Delete(m.batch, key)
		m.repairer.writeLarge(m.batch)
		return true, nil
	}
	e, valueErr := schema.DecodeEntry(value)
	meta := &m.repairer.meta
	if errors.Join(err, valueErr) != nil || !m.records.HasMessage(seq) || (m.index == schema.Delayed && m.isInvalid(user, p, seq, e)) {
		m.dropped++
		tables.Delete(m.batch, key)
		return true, nil //nolint:nilerr // it is dropped
	}
	if user != m.user {
		if err := m.flush(); err != nil {
			return false, err
		}
		m.user = user
	}
	if m.depth.Counts[p] == 0 {
		m.depth.Heads[p] = seq
	}
	m.depth.Counts[p]++
	meta.Queued++
	if m.index == schema.Delayed {
		m.batch.PutTimer(schema.Due, schema.Timer{At: e.Due, Sequence: seq, User: user}, p)
	}
	if e.Expires != 0 {
		m.batch.PutTimer(schema.Expiry, schema.Timer{At: e.Expires, Sequence: seq, User: user}, p)
	}
	m.repairer.writeLarge(m.batch)
	return true, nil
}

// isInvalid reports whether an entry of the delayed index is invalid: it has no due time, or
// the message is already queued.
func (m *queueRebuilder) isInvalid(user messaging.UserID, p messaging.Priority, seq uint64, e schema.Entry) bool {
	_, twice, err := m.repairer.into.Entry(schema.Queued, user, p, seq)
	return e.Due == 0 || twice || err != nil
}

// flush writes the counts of the current user.
func (m *queueRebuilder) flush() error {
	if m.depth == (schema.Depth{}) {
		return nil
	}
	u, err := m.repairer.into.QueueState(m.user)
	if err != nil {
		return err
	}
	*u.On(m.index) = m.depth
	m.batch.PutQueueState(m.user, &u)
	m.depth = schema.Depth{}
	return nil
}

// rebuildIdempotency drops unreadable idempotency keys, and rebuilds the expiries of the
// others.
func (r *repairer) rebuildIdempotency(*fsck.Records) error {
	batch := r.newBatch()
	defer batch.Close()
	dropped := 0
	err := tables.ScanTable(r.into, schema.TableIdempotency, func(key, value []byte) (bool, error) {
		o, err := schema.DecodeIdempotencyRecord(value)
		if err != nil || len(key) < 1+16+1 || len(key) > 1+16+messaging.MaxIdempotencyKey {
			dropped++
			tables.Delete(batch, key)
			return true, nil //nolint:nilerr // it is dropped
		}
		tables.Set(batch, schema.IdempotencyExpiryKey(o.Expires, [16]byte(key[1:17]), string(key[17:])), nil)
		r.writeLarge(batch)
		return true, nil
	})
	r.write(batch)
	if dropped > 0 {
		r.change("unreadable idempotency keys: %d", dropped)
	}
	return err
}
