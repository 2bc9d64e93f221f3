package repair

import (
	"cmp"
	"errors"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/gofrs/uuid/v5"

	"github.com/stayafrica/messaging/storage/fsck"
	"github.com/stayafrica/messaging/storage/internal/schema"
	"github.com/stayafrica/messaging/storage/internal/tables"
)

// rebuild makes the copied tables consistent: every sequence has a record, and every
// entry has a record, a count and its timers.
func (r *repairer) rebuild() error {
	if err := r.rebuildMeta(); err != nil {
		return err
	}
	c, err := fsck.CheckRecords(r.into, r.config.Codec, r.meta, r.config.Progress)
	if err != nil {
		return err
	}
	if err := r.rebuildBroadcasts(c); err != nil {
		return err
	}
	r.rebuildRecords(c)
	for _, step := range []func(*fsck.Records) error{r.rebuildQueues, r.rebuildIdempotency, r.rebuildRest, r.rebuildLetters} {
		if err := step(c); err != nil {
			return err
		}
	}
	batch := r.newBatch()
	defer batch.Close()
	r.meta.Trimmed = schema.TrimmedUnknown
	batch.PutMeta(r.meta)
	r.write(batch)
	return nil
}

// rebuildMeta determines the range of the log. No assigned sequence is assigned again. If
// the front of the log is lost, the log begins after it.
func (r *repairer) rebuildMeta() error {
	first, last, err := r.ends()
	if err != nil {
		return err
	}
	m := &r.meta
	if m.StoreID.IsNil() {
		m.FirstSequence = cmp.Or(first, 1)
		m.StoreID = r.state.id.StoreID
		r.change("the meta record could not be read: the log begins at %d", m.FirstSequence)
	}
	if m.StoreID.IsNil() {
		if m.StoreID, err = uuid.NewV4(); err != nil {
			return err
		}
	}
	m.FirstSequence = max(m.FirstSequence, 1)
	m.Last = max(m.Last, last, r.state.mark.Sequence, m.FirstSequence-1)
	m.Generation = max(m.Generation, r.state.mark.Generation) + 1
	return r.rebuildFront()
}

// rebuildFront removes salvaged records that retention had removed. It then sets the
// first sequence to the first existing record: filling a gap of millions of sequences has
// no use.
func (r *repairer) rebuildFront() error {
	m := &r.meta
	batch := r.newBatch()
	defer batch.Close()
	tables.DeleteRange(batch, schema.NumberKey(schema.TableLog, 0), schema.NumberKey(schema.TableLog, m.FirstSequence))
	r.write(batch)
	first, _, err := r.ends()
	if err != nil {
		return err
	}
	if first = cmp.Or(first, m.Last+1); first > m.FirstSequence {
		r.done.Lost = append(r.done.Lost, LostRange{m.FirstSequence, first - 1})
		r.change("the front of the log is lost: the log begins at %d instead of %d", first, m.FirstSequence)
		m.FirstSequence = first
	}
	return nil
}

// ends returns the first and the last existing sequence, or 0 if there is none.
func (r *repairer) ends() (first, last uint64, err error) {
	it, err := r.db.NewIter(&pebble.IterOptions{LowerBound: []byte{schema.TableLog}, UpperBound: []byte{schema.TableLog + 1}})
	if err != nil {
		return 0, 0, err
	}
	number := func(found bool) (n uint64) {
		if found {
			n, _ = schema.ParseNumberKey(it.Key()) // copyKeys drops keys of another length
		}
		return n
	}
	first, last = number(it.First()), number(it.Last())
	return first, last, errors.Join(it.Error(), it.Close())
}

// rebuildRecords writes a record in the place of each missing or damaged one.
func (r *repairer) rebuildRecords(c *fsck.Records) {
	batch := r.newBatch()
	defer batch.Close()
	lost := r.config.Codec.Lost(time.Now())
	for _, span := range c.Damaged {
		r.done.Lost = append(r.done.Lost, LostRange{span.From, span.To - 1})
		for seq := span.From; seq < span.To; seq++ {
			batch.PutRecord(seq, len(lost), func(dst []byte) { copy(dst, lost) })
			r.writeLarge(batch)
		}
	}
	r.write(batch)
}

// rebuildRest drops fan-outs without a broadcast and inconsistent times.
func (r *repairer) rebuildRest(c *fsck.Records) error {
	batch := r.newBatch()
	defer batch.Close()
	err := tables.ScanTable(r.into, schema.TableFanout, func(key, value []byte) (bool, error) {
		job, err := schema.DecodeFanout(key, value)
		if err != nil || !c.HasMessage(job.Sequence) {
			tables.Delete(batch, key)
		}
		return true, nil
	})
	last := uint64(0)
	timesErr := tables.ScanTable(r.into, schema.TableTime, func(key, value []byte) (bool, error) {
		seq, err := schema.ParseNumberKey(append([]byte{schema.TableTime}, value...))
		if err != nil || len(key) != 9 || seq < last || seq > r.meta.Last {
			tables.Delete(batch, key)
			return true, nil //nolint:nilerr // it is dropped
		}
		last = seq
		return true, nil
	})
	r.write(batch)
	return errors.Join(err, timesErr)
}
