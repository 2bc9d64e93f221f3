package persist

import (
	"context"
	"time"

	"github.com/stayafrica/messaging"
)

// Verdict is what an answer of the backend means for a batch.
type Verdict int

// The verdicts; the contract's table says which answer is which.
const (
	// Accounted: the answer says of every message what became of it; what it has
	// errors for is counted as message_error.
	Accounted Verdict = iota
	// Mismatched: a good status whose numbers do not add up.
	Mismatched
	// Rejected: the backend will not have this batch (400, 413, 422).
	Rejected
	// Misconfigured: the answer is not about messages at all (a login page, 401,
	// 404, a redirect).
	Misconfigured
	// Throttled: come back later (429).
	Throttled
	// TimedOut: no answer in time; the batch may have been stored.
	TimedOut
	// Unavailable: the backend is out of order (5xx) or gave half an answer.
	Unavailable
	// Unreached: there was no connection.
	Unreached
)

var verdictNames = [...]string{
	"message_error", "mismatched", "rejected", "misconfigured", "throttled", "timed_out", "unavailable", "unreached",
}

// String gives the name that metrics and logs use.
func (v Verdict) String() string { return verdictNames[v] }

// Verdicts lists all that is counted, for metrics.
func Verdicts() []Verdict {
	return []Verdict{Accounted, Mismatched, Rejected, Misconfigured, Throttled, TimedOut, Unavailable, Unreached}
}

// answered says whether the backend spoke at all.
func (v Verdict) answered() bool { return v != TimedOut && v != Unreached }

// Result is what became of one message of a batch.
type Result struct {
	// Stored says that the backend has it, from now or from before.
	Stored bool
	// Error is why it does not.
	Error string
	// Permanent says that the backend says it never will.
	Permanent bool
	// Hopeless says that the error reads as if it never would; it is taken for
	// true only with evidence.
	Hopeless bool
}

// Answer is the backend's word on a batch.
type Answer struct {
	Verdict Verdict
	// Results has one for each message, in the batch's order, when Accounted.
	Results []Result
	// Old says that it stored nothing now: what it has, it had before.
	Old bool
	// Status is the HTTP status, 0 where there was none.
	Status int
	// Reason says in a sentence what was wrong.
	Reason string
	// RetryAfter is when the backend wants to be asked again; 0 where it did
	// not say.
	RetryAfter time.Duration
}

// Sink stores batches. Deliver never fails otherwise than by its answer; it
// is called by several goroutines.
type Sink interface {
	Deliver(ctx context.Context, batch []messaging.Message) Answer
}

// Source is the log that is drained.
type Source interface {
	// Read gives the messages from a position on, in order, and the position
	// behind them; it gives none at the end of the log.
	Read(from messaging.Position, limit, maxBytes int) ([]messaging.Message, messaging.Position, error)
	// Wait returns when there is something at or behind a position.
	Wait(ctx context.Context, from messaging.Position) error
	// Durable is the last sequence that there is.
	Durable() uint64
	// Floor is the first.
	Floor() uint64
}

// Ledger keeps what must survive a restart.
type Ledger interface {
	Position() (messaging.Position, error)
	SavePosition(p messaging.Position) error
	AddDeadLetters(letters []messaging.DeadLetter) error
}
