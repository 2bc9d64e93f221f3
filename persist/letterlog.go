package persist

import (
	"log/slog"
	"strings"
	"time"

	"github.com/stayafrica/messaging"
)

const (
	// letterLogInterval is the minimum time between two log lines about dead letters.
	letterLogInterval = time.Second
	// loggedReason bounds the reason in such a line, in bytes.
	loggedReason = 120
)

// letterLog logs dead letters, at most one line per second, with their number and the
// first of them.
type letterLog struct {
	count int
	first messaging.DeadLetter // without its message
	next  time.Time            // no line is written before this time
}

// add adds dead letters to the next line.
func (l *letterLog) add(letters []messaging.DeadLetter) {
	if l.count == 0 {
		l.first = letters[0]
		l.first.Message = messaging.Message{}
	}
	l.count += len(letters)
}

// due returns when the next line is to be written; zero if there is none.
func (l *letterLog) due() time.Time {
	if l.count == 0 {
		return time.Time{}
	}
	return l.next
}

// flush writes the line if it is due, or unconditionally at the end of a run.
func (l *letterLog) flush(logger *slog.Logger, now time.Time, end bool) {
	if l.count == 0 || (!end && l.next.After(now)) {
		return
	}
	logger.Warn("messages became dead letters", "count", l.count, "first", l.first.ID,
		"status", l.first.StatusCode, "attempts", l.first.Attempts, "reason", firstLine(l.first.Reason))
	l.count, l.next = 0, now.Add(letterLogInterval)
}

// firstLine returns the first line of a reason, shortened. Databases quote the row in
// further lines, and message text must not appear in the log.
func firstLine(reason string) string {
	reason, _, _ = strings.Cut(strings.TrimSpace(reason), "\n")
	if len(reason) > loggedReason {
		reason = strings.ToValidUTF8(reason[:loggedReason], "") + "…"
	}
	return reason
}
