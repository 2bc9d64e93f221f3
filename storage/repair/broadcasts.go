package repair

import (
	"cmp"
	"errors"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/storage/fsck"
	"github.com/stayafrica/messaging/storage/internal/schema"
	"github.com/stayafrica/messaging/storage/internal/tables"
)

// rebuildTogether is how many receivers are collected at a time, unless a single
// broadcast has more.
const rebuildTogether = 2_000_000

// rebuildBroadcasts repairs broadcasts with missing receivers. Their receivers are found
// by their queue entries. A broadcast without any is lost.
func (r *repairer) rebuildBroadcasts(c *fsck.Records) error {
	for broken := c.Broken; len(broken) > 0; {
		n, receivers := 1, uint64(broken[0].Recipients)
		for ; n < len(broken); n++ {
			if receivers += uint64(broken[n].Recipients); receivers > rebuildTogether {
				break
			}
		}
		if err := r.rebuildSome(c, broken[:n]); err != nil {
			return err
		}
		broken = broken[n:]
	}
	c.Damaged.Sort()
	return r.dropOrphans(c)
}

func (r *repairer) rebuildSome(c *fsck.Records, broken []fsck.Broadcast) error {
	found, err := r.findReceivers(broken)
	if err != nil {
		return err
	}
	batch := r.newBatch()
	defer batch.Close()
	for _, b := range broken {
		batch.DeleteReceivers(b.ID)
		if receivers := found[b.Sequence]; receivers.Len() == 0 {
			c.Damaged.Add(b.Sequence, b.Sequence+1)
		} else if err := r.withoutLostReceivers(batch, b, receivers); err != nil {
			return err
		}
		r.writeLarge(batch)
	}
	r.write(batch)
	return nil
}

// withoutLostReceivers sets the receivers of a broadcast to fewer ones.
func (r *repairer) withoutLostReceivers(batch *tables.Batch, b fsck.Broadcast, receivers *messaging.Receivers) error {
	raw, err := r.into.Record(b.Sequence)
	if err != nil {
		return err
	}
	raw, err = r.config.Codec.WithReceivers(raw, uint32(receivers.Len())) //nolint:gosec // at most a million
	if err != nil {
		return err
	}
	batch.PutRecord(b.Sequence, len(raw), func(dst []byte) { copy(dst, raw) })
	for n, chunk := range receivers.Chunks() {
		batch.PutReceivers(b.ID, n, chunk)
	}
	batch.DeleteFanout(b.Sequence)
	r.drained = min(cmp.Or(r.drained, b.Sequence), b.Sequence)
	r.change("broadcast %d goes only to the receivers with it in their queues (%d of %d): the others could not be read", b.Sequence, receivers.Len(), b.Recipients)
	return nil
}

// findReceivers returns the users that have a queue entry of broadcasts, by sequence.
func (r *repairer) findReceivers(broken []fsck.Broadcast) (map[uint64]*messaging.Receivers, error) {
	found := make(map[uint64]*messaging.Receivers, len(broken))
	for _, b := range broken {
		found[b.Sequence] = new(messaging.Receivers)
	}
	var errs []error
	for _, index := range []schema.Index{schema.Queued, schema.Delayed} {
		errs = append(errs, tables.ScanTable(r.into, byte(index), func(key, value []byte) (bool, error) {
			user, p, seq, err := schema.ParseEntryKey(key)
			receivers := found[seq]
			if err != nil || receivers == nil {
				return true, nil //nolint:nilerr // it is dropped later
			}
			if index == schema.Delayed {
				if _, twice, err := r.into.Entry(schema.Queued, user, p, seq); err == nil && twice {
					return true, nil
				}
			}
			e, _ := schema.DecodeEntry(value)
			receivers.Append(messaging.Receiver{User: user, Quoted: e.Quoted})
			return true, nil
		}))
	}
	return found, errors.Join(errs...)
}

// dropOrphans removes the receivers of broadcasts that are not in the log.
func (r *repairer) dropOrphans(c *fsck.Records) error {
	batch := r.newBatch()
	defer batch.Close()
	var last messaging.MessageID
	err := tables.ScanTable(r.into, schema.TableReceivers, func(key, _ []byte) (bool, error) {
		id, _, ok := schema.ParseReceiversKey(key)
		switch {
		case !ok:
			tables.Delete(batch, key)
		case id != last && !c.HasBroadcast(id):
			batch.DeleteReceivers(id)
		}
		last = id
		r.writeLarge(batch)
		return true, nil
	})
	r.write(batch)
	return err
}
