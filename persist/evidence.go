package persist

import (
	"sync"
	"time"
)

// Evidence records when the backend last stored something. It distinguishes poison from
// an outage: Django reports some outages in the form of refusals, so a refusal counts
// against a message only while other messages are being stored. The drain, replays and
// redrives of one backend share it. It is safe for concurrent use.
type Evidence struct {
	mu     sync.Mutex
	stored time.Time // zero if never, or after a reset
}

// last returns when the backend last stored something.
func (e *Evidence) last() time.Time {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.stored
}

// apply records the evidence in a response.
func (e *Evidence) apply(change evidenceChange, now time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch change {
	case evidenceStored:
		e.stored = now
	case evidenceReset:
		e.stored = time.Time{}
	case evidenceUnchanged:
	}
}
