package messaging

import (
	"encoding/binary"
	"time"
)

// SendResult is the result of a send. The message is on disk with this id, at this
// sequence of the log.
type SendResult struct {
	ID       MessageID
	Sequence uint64
	// Recipients is the number of receivers of a broadcast.
	Recipients int
	// Count is the number of messages of a batch. Their sequences are consecutive;
	// [BatchID] returns their ids.
	Count int
	// Duplicate is true if this is the result of an earlier call with the same
	// idempotency key; this call stored nothing.
	Duplicate bool
}

// BatchID returns the id of the nth message of a batch, counted from 0: the id of
// the first message with n added to its last 62 bits, which are random (RFC 9562
// section 6.2, method 2).
func BatchID(first MessageID, n int) MessageID {
	const counter = 1<<62 - 1
	low := binary.BigEndian.Uint64(first[8:])
	binary.BigEndian.PutUint64(first[8:], low&^counter|(low+uint64(n))&counter) //nolint:gosec // n is not negative
	return first
}

// TakeOptions are the options of a take.
type TakeOptions struct {
	// Limit is the largest number of messages.
	Limit int
	// Bytes is the largest total size of the messages; 0 is 8 MiB. The first
	// message may exceed it.
	Bytes int
	// Lease is the duration of the lease; with 0 the messages leave the queue.
	Lease time.Duration
	// Wait is the longest wait for the first message.
	Wait time.Duration
	// Quota bounds the leases of the reader; nil for no limit of its own.
	Quota LeaseQuota
}

// LeaseQuota counts the leases of one caller. Its methods are called concurrently, also
// under locks: they must not block.
type LeaseQuota interface {
	// Lease counts up to n more leases, and returns how many. If none are left it
	// returns an error.
	Lease(n int) (counted int, err error)
	// EndLease ends the count of n leases.
	EndLease(n int)
}

// Delivery is a set of messages that are being delivered to one reader. No other
// reader gets them until Finish is called. The owner calls Finish exactly once: with
// true if the reader received them, and they leave the queue or stay leased; with
// false if they did not arrive, and they are back at their positions in the queue.
type Delivery struct {
	Messages []Message
	Finish   func(delivered bool)
}

// Outcome is the result of a call for one receipt.
type Outcome string

// The outcomes. Expired is a receipt whose lease has ended: its time ran out, the
// message was delivered again, or the service restarted. Unknown is a receipt of
// another queue, or of a message that has left the queue.
const (
	Acked    Outcome = "acked"
	Nacked   Outcome = "nacked"
	Extended Outcome = "extended"
	Expired  Outcome = "expired"
	Unknown  Outcome = "unknown"
)

// Counts are the numbers of messages in a queue: available ones by priority, leased
// ones, and delayed ones.
type Counts struct {
	High, Normal, Low, Leased, Delayed uint64
}

// Total returns the number of all messages in the queue.
func (c Counts) Total() uint64 { return c.High + c.Normal + c.Low + c.Leased + c.Delayed }

// DrainState is the state of the drain, which sends messages to the backend.
type DrainState string

// The states. A waiting drain retries until the backend recovers, and sends nothing
// else.
const (
	DrainOff     DrainState = "off"
	DrainRunning DrainState = "running"
	DrainWaiting DrainState = "waiting"
)

// Stats are the counters since the start of the service, and its current state.
// A broadcast counts as one message for each receiver.
type Stats struct {
	Accepted     uint64
	Taken        uint64
	Leased       uint64
	Acknowledged uint64
	Redelivered  uint64
	Evicted      uint64
	Expired      uint64
	Cleared      uint64
	TrimmedByAge uint64
	// TrimmedEarly counts messages that were removed before their retention ended,
	// because the disk was full.
	TrimmedEarly uint64
	Duplicates   uint64
	Persisted    uint64
	// Refused counts failures with a response of the backend, Unreached failures
	// without one.
	Refused   uint64
	Unreached uint64
	Queued    int64
	Leases    int
	Waiting   int
	// Fanouts is the number of large broadcasts that are not yet in all queues.
	Fanouts int
	Drain   DrainState
	// LagMessages is the number of sequences that the drain has not yet sent (a
	// broadcast is one), and LagTime the age of the oldest message among them.
	LagMessages uint64
	LagTime     time.Duration
}
