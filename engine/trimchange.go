package engine

import (
	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/storage"
	"github.com/stayafrica/messaging/wal"
)

// trimItem is a record that the trimmer has read, with the queue entries to remove.
type trimItem struct {
	sequence uint64
	size     int
	record   wal.Record // without its body
	drops    []drop
	stays    bool // only the entries are removed
}

// drop is a queue entry whose record is removed. The trimmer has pinned its queue.
type drop struct {
	queue    *queue
	priority messaging.Priority
	entry    storage.Entry
}

// cost returns how many writes an item adds to a commit: one for each entry, one for the
// receivers of a broadcast, and one for a tombstone.
func (i *trimItem) cost(tombstone bool) int {
	n := len(i.drops)
	if !i.stays && i.record.IsBroadcast() {
		n++
	}
	if !i.stays && tombstone {
		n++
	}
	return n
}

// trimmed counts what was trimmed.
type trimmed struct {
	messages, bytes uint64 // a broadcast is a message for each receiver
	broadcasts      bool   // some of the messages were broadcasts
}

func (t *trimmed) add(more trimmed) {
	t.messages += more.messages
	t.bytes += more.bytes
	t.broadcasts = t.broadcasts || more.broadcasts
}

// trimChange removes records with their entries. A record below the new first sequence is
// removed by raising the first sequence; one above it is replaced by a tombstone.
type trimChange struct {
	trimmer *trimmer
	items   []trimItem // in ascending order
	// firstSequence is the new first sequence if all items are removed.
	firstSequence uint64
	// next is what the journal watches after this change: the records that the trimmer
	// reads next. If the change is cut, it begins at the cut. again is for
	// [entryJournal.watch].
	next  span
	again bool

	// The results of Stage.
	trimmed
	left []trimItem // items that stay for now, because they changed since they were read
	cut  uint64     // 0, or the first sequence that exceeded the bound of the commit
}

// Records implements [wal.Change]. It returns none.
func (c *trimChange) Records() []wal.Record { return nil }

// Stage implements [wal.Change]. It reads nothing from the disk: the journal has what
// changed since the trimmer read the items.
func (c *trimChange) Stage(tx *wal.Tx) {
	taken := c.decide()
	t := c.trimmer
	for i := range taken {
		item := &taken[i]
		t.dropAll(tx, item)
		if item.stays {
			continue
		}
		tx.CountTrimmed(item.sequence)
		c.messages += uint64(max(1, item.record.Recipients))
		c.bytes += uint64(item.size) //nolint:gosec // not negative
		if item.record.IsBroadcast() {
			c.broadcasts = true
			tx.DeleteReceivers(item.record.Message.ID)
		}
	}
	tombstones := c.putTombstones(tx, taken)
	tx.SetFirstSequence(c.firstSequence)
	t.reentries.take(&takenRecords{firstSequence: tx.FirstSequence(), sequences: tombstones})
	if c.cut != 0 {
		c.next.from = c.cut
	}
	t.journal.watch(c.next, c.again)
}

// decide returns the items to remove. It puts the others into left, and lowers
// firstSequence to the first that stays.
func (c *trimChange) decide() (taken []trimItem) {
	work := 0
	for i := range c.items {
		item := &c.items[i]
		if c.stays(item) {
			c.left = append(c.left, *item)
			c.firstSequence = min(c.firstSequence, item.sequence)
			continue
		}
		if work += item.cost(item.sequence >= c.firstSequence); work > trimWork && i > 0 {
			c.cut = item.sequence
			c.firstSequence = min(c.firstSequence, item.sequence)
			break
		}
		taken = append(taken, *item)
	}
	return taken
}

// stays reports whether an item and its entries stay for now: its message may have been
// enqueued since the item was read, or the journal does not know which of its entries are
// still there.
func (c *trimChange) stays(item *trimItem) bool {
	j := &c.trimmer.journal
	return (!item.stays && j.isEnqueued(item.sequence)) || (len(item.drops) > 0 && j.allRemoved)
}

// putTombstones replaces the removed records at or above the first sequence by tombstones.
func (c *trimChange) putTombstones(tx *wal.Tx, taken []trimItem) (sequences []uint64) {
	for i := range taken {
		if seq := taken[i].sequence; seq >= c.firstSequence && !taken[i].stays {
			tx.TrimRecord(seq, &taken[i].record)
			sequences = append(sequences, seq)
		}
	}
	return sequences
}

// OnDurable implements [wal.Change].
func (c *trimChange) OnDurable() { c.trimmer.reentries.published() }

// dropAll removes the entries of an item that have not changed since they were read.
func (t *trimmer) dropAll(tx *wal.Tx, item *trimItem) {
	for _, d := range item.drops {
		if t.journal.changed(item.sequence, d.queue.user) {
			continue
		}
		d.queue.mu.Lock()
		t.engine.removeLocked(tx, d.queue, storage.Queued, d.priority, item.sequence, d.entry)
		d.queue.mu.Unlock()
	}
}

// trimEnd ends a run. One range delete removes the records below the first sequence, and
// another their entries in the time index.
type trimEnd struct {
	trimmer       *trimmer
	firstSequence uint64
	timeUpTo      int64
}

// Records implements [wal.Change]. It returns none.
func (c *trimEnd) Records() []wal.Record { return nil }

// Stage implements [wal.Change].
func (c *trimEnd) Stage(tx *wal.Tx) {
	tx.SetFirstSequence(c.firstSequence)
	tx.TrimLog(tx.FirstSequence(), c.timeUpTo)
	c.trimmer.reentries.take(&takenRecords{firstSequence: tx.FirstSequence()})
	c.trimmer.journal.watch(span{}, false)
}

// OnDurable implements [wal.Change].
func (c *trimEnd) OnDurable() { c.trimmer.reentries.published() }
