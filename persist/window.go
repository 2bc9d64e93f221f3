package persist

import (
	"time"

	"github.com/stayafrica/messaging"
)

// maxWindow is how many messages may be read and still be at or above the position. It
// bounds memory and what a restart may send again.
const maxWindow = 100_000

// item is a message that was read and that the position has not passed: it, or a
// message before it, is not settled.
type item struct {
	attemptInfo

	position messaging.Position
	created  time.Time
	lane     *lane
	// message is loaded while the message is about to be sent. An item that waits
	// longer drops it and reads it again.
	message *messaging.Message
	// bytes is the approximate size of the message in a batch.
	bytes int
	// single means that the message needs a batch of its own: it has a number that some
	// backends cannot parse, which would fail the whole batch.
	single  bool
	readAt  time.Time
	settled bool
	// gone is how many sequences, from this item's on, were trimmed before they were
	// settled.
	gone uint64
}

// setMessage sets the message of the item.
func (it *item) setMessage(m *messaging.Message) {
	it.message, it.bytes = m, len(m.Body)+messaging.JSONOverhead
	it.single = messaging.HasUnreadableNumber(m.Body)
}

// needsOwnBatch reports whether the item is sent in a batch of its own.
func (it *item) needsOwnBatch() bool { return it.alone || it.single }

// loadedBytes returns how many bytes the item holds in memory.
func (it *item) loadedBytes() int {
	if it.message == nil {
		return 0
	}
	return it.bytes
}

// window holds the items in the order of the log. Its front is the position.
type window struct {
	items []*item
	front int
	next  messaging.Position // where the next read begins
	gone  uint64             // trimmed sequences that the position has passed
	last  uint64             // the last of them: the copies of a broadcast share one sequence
}

func (w *window) push(it *item) { w.items = append(w.items, it) }

// markTrimmed records that the sequences from a position on, and before to, were
// trimmed.
func (w *window) markTrimmed(from messaging.Position, to uint64) {
	if from.Sequence < to {
		w.push(&item{position: from, settled: true, gone: to - from.Sequence})
	}
}

// advance counts the trimmed sequences of an item that the position passes.
func (w *window) advance(it *item) {
	if it.gone == 0 {
		return
	}
	if w.gone += it.gone; it.position.Sequence == w.last {
		w.gone--
	}
	w.last = it.position.Sequence + it.gone - 1
}

// passed returns how many trimmed sequences are behind the position. It does not count
// the sequence that the position is in: a drain that starts at the position counts that
// one.
func (w *window) passed() uint64 {
	if w.gone > 0 && w.position().Sequence == w.last {
		return w.gone - 1
	}
	return w.gone
}

// len returns how many items there are, including settled items after the front.
func (w *window) len() int { return len(w.items) - w.front }

func (w *window) full() bool { return w.len() >= maxWindow }

// position returns the lowest position that is not settled.
func (w *window) position() messaging.Position {
	for w.front < len(w.items) && w.items[w.front].settled {
		w.advance(w.items[w.front])
		w.items[w.front] = nil
		w.front++
	}
	if w.front == len(w.items) {
		w.items, w.front = w.items[:0], 0
		return w.next
	}
	if w.front > maxWindow {
		w.items = append([]*item(nil), w.items[w.front:]...)
		w.front = 0
	}
	return w.items[w.front].position
}

// oldest returns when the message at the front was created; zero if there is none.
func (w *window) oldest() time.Time {
	if w.len() == 0 {
		return time.Time{}
	}
	return w.items[w.front].created
}
