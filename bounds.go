package messaging

import "time"

// Bounds of calls on leases, and of replays.
const (
	// MaxReceipts is the largest number of receipts in one call.
	MaxReceipts = 10_000
	// MaxLease is the longest lease. MaxDelay is the longest delay of a nacked
	// message.
	MaxLease = time.Hour
	MaxDelay = 24 * time.Hour
	// MaxReplayRate is the highest rate of a replay, in messages per second.
	MaxReplayRate = 1_000_000
)
