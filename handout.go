package messaging

import (
	"encoding/binary"
	"time"
)

// Receipt is what a sender gets: what was sent is on disk under this id, at
// this place in the log.
type Receipt struct {
	ID       MessageID
	Sequence uint64
	// Recipients is how many users a broadcast goes to.
	Recipients int
	// Count is how many messages were sent at once. They stand one behind the
	// other in the log; [NthID] gives their ids.
	Count int
	// Duplicate says that this is the answer to an earlier call with the same
	// idempotency key, and that nothing was stored now.
	Duplicate bool
}

// NthID gives the id of the nth message, from 0, of those that were sent at
// once: the first one's with its last 62 bits, which are random, counted up
// (RFC 9562 section 6.2, method 2).
func NthID(first MessageID, n int) MessageID {
	const counter = 1<<62 - 1
	low := binary.BigEndian.Uint64(first[8:])
	binary.BigEndian.PutUint64(first[8:], low&^counter|(low+uint64(n))&counter) //nolint:gosec // n is not negative
	return first
}

// TakeOptions says what a reader wants of a queue.
type TakeOptions struct {
	// Limit is how many messages at the most.
	Limit int
	// Bytes bounds them, but for the first one; 0 is 8 MiB.
	Bytes int
	// Lease is for how long they are the reader's, unless acknowledged; 0 takes
	// them for good.
	Lease time.Duration
	// Wait is how long to wait for the first one.
	Wait time.Duration
}

// Handout is messages on their way to a reader. Nobody else gets them until
// Settle was called, which must happen exactly once: true when the reader has
// them, so that they leave the queue or are the reader's for the time of the
// lease; false when they did not arrive and stand where they stood.
type Handout struct {
	Messages []Message
	Settle   func(delivered bool)
}

// Outcome is what became of a receipt.
type Outcome string

// The outcomes. Expired is a receipt whose lease is over, because its time ran
// out, the message was handed out again, or the service was started anew;
// unknown is one that is not of this queue, or whose message has left it.
const (
	Acked    Outcome = "acked"
	Nacked   Outcome = "nacked"
	Extended Outcome = "extended"
	Expired  Outcome = "expired"
	Unknown  Outcome = "unknown"
)

// Counts are how many messages a queue has: to be handed out, by priority,
// under a lease, and due later.
type Counts struct {
	High, Normal, Low, Leased, Delayed uint64
}

// Total is how many there are in all.
func (c Counts) Total() uint64 { return c.High + c.Normal + c.Low + c.Leased + c.Delayed }

// Stats is what the service counts since it started, and where it stands.
type Stats struct {
	Accepted     uint64
	Taken        uint64
	Leased       uint64
	Acknowledged uint64
	Redelivered  uint64
	Evicted      uint64
	Expired      uint64
	Cleared      uint64
	Retained     uint64
	// Relieved counts messages that retention took early, on a full disk.
	Relieved   uint64
	Duplicates uint64
	Persisted  uint64
	// Refused counts failures in which the backend answered, Unreached those in
	// which it did not.
	Refused   uint64
	Unreached uint64
	Queued    int64
	Leases    int
	Waiting   int
	// Fanouts is how many large broadcasts are not in all queues yet.
	Fanouts     int
	LagMessages uint64
	LagTime     time.Duration
}
