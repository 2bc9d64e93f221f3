package messaging

import (
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

// DeadLetterKind says who gave a message up.
type DeadLetterKind string

// Refused means that the backend will not store the message; Undeliverable
// that no reader acknowledged it.
const (
	Refused       DeadLetterKind = "refused"
	Undeliverable DeadLetterKind = "undeliverable"
)

// DeadLetter is a message that will not be tried again by itself, kept with
// the reason for a person to look at. The copies of one broadcast that failed
// for one reason are one dead letter with several recipients.
type DeadLetter struct {
	// ID is "<kind>-<id of the message>".
	ID     string
	Kind   DeadLetterKind
	Reason string
	// StatusCode is what the backend answered with, or 0.
	StatusCode int
	// Attempts is how often it was tried, or delivered.
	Attempts   int
	FailedAt   time.Time
	Recipients int
	// Message is the message, the first recipient's for a broadcast.
	Message Message
}

// DeadLetterID makes the id of a message's dead letter.
func DeadLetterID(kind DeadLetterKind, id MessageID) string {
	return string(kind) + "-" + id.String()
}

// ValidDeadLetterID says whether text has the form of such an id.
func ValidDeadLetterID(text string) bool {
	kind, rest, ok := strings.Cut(text, "-")
	if !ok || (DeadLetterKind(kind) != Refused && DeadLetterKind(kind) != Undeliverable) {
		return false
	}
	var id MessageID
	return id.Parse(rest) == nil && id.String() == rest
}

// DeadLetterFilter says which dead letters to list.
type DeadLetterFilter struct {
	// After is the id behind which to begin; empty is the beginning.
	After string
	// Limit is how many at most.
	Limit int
	// Kind and Reason are taken where they are not empty; Reason is matched whole.
	Kind   DeadLetterKind
	Reason string
}

// DeadCopy is one recipient's message of a dead letter.
type DeadCopy struct {
	Letter  string
	Message Message
}

// DeadLetterPage is a part of the listing.
type DeadLetterPage struct {
	DeadLetters []DeadLetter
	// Total is how many there are of the kind that was asked for, whatever
	// their reason.
	Total int
	// Next is the id to go on behind, or empty at the end.
	Next string
}

// MaxReason bounds the reason of a dead letter, in bytes.
const MaxReason = 4096

// AppendJSON appends the dead letter as a listing shows it.
func (d *DeadLetter) AppendJSON(dst []byte) []byte {
	dst = append(dst, `{"id":`...)
	dst = appendString(dst, d.ID)
	dst = append(dst, `,"kind":`...)
	dst = appendString(dst, string(d.Kind))
	dst = append(dst, `,"reason":`...)
	dst = appendString(dst, d.Reason)
	dst = append(dst, `,"status_code":`...)
	if d.StatusCode == 0 {
		dst = append(dst, "null"...)
	} else {
		dst = strconv.AppendInt(dst, int64(d.StatusCode), 10)
	}
	dst = append(dst, `,"attempts":`...)
	dst = strconv.AppendInt(dst, int64(d.Attempts), 10)
	dst = append(dst, `,"failed_at":"`...)
	dst = appendMoment(dst, d.FailedAt)
	dst = append(dst, `","recipients":`...)
	dst = strconv.AppendInt(dst, int64(d.Recipients), 10)
	dst = append(dst, `,"message":`...)
	dst = d.Message.AppendJSON(dst)
	return append(dst, '}')
}

// appendString appends a JSON string. What is not UTF-8 in it is replaced.
func appendString(dst []byte, s string) []byte {
	quoted, err := jsontext.AppendQuote(dst, strings.ToValidUTF8(s, "\uFFFD"))
	if err != nil {
		return append(dst, `""`...)
	}
	return quoted
}
