package storage

import (
	"cmp"
	"errors"
	"slices"

	"github.com/stayafrica/messaging"
)

// mendTogether is how many receivers are gathered at a time at most, unless a
// single broadcast has more.
const mendTogether = 2_000_000

// mendBroadcasts puts broadcasts right whose receivers are not all there. Those in
// whose queues it stands are known; with none it is lost.
func (r *repairer) mendBroadcasts(c *checker) error {
	for broken := c.broken; len(broken) > 0; {
		n, receivers := 1, uint64(broken[0].recipients)
		for ; n < len(broken); n++ {
			if receivers += uint64(broken[n].recipients); receivers > mendTogether {
				break
			}
		}
		if err := r.mendSome(c, broken[:n]); err != nil {
			return err
		}
		broken = broken[n:]
	}
	c.damaged.sort()
	return r.dropOrphans(c)
}

func (r *repairer) mendSome(c *checker, broken []brokenBroadcast) error {
	found, err := r.findReceivers(broken)
	if err != nil {
		return err
	}
	batch := r.into.NewBatch()
	defer batch.Close()
	for _, b := range broken {
		batch.DeleteReceivers(b.id)
		if receivers := found[b.sequence]; receivers.Len() == 0 {
			c.damaged.add(b.sequence, b.sequence+1)
		} else if err := r.narrow(batch, b, receivers); err != nil {
			return err
		}
		r.writeLarge(batch)
	}
	r.write(batch)
	return nil
}

// narrow makes a broadcast one to fewer receivers.
func (r *repairer) narrow(batch *Batch, b brokenBroadcast, receivers *messaging.Receivers) error {
	raw, err := r.into.Record(b.sequence)
	if err != nil {
		return err
	}
	raw, err = r.config.Codec.Narrow(raw, uint32(receivers.Len())) //nolint:gosec // at most a million
	if err != nil {
		return err
	}
	batch.PutRecord(b.sequence, len(raw), func(dst []byte) { copy(dst, raw) })
	for n, chunk := range receivers.Chunks() {
		batch.PutReceivers(b.id, n, chunk)
	}
	batch.DeleteFanout(b.sequence)
	r.drained = min(cmp.Or(r.drained, b.sequence), b.sequence)
	r.change("broadcast %d goes to the %d receivers of %d in whose queues it stands: the others could not be read", b.sequence, receivers.Len(), b.recipients)
	return nil
}

// findReceivers gives those in whose queues broadcasts stand, by sequence.
func (r *repairer) findReceivers(broken []brokenBroadcast) (map[uint64]*messaging.Receivers, error) {
	found := make(map[uint64]*messaging.Receivers, len(broken))
	for _, b := range broken {
		found[b.sequence] = new(messaging.Receivers)
	}
	var errs []error
	for _, shelf := range []Shelf{Queued, Delayed} {
		errs = append(errs, r.into.scan([]byte{byte(shelf)}, []byte{byte(shelf) + 1}, func(key, value []byte) (bool, error) {
			user, p, seq, err := parseEntryKey(key)
			receivers := found[seq]
			if err != nil || receivers == nil {
				return true, nil //nolint:nilerr // it is dropped later
			}
			if shelf == Delayed {
				if _, twice, err := r.into.Entry(Queued, user, p, seq); err == nil && twice {
					return true, nil
				}
			}
			e, _ := decodeEntry(value)
			receivers.Append(messaging.Receiver{User: user, Quoted: e.Quoted})
			return true, nil
		}))
	}
	return found, errors.Join(errs...)
}

// dropOrphans removes receivers of what is no broadcast in the log.
func (r *repairer) dropOrphans(c *checker) error {
	batch := r.into.NewBatch()
	defer batch.Close()
	var last messaging.MessageID
	err := r.into.scan([]byte{tableReceivers}, []byte{tableReceivers + 1}, func(key, _ []byte) (bool, error) {
		id, _, ok := parseReceiversKey(key)
		switch {
		case !ok:
			batch.must(batch.batch.Delete(key, nil))
		case id != last && !c.broadcasts.has(id):
			batch.DeleteReceivers(id)
		}
		last = id
		r.writeLarge(batch)
		return true, nil
	})
	r.write(batch)
	return err
}

// sort puts ranges in order that do not overlap.
func (s *spans) sort() {
	slices.SortFunc(*s, func(a, b struct{ from, to uint64 }) int { return cmp.Compare(a.from, b.from) })
}
