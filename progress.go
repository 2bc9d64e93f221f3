package messaging

// Progress is the progress of a drain or a job. It becomes durable in the same commit
// as the changes that it follows from. The zero Progress changes nothing.
type Progress struct {
	// Position is the drain's position; nil leaves it unchanged.
	Position *Position
	// Job is the id of a job, or "", and Record its stored record. Ended is true if
	// the job no longer runs: it has no claim on a dead letter.
	Job    string
	Record []byte
	Ended  bool
}

// RequeueResult is the result of putting an undeliverable message back into its queue.
// The zero result means that it is in the queue.
type RequeueResult struct {
	// Gone is true if another call has removed its dead letter.
	Gone bool
	// Refusal is the reason why it is still a dead letter, or empty.
	Refusal string
}
