package storage

import (
	"errors"

	"github.com/stayafrica/messaging"
)

// mendQueues drops entries that have no record, and makes counts, heads and times
// anew from those that are left.
func (r *repairer) mendQueues(c *checker) error {
	counted := r.meta.Queued
	r.meta.Queued = 0
	for _, shelf := range []Shelf{Queued, Delayed} {
		m := &queueMender{repairer: r, checker: c, shelf: shelf, batch: r.into.NewBatch()}
		err := r.into.scan([]byte{byte(shelf)}, []byte{byte(shelf) + 1}, m.entry)
		err = errors.Join(err, m.flush())
		r.write(m.batch)
		m.batch.Close()
		if err != nil {
			return err
		}
		if m.dropped > 0 {
			r.change("%d entries of queues (table %c) had no record, or could not be read", m.dropped, shelf)
		}
	}
	if counted > r.meta.Queued {
		r.change("%d messages were queued and %d are: the others are not handed out any more; those that are not lost still go to the backend", counted, r.meta.Queued)
	}
	return nil
}

// queueMender goes through one shelf, user by user.
type queueMender struct {
	repairer *repairer
	checker  *checker
	shelf    Shelf
	batch    *Batch
	user     messaging.UserID
	tally    Tally
	dropped  int
}

func (m *queueMender) entry(key, value []byte) (bool, error) {
	user, p, seq, err := parseEntryKey(key)
	e, valueErr := decodeEntry(value)
	meta := &m.repairer.meta
	if errors.Join(err, valueErr) != nil || !m.checker.hasMessage(seq) || (m.shelf == Delayed && m.stands(user, p, seq, e)) {
		m.dropped++
		m.batch.must(m.batch.batch.Delete(key, nil))
		return true, nil //nolint:nilerr // it is dropped
	}
	if user != m.user {
		if err := m.flush(); err != nil {
			return false, err
		}
		m.user = user
	}
	if m.tally.Counts[p] == 0 {
		m.tally.Heads[p] = seq
	}
	m.tally.Counts[p]++
	meta.Queued++
	if m.shelf == Delayed {
		m.batch.PutTimer(Due, Timer{e.Due, seq, user}, p)
	}
	if e.Expires != 0 {
		m.batch.PutTimer(Expiry, Timer{e.Expires, seq, user}, p)
	}
	m.repairer.writeLarge(m.batch)
	return true, nil
}

// stands says whether an entry of what is due later is not one: it does not say
// when, or it is in the queue already.
func (m *queueMender) stands(user messaging.UserID, p messaging.Priority, seq uint64, e Entry) bool {
	_, twice, err := m.repairer.into.Entry(Queued, user, p, seq)
	return e.Due == 0 || twice || err != nil
}

// flush writes the counts of the user that ends.
func (m *queueMender) flush() error {
	if m.tally == (Tally{}) {
		return nil
	}
	u, err := m.repairer.into.User(m.user)
	if err != nil {
		return err
	}
	*u.On(m.shelf) = m.tally
	m.batch.PutUser(m.user, &u)
	m.tally = Tally{}
	return nil
}

// mendOnce drops idempotency keys that cannot be read, and notes when the others
// may go.
func (r *repairer) mendOnce(*checker) error {
	batch := r.into.NewBatch()
	defer batch.Close()
	dropped := 0
	err := r.into.scan([]byte{tableOnce}, []byte{tableOnce + 1}, func(key, value []byte) (bool, error) {
		o, err := decodeOnce(value)
		if err != nil || len(key) < 1+16+1 || len(key) > 1+16+messaging.MaxIdempotencyKey {
			dropped++
			batch.must(batch.batch.Delete(key, nil))
			return true, nil //nolint:nilerr // it is dropped
		}
		batch.must(batch.batch.Set(onceEndKey(o.Expires, [16]byte(key[1:17]), string(key[17:])), nil, nil))
		r.writeLarge(batch)
		return true, nil
	})
	r.write(batch)
	if dropped > 0 {
		r.change("%d idempotency keys could not be read", dropped)
	}
	return err
}
