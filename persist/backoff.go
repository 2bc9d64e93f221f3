package persist

import (
	"math/rand/v2"
	"time"
)

const (
	backoffBase   = 100 * time.Millisecond
	maxRetryAfter = time.Hour
)

// backoff returns the pause before retry n, counted from 1: exponential with full
// jitter (Brooker, "Exponential Backoff And Jitter", 2015), so that many waiters do not
// retry at the same moment.
func backoff(n int, limit time.Duration) time.Duration {
	ceiling := backoffBase
	for i := 1; i < n && ceiling < limit; i++ {
		ceiling *= 2
	}
	return rand.N(min(ceiling, limit)) + time.Millisecond //nolint:gosec // spreads load, protects nothing
}
