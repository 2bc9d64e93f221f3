package engine

import (
	"context"
	"fmt"
	"time"

	"github.com/stayafrica/messaging"
)

// SweepDeadLetters removes dead letters that are older than their retention, until the
// context ends. After a clock jump it removes none until the clock has been steady for
// [clockQuarantine].
func (e *Engine) SweepDeadLetters(ctx context.Context) error {
	if e.config.DeadLetterRetention == 0 {
		<-ctx.Done()
		return nil
	}
	return e.everyWhileClockStable(ctx, min(time.Hour, max(time.Second, e.config.DeadLetterRetention/20)), func(now time.Time) error {
		n, err := e.letters.expireDeadLetters(now.Add(-e.config.DeadLetterRetention))
		if err != nil && messaging.CodeOf(err) != messaging.CodeShuttingDown {
			return fmt.Errorf("remove old dead letters: %w", err)
		}
		if n > 0 {
			e.logger.InfoContext(ctx, "removed dead letters older than DEAD_LETTER_RETENTION_DAYS", "dead_letters", n)
		}
		return nil
	})
}
