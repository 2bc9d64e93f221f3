package persist

import "time"

// evidenceReach is how long before a message's first try something must have
// been stored for a refusal to be the message's own fault.
const evidenceReach = time.Minute

// evidence decides between poison and an outage. Django hides outages behind
// answers that look like refusals, so a refusal counts only while other
// messages are being stored.
type evidence struct {
	stored time.Time // when something was stored last; zero if never, or void
}

// sawStored notes that the backend stored something.
func (e *evidence) sawStored(now time.Time) { e.stored = now }

// void forgets what was seen: a whole batch was refused with nothing stored,
// so the backend is no longer what it was.
func (e *evidence) void() { e.stored = time.Time{} }

// speaksAgainst says whether a message first tried at firstTry is poison.
func (e *evidence) speaksAgainst(firstTry time.Time) bool {
	return !e.stored.IsZero() && !e.stored.Before(firstTry.Add(-evidenceReach))
}

// since says whether something was stored at or after a moment.
func (e *evidence) since(moment time.Time) bool {
	return !e.stored.IsZero() && !e.stored.Before(moment)
}
