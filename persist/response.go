package persist

import (
	"context"
	"time"

	"github.com/stayafrica/messaging"
)

// Class classifies a response of the backend to a batch.
type Class int

// The classes. The contract's table defines which response has which class.
const (
	// Accounted means that the response reports a result for every message. Messages
	// with an error are counted as message_error.
	Accounted Class = iota
	// Mismatched means a 2xx status whose numbers do not add up.
	Mismatched
	// Rejected means that the backend refuses the whole batch (400, 413, 422).
	Rejected
	// Misconfigured means that the response is not about messages (a login page, 401,
	// 404, a redirect).
	Misconfigured
	// Throttled means that the backend asks for fewer requests (429).
	Throttled
	// TimedOut means that there was no response in time. The batch may have been
	// stored.
	TimedOut
	// Unavailable means that the backend failed (5xx) or sent an incomplete response.
	Unavailable
	// Unreached means that there was no connection.
	Unreached
)

var classNames = [...]string{
	"message_error", "mismatched", "rejected", "misconfigured", "throttled", "timed_out", "unavailable", "unreached",
}

// String returns the name that metrics and logs use.
func (c Class) String() string { return classNames[c] }

// Classes returns all classes that are counted, for metrics.
func Classes() []Class {
	return []Class{Accounted, Mismatched, Rejected, Misconfigured, Throttled, TimedOut, Unavailable, Unreached}
}

// answered reports whether the backend responded at all.
func (c Class) responded() bool { return c != TimedOut && c != Unreached }

// judgesMessages reports whether the response is about the messages of the batch. Any
// other response is an outage.
func (c Class) judgesMessages() bool { return c == Accounted || c == Mismatched || c == Rejected }

// Result is the result of one message of a batch.
type Result struct {
	// Stored means that the backend has the message, stored now or earlier.
	Stored bool
	// Error is why the message was not stored.
	Error string
	// Permanent means that the backend calls the error permanent.
	Permanent bool
	// Suspect means that the error text looks permanent. It counts as permanent only
	// with evidence.
	Suspect bool
}

// Response is the backend's response to a batch.
type Response struct {
	Class Class
	// Results has one result per message, in the order of the batch, if Class is
	// Accounted.
	Results []Result
	// Old means that the backend stored nothing now: it had the messages already.
	Old bool
	// Status is the HTTP status; 0 without a response.
	Status int
	// Reason says in a sentence what was wrong.
	Reason string
	// RetryAfter is the pause that the backend asks for; 0 if it names none.
	RetryAfter time.Duration
}

// Sink stores batches. Deliver reports every failure as a response. It is called from
// several goroutines.
type Sink interface {
	Deliver(ctx context.Context, batch []messaging.Message) Response
}

// Source is the log that is drained.
type Source interface {
	// Read returns the messages from a position on, in order, and the position after
	// them. It returns no messages at the end of the log. A sequence that Read passes
	// without returning a message was trimmed, at the front of the log or further on.
	Read(from messaging.Position, limit, maxBytes int) ([]messaging.Message, messaging.Position, error)
	// Wait returns when the log has something at or after a position.
	Wait(ctx context.Context, from messaging.Position) error
	// Durable returns the last durable sequence.
	Durable() uint64
	// FirstSequence returns the first sequence that retention has kept.
	FirstSequence() uint64
}
