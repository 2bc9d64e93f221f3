package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/stayafrica/messaging/storage"
)

// SweepDeadLetters removes dead letters that have been kept for as long as they
// are to be, until the context ends. While the clock was set it removes none.
func (e *Engine) SweepDeadLetters(ctx context.Context) error {
	if e.config.DeadLetterRetention == 0 {
		<-ctx.Done()
		return nil
	}
	return e.everySteady(ctx, min(time.Hour, max(time.Second, e.config.DeadLetterRetention/20)), func(now time.Time) error {
		n, err := e.store.Control().ExpireDeadLetters(now.Add(-e.config.DeadLetterRetention))
		if err != nil && !errors.Is(err, storage.ErrDiskFull) {
			return fmt.Errorf("remove old dead letters: %w", err)
		}
		if n > 0 {
			e.logger.InfoContext(ctx, "dead letters were removed, which had been kept for DEAD_LETTER_RETENTION_DAYS", "dead_letters", n)
		}
		return nil
	})
}
