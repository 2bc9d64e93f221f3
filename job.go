package messaging

import (
	"strconv"
	"time"
)

// JobKind is what a job does.
type JobKind string

// The kinds of jobs.
const (
	// Redrive sends dead letters where they failed to go.
	Redrive JobKind = "redrive"
	// Replay sends a part of the log to the backend again.
	Replay JobKind = "replay"
)

// JobState is how far a job is.
type JobState string

// The states of a job; only the first is not final.
const (
	JobRunning   JobState = "running"
	JobDone      JobState = "done"
	JobCancelled JobState = "cancelled"
	JobFailed    JobState = "failed"
)

// Job is work that goes on behind the calls, survives restarts and can be
// watched and cancelled.
type Job struct {
	ID    string
	Kind  JobKind
	State JobState
	// Done and Total are counted in sequences for a replay and in dead letters
	// for a redrive. Failed is how many messages stayed where they were.
	Done, Total, Failed uint64
	Error               string
	CreatedAt           time.Time
	FinishedAt          time.Time
	// ETA is how long it will still take by the pace so far; negative where that
	// is not known.
	ETA time.Duration `json:"-"`
}

// ReplayRequest says what part of the log to send again. Zero values ask for
// nothing: the range then ends where the log does.
type ReplayRequest struct {
	FromSequence, ToSequence uint64
	FromTime, ToTime         time.Time
	Conversation             string
	User                     UserID
	// Rate is how many messages a second at the most.
	Rate int
}

// RedriveRequest says which dead letters to redrive: those named, those with a
// reason, or all; of one kind where one is given.
type RedriveRequest struct {
	IDs    []string
	Reason string
	Kind   DeadLetterKind
	All    bool
}

// AppendJSON appends the job as a listing shows it.
func (j *Job) AppendJSON(dst []byte) []byte {
	dst = append(dst, `{"id":"`...)
	dst = append(dst, j.ID...)
	dst = append(dst, `","kind":"`...)
	dst = append(dst, j.Kind...)
	dst = append(dst, `","state":"`...)
	dst = append(dst, j.State...)
	dst = append(dst, `","done":`...)
	dst = strconv.AppendUint(dst, j.Done, 10)
	dst = append(dst, `,"total":`...)
	dst = strconv.AppendUint(dst, j.Total, 10)
	dst = append(dst, `,"failed":`...)
	dst = strconv.AppendUint(dst, j.Failed, 10)
	dst = append(dst, `,"eta_seconds":`...)
	if j.State != JobRunning || j.ETA < 0 {
		dst = append(dst, "null"...)
	} else {
		dst = strconv.AppendInt(dst, int64(j.ETA.Round(time.Second)/time.Second), 10)
	}
	dst = append(dst, `,"error":`...)
	if j.Error == "" {
		dst = append(dst, "null"...)
	} else {
		dst = appendString(dst, j.Error)
	}
	dst = appendTime(dst, `,"created_at":"`, j.CreatedAt)
	dst = appendTime(dst, `,"finished_at":"`, j.FinishedAt)
	return append(dst, '}')
}
