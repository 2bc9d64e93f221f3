package messaging

import (
	"strings"
	"time"
)

// DeadLetterKind is why a message became a dead letter.
type DeadLetterKind string

// Refused means that the backend rejected the message permanently. Undeliverable
// means that no reader acknowledged it.
const (
	Refused       DeadLetterKind = "refused"
	Undeliverable DeadLetterKind = "undeliverable"
)

// DeadLetter is a message that the service does not retry automatically, with the
// reason. The copies of one broadcast that failed for one reason are one dead
// letter with several recipients.
type DeadLetter struct {
	// ID is "<kind>-<message id>".
	ID     string
	Kind   DeadLetterKind
	Reason string
	// StatusCode is the HTTP status of the backend's response, or 0.
	StatusCode int
	// Attempts is the number of attempts at the backend, or of deliveries.
	Attempts   int
	FailedAt   time.Time
	Recipients int
	// Message is the message; for a broadcast, the first recipient's copy.
	Message Message
}

// DeadLetterID returns the id of a message's dead letter.
func DeadLetterID(kind DeadLetterKind, id MessageID) string {
	return string(kind) + "-" + id.String()
}

// ValidDeadLetterID reports whether text has the form of a dead letter's id.
func ValidDeadLetterID(text string) bool {
	kind, rest, ok := strings.Cut(text, "-")
	if !ok || (DeadLetterKind(kind) != Refused && DeadLetterKind(kind) != Undeliverable) {
		return false
	}
	var id MessageID
	return id.Parse(rest) == nil && id.String() == rest
}

// DeadLetterFilter selects the dead letters of a listing.
type DeadLetterFilter struct {
	// After is the id or cursor after which the page begins; empty is the beginning.
	After string
	// Limit is the largest number of dead letters on the page.
	Limit int
	// Kind and Reason select dead letters if they are not empty. Reason must be
	// equal to the whole reason.
	Kind   DeadLetterKind
	Reason string
}

// DeadRecipient is one recipient of a dead letter, with the recipient's copy of the
// message. A message has at most one DeadRecipient of each kind.
type DeadRecipient struct {
	Kind    DeadLetterKind
	Reason  string
	Message Message
}

// DeadRefusal is a redriven message that the backend refused again, where other
// responses show that the message is the cause.
type DeadRefusal struct {
	Recipient  DeadRecipient
	Reason     string
	StatusCode int
	FailedAt   time.Time
}

// DeadLetterPage is one page of a listing.
type DeadLetterPage struct {
	DeadLetters []DeadLetter
	// Total is the number of dead letters of the filter's kind, with any reason.
	Total int
	// Next is the cursor of the next page (DeadLetterFilter.After), or empty at the
	// end. It need not be the id of an existing dead letter.
	Next string
}

// MaxReason bounds the reason of a dead letter, in bytes.
const MaxReason = 4096
