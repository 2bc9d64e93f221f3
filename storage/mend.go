package storage

import (
	"cmp"
	"errors"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/gofrs/uuid/v5"
)

// mend makes what was copied fit together: every sequence has a record, every
// entry has its record, its count and its times.
func (r *repairer) mend() error {
	if err := r.mendMeta(); err != nil {
		return err
	}
	found := Report{}
	c := newChecker(r.into, r.config.Codec, &found)
	c.meta, c.progress = r.meta, r.config.Progress
	if err := c.records(); err != nil {
		return err
	}
	if err := r.mendBroadcasts(c); err != nil {
		return err
	}
	r.mendRecords(c)
	for _, step := range []func(*checker) error{r.mendQueues, r.mendOnce, r.mendRest} {
		if err := step(c); err != nil {
			return err
		}
	}
	batch := r.into.NewBatch()
	defer batch.Close()
	batch.PutMeta(r.meta)
	r.write(batch)
	return nil
}

// mendMeta finds out how far the log goes. No sequence that was given out is
// given out again. Where the front of the log is lost, the log begins behind it.
func (r *repairer) mendMeta() error {
	first, last, err := r.ends()
	if err != nil {
		return err
	}
	m := &r.meta
	if m.StoreID.IsNil() {
		m.Floor = cmp.Or(first, 1)
		m.StoreID = r.state.id
		r.change("how far the log goes was not to be read: it begins at %d", m.Floor)
	}
	if m.StoreID.IsNil() {
		if m.StoreID, err = uuid.NewV4(); err != nil {
			return err
		}
	}
	m.Floor = max(m.Floor, 1)
	m.Last = max(m.Last, last, r.state.mark.Sequence, m.Floor-1)
	m.Generation = max(m.Generation, r.state.mark.Generation) + 1
	return r.mendFront()
}

// mendFront removes what came back of what retention had removed, and lets the log
// begin at the first record that there is: to fill the place of millions would
// help nobody.
func (r *repairer) mendFront() error {
	m := &r.meta
	batch := r.into.NewBatch()
	defer batch.Close()
	batch.must(batch.batch.DeleteRange(numberKey(tableLog, 0), numberKey(tableLog, m.Floor), nil))
	r.write(batch)
	first, _, err := r.ends()
	if err != nil {
		return err
	}
	if first = cmp.Or(first, m.Last+1); first > m.Floor {
		r.done.Lost = append(r.done.Lost, LostRange{m.Floor, first - 1})
		r.change("the front of the log is lost: it begins at %d instead of %d", first, m.Floor)
		m.Floor = first
	}
	return nil
}

// ends are the first and the last record that there are; 0 where there is none.
func (r *repairer) ends() (first, last uint64, err error) {
	it, err := r.into.db.NewIter(&pebble.IterOptions{LowerBound: []byte{tableLog}, UpperBound: []byte{tableLog + 1}})
	if err != nil {
		return 0, 0, err
	}
	number := func(found bool) (n uint64) {
		if found {
			n, _ = parseNumberKey(it.Key()) // of another length: dropped by copyKeys
		}
		return n
	}
	first, last = number(it.First()), number(it.Last())
	return first, last, errors.Join(it.Error(), it.Close())
}

// mendRecords puts a record in the place of each that is missing or damaged.
func (r *repairer) mendRecords(c *checker) {
	batch := r.into.NewBatch()
	defer batch.Close()
	lost := r.config.Codec.Lost(time.Now())
	for _, span := range c.damaged {
		r.done.Lost = append(r.done.Lost, LostRange{span.from, span.to - 1})
		for seq := span.from; seq < span.to; seq++ {
			batch.PutRecord(seq, len(lost), func(dst []byte) { copy(dst, lost) })
			r.writeLarge(batch)
		}
	}
	r.write(batch)
}

// mendRest drops fan-outs without a broadcast and times that do not fit.
func (r *repairer) mendRest(c *checker) error {
	batch := r.into.NewBatch()
	defer batch.Close()
	err := r.into.scan([]byte{tableFanout}, []byte{tableFanout + 1}, func(key, value []byte) (bool, error) {
		job, err := decodeFanout(key, value)
		if err != nil || !c.hasMessage(job.Sequence) {
			batch.must(batch.batch.Delete(key, nil))
		}
		return true, nil
	})
	last := uint64(0)
	timesErr := r.into.scan([]byte{tableTime}, []byte{tableTime + 1}, func(key, value []byte) (bool, error) {
		seq, err := parseNumberKey(append([]byte{tableTime}, value...))
		if err != nil || len(key) != 9 || seq < last || seq > r.meta.Last {
			batch.must(batch.batch.Delete(key, nil))
			return true, nil //nolint:nilerr // it is dropped
		}
		last = seq
		return true, nil
	})
	r.write(batch)
	return errors.Join(err, timesErr)
}
