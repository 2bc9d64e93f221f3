package storage

import (
	"cmp"
	"errors"
	"slices"
	"time"

	"github.com/gofrs/uuid/v5"

	"github.com/stayafrica/messaging"
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
	if err := r.mendRecords(c); err != nil {
		return err
	}
	for _, step := range []func(*checker) error{r.mendQueues, r.mendOnce, r.mendRest} {
		if err := step(c); err != nil {
			return err
		}
	}
	batch := r.into.NewBatch()
	defer batch.Close()
	batch.PutMeta(r.meta)
	batch.Commit()
	return nil
}

// mendMeta finds out how far the log goes. No sequence that was given out is
// given out again.
func (r *repairer) mendMeta() error {
	first, last := uint64(0), uint64(0)
	err := r.into.Records(0, ^uint64(0), func(seq uint64, _ []byte) (bool, error) {
		if first == 0 {
			first = seq
		}
		last = seq
		return true, nil
	})
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
	return nil
}

// mendRecords puts a record in the place of each that is missing or damaged.
func (r *repairer) mendRecords(c *checker) error {
	batch := r.into.NewBatch()
	defer batch.Close()
	lost := r.config.Codec.Lost(time.Now())
	for _, span := range c.damaged {
		r.done.Lost = append(r.done.Lost, LostRange{span.from, span.to - 1})
		for seq := span.from; seq < span.to; seq++ {
			batch.PutRecord(seq, len(lost), func(dst []byte) { copy(dst, lost) })
			if batch.Len() > repairBatch {
				batch.Commit()
				batch.Reset()
			}
		}
	}
	batch.Commit()
	return nil
}

// mendBroadcasts looks for broadcasts whose receivers are not all there. Those in
// whose queues it stands are known; with none it is lost.
func (r *repairer) mendBroadcasts(c *checker) error {
	if err := c.receivers(); err != nil {
		return err
	}
	broken := make(map[uint64]*brokenBroadcast)
	for id, b := range c.broadcasts {
		if b.chunks < chunksOf(b.recipients) {
			broken[b.sequence] = &brokenBroadcast{id: id}
		}
	}
	if err := r.findReceivers(broken); err != nil {
		return err
	}
	batch := r.into.NewBatch()
	defer batch.Close()
	for seq, b := range broken {
		batch.DeleteReceivers(b.id)
		if b.receivers.Len() == 0 {
			c.damaged = append(c.damaged, struct{ from, to uint64 }{seq, seq + 1})
			continue
		}
		raw, err := r.into.Record(seq)
		if err != nil {
			return err
		}
		raw, err = r.config.Codec.Narrow(raw, uint32(b.receivers.Len())) //nolint:gosec // at most a million
		if err != nil {
			return err
		}
		batch.PutRecord(seq, len(raw), func(dst []byte) { copy(dst, raw) })
		for n, chunk := range b.receivers.Chunks() {
			batch.PutReceivers(b.id, n, chunk)
		}
		batch.DeleteFanout(seq)
		r.drained = min(cmp.Or(r.drained, seq), seq)
		r.change("broadcast %d goes to the %d receivers in whose queues it stands: the others could not be read", seq, b.receivers.Len())
	}
	slices.SortFunc(c.damaged, func(a, b struct{ from, to uint64 }) int { return compareNumbers(a.from, b.from) })
	r.dropOrphans(batch, c)
	batch.Commit()
	return nil
}

// brokenBroadcast is a broadcast whose receivers are not all there.
type brokenBroadcast struct {
	id        messaging.MessageID
	receivers messaging.Receivers
}

func (r *repairer) findReceivers(broken map[uint64]*brokenBroadcast) error {
	if len(broken) == 0 {
		return nil
	}
	var errs []error
	for _, shelf := range []Shelf{Queued, Delayed} {
		errs = append(errs, r.into.scan([]byte{byte(shelf)}, []byte{byte(shelf) + 1}, func(key, value []byte) (bool, error) {
			user, _, seq, err := parseEntryKey(key)
			if b := broken[seq]; err == nil && b != nil {
				e, _ := decodeEntry(value)
				b.receivers.Append(messaging.Receiver{User: user, Quoted: e.Quoted})
			}
			return true, nil
		}))
	}
	return errors.Join(errs...)
}

// dropOrphans removes receivers of what is no broadcast in the log.
func (r *repairer) dropOrphans(batch *Batch, c *checker) {
	var last messaging.MessageID
	err := r.into.scan([]byte{tableReceivers}, []byte{tableReceivers + 1}, func(key, _ []byte) (bool, error) {
		id, _, ok := parseReceiversKey(key)
		if !ok {
			batch.must(batch.batch.Delete(key, nil))
			return true, nil
		}
		if _, known := c.broadcasts[id]; !known && id != last {
			batch.DeleteReceivers(id)
		}
		last = id
		return true, nil
	})
	batch.must(err)
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
	batch.Commit()
	return errors.Join(err, timesErr)
}
