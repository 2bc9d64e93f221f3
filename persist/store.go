package persist

import (
	"time"

	"github.com/stayafrica/messaging"
)

// ProgressStore stores the position and the dead letters of a drain durably.
type ProgressStore interface {
	Position() (messaging.Position, error)
	SaveProgress(p messaging.Progress) error
	// AddDeadLetters makes dead letters durable, and p in the same commit or a later
	// one. A dead letter that exists already is unchanged. A commit has at most 4 MiB;
	// the store splits larger lists and writes p last.
	AddDeadLetters(letters []messaging.DeadLetter, p messaging.Progress) error
}

// LetterStore is the part of a [ProgressStore] that a replay needs. The progress of a
// replay is in its job.
type LetterStore interface {
	AddDeadLetters(letters []messaging.DeadLetter, p messaging.Progress) error
}

// JobStore stores jobs.
type JobStore interface {
	Jobs() (map[string][]byte, error)
	SaveProgress(p messaging.Progress) error
	// ForgetJob removes a job and ends its claims on dead letters.
	ForgetJob(id string) error
}

// DeadLetters is the dead-letter store as a redrive uses it.
type DeadLetters interface {
	ListDeadLetters(f messaging.DeadLetterFilter) (messaging.DeadLetterPage, error)
	FindDeadLetter(id string) (messaging.DeadLetter, bool, error)
	DeadLetterAt(k messaging.DeadLetterKey) (messaging.DeadLetter, bool, error)
	// NextDeadLetters returns dead letters in the order of their keys, up to the limit,
	// and at least one unless the end is reached.
	NextDeadLetters(s messaging.DeadLetterScan) ([]messaging.DeadLetter, error)
	// DeadRecipients returns the recipients of a dead letter after a user, in the
	// store's order, up to limit. The user need not be a recipient any more.
	DeadRecipients(letter *messaging.DeadLetter, after messaging.UserID, limit int) ([]messaging.DeadRecipient, error)
	// ClaimDeadLetters durably claims recipients for a job. It returns for each
	// recipient whether the job has it, or why not. A job may claim a recipient again
	// that it holds, unless the recipient was refused in that job.
	ClaimDeadLetters(job string, recipients []messaging.DeadRecipient) ([]messaging.Claim, error)
	// FinishRedrive ends claims of a job in one commit. Stored recipients leave their
	// letters. Refused ones move to the letter of their new reason with one more
	// attempt, where the job does not claim them again. Kept ones stay unchanged.
	// Recipients that the job does not hold, or no longer holds, are skipped.
	FinishRedrive(job string, stored []messaging.DeadRecipient, refused []messaging.DeadRefusal, kept []messaging.DeadRecipient, p messaging.Progress) error
	// RequeueDeadLetters returns undeliverable messages to their queues. Each leaves
	// its letter and enters its queue in one commit. The results are in the order of
	// the recipients.
	RequeueDeadLetters(recipients []messaging.DeadRecipient, p messaging.Progress) (results []messaging.RequeueResult, err error)
}

// History is the log as a replay reads it.
type History interface {
	Source
	// SequenceAt returns the first sequence whose message was created at or after a
	// time.
	SequenceAt(at time.Time) (uint64, error)
}
