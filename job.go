package messaging

import (
	"time"
)

// JobKind is the kind of a job.
type JobKind string

// The kinds of jobs.
const (
	// Redrive sends refused messages to the backend again and puts undeliverable
	// messages back into their queues.
	Redrive JobKind = "redrive"
	// Replay sends a range of the log to the backend again.
	Replay JobKind = "replay"
)

// JobState is the state of a job.
type JobState string

// The states of a job. All except JobRunning are final.
const (
	JobRunning   JobState = "running"
	JobDone      JobState = "done"
	JobCancelled JobState = "cancelled"
	JobFailed    JobState = "failed"
)

// Job is work in the background. It continues after a restart and can be cancelled.
type Job struct {
	ID    string
	Kind  JobKind
	State JobState
	// Done and Total count sequences for a replay and dead letters for a redrive.
	// Failed counts messages that are, or stay, dead letters.
	Done, Total, Failed uint64
	Error               string
	CreatedAt           time.Time
	FinishedAt          time.Time
	// ETA is the estimated remaining time at the average rate so far; it is negative
	// if it is not known.
	ETA time.Duration `json:"-"`
}

// ReplayRequest selects the range of the log that a replay sends. A zero value sets no
// bound and no filter; without an end, the range ends at the end of the log.
type ReplayRequest struct {
	FromSequence, ToSequence uint64
	FromTime, ToTime         time.Time
	Conversation             string
	User                     UserID
	// Rate is the highest rate in messages per second.
	Rate int
}

// RedriveRequest selects the dead letters of a redrive: by ids, by reason, or all. Kind
// limits a selection by reason or of all to one kind.
type RedriveRequest struct {
	IDs    []string
	Reason string
	Kind   DeadLetterKind
	All    bool
}
