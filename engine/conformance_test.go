package engine_test

import (
	"testing"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/engine"
	"github.com/stayafrica/messaging/engine/enginetest"
)

func TestConformance(t *testing.T) {
	enginetest.Run(t, openServing)
}

func openServing(tb testing.TB, c enginetest.Config) enginetest.Rig {
	tb.Helper()
	config := engine.Config{
		QueueMax: c.QueueMax, MaxDeliveries: c.MaxDeliveries, Retention: c.Retention, IdempotencyWindow: c.IdempotencyWindow,
		MaxLeased: c.MaxLeased, RetryBackoff: c.RetryBackoff,
	}
	if c.Weights != [messaging.Priorities]int{} {
		weights := engine.Weights(c.Weights)
		config.Weights = &weights
	}
	s := &serving{rig: newRig(tb, config)}
	s.start()
	return s
}
