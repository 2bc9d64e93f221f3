package persist

import (
	"sync"
	"time"
)

// evidenceReach is how long before a message's first try something must have
// been stored for a refusal to be the message's own fault.
const evidenceReach = time.Minute

// Evidence decides between poison and an outage. Django hides outages behind
// answers that look like refusals, so a refusal counts only while other
// messages are being stored. It is safe for concurrent use: what the drain sees
// counts for a replay, and the other way round.
type Evidence struct {
	mu     sync.Mutex
	stored time.Time // when something was stored last; zero if never, or void
}

func (e *Evidence) last() time.Time {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.stored
}

func (e *Evidence) note(stored time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.stored = stored
}

// sawStored notes that the backend stored something.
func (e *Evidence) sawStored(now time.Time) { e.note(now) }

// void forgets what was seen: a whole batch was refused with nothing stored,
// so the backend is no longer what it was.
func (e *Evidence) void() { e.note(time.Time{}) }

// speaksAgainst says whether a message first tried at firstTry is poison.
func (e *Evidence) speaksAgainst(firstTry time.Time) bool {
	return e.since(firstTry.Add(-evidenceReach))
}

// since says whether something was stored at or after a moment.
func (e *Evidence) since(moment time.Time) bool {
	stored := e.last()
	return !stored.IsZero() && !stored.Before(moment)
}
