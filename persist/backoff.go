package persist

import (
	"math/rand/v2"
	"time"
)

const (
	backoffBase   = 100 * time.Millisecond
	maxRetryAfter = time.Hour
)

// backoff gives how long to wait before try n (1 is the first repetition):
// exponential with full jitter (Brooker, "Exponential Backoff And Jitter",
// 2015), so that many waiters do not come back together.
func backoff(n int, limit time.Duration) time.Duration {
	ceiling := backoffBase
	for i := 1; i < n && ceiling < limit; i++ {
		ceiling *= 2
	}
	return rand.N(min(ceiling, limit)) + time.Millisecond //nolint:gosec // spreads load, protects nothing
}
