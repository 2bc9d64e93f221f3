package messaging

import "time"

// Receipt is what a sender gets: the message is on disk under this id, at this
// place in the log.
type Receipt struct {
	ID       MessageID
	Sequence uint64
	// Recipients is how many users a broadcast goes to.
	Recipients int
}

// Handout is messages on their way to a reader. Nobody else gets them until
// Settle was called, which must happen exactly once: true when the reader has
// them and they leave the queue, false when they did not arrive and stand where
// they stood.
type Handout struct {
	Messages []Message
	Settle   func(delivered bool)
}

// Counts are how many messages stand in a queue.
type Counts struct {
	High, Normal, Low uint64
}

// Stats is what the service counts since it started, and where it stands.
type Stats struct {
	Accepted  uint64
	Taken     uint64
	Evicted   uint64
	Retained  uint64
	Persisted uint64
	// Refused counts failures in which the backend answered, Unreached those in
	// which it did not.
	Refused     uint64
	Unreached   uint64
	Queued      int64
	LagMessages uint64
	LagTime     time.Duration
}
