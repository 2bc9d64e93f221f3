package engine

import "context"

// Service is a part of an engine that runs until its context ends. Its owner starts it
// again if it fails.
type Service struct {
	Name string
	Run  func(ctx context.Context) error
}

// Services returns the services that an engine needs while it is open.
func (e *Engine) Services() []Service {
	return []Service{
		{"leases", e.Leases},
		{"schedule", e.Schedule},
		{"clears", e.FinishClears},
		{"undeliverable messages", e.DeadLetterExhausted},
		{"idempotency keys", e.Sweep},
		{"dead letters", e.SweepDeadLetters},
		{"retention", e.Retention},
		{"early retention", e.EarlyRetention},
		{"fan-out", e.Fanout},
		{"disk watch", e.WatchDisk},
	}
}
