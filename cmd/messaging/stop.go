package main

import (
	"context"
	"errors"
	"time"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/persist"
)

// deadlineSink is a sink whose requests end, at the latest, when over ends.
type deadlineSink struct {
	sink persist.Sink
	over context.Context
}

// Deliver implements [persist.Sink].
func (b deadlineSink) Deliver(ctx context.Context, batch []messaging.Message) persist.Response {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(b.over, cancel)() //nolint:contextcheck // the second context is intended
	return b.sink.Deliver(ctx, batch)
}

// grace makes readiness fail and waits SHUTDOWN_DELAY, so that load balancers notice. It
// returns a context that ends after SHUTDOWN_GRACE, or earlier with force.
func (m *Main) grace(force context.Context) (context.Context, context.CancelFunc) {
	m.Logger.InfoContext(force, "stopping: readiness fails, requests in progress finish")
	m.server.Drain()
	select {
	case <-time.After(m.Config.ShutdownDelay):
	case <-force.Done():
	}
	return context.WithTimeout(force, m.Config.ShutdownGrace)
}

// stop stops everything in order and joins the errors. Requests and the drain may run
// until ctx ends.
func (m *Main) stop(ctx context.Context, serving <-chan error, stopServices func() error) error {
	if m.engine != nil {
		m.engine.StopWaiting() // long polls return
	}
	err := m.server.Shutdown(ctx)
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		m.Logger.WarnContext(ctx, "some requests took longer than the grace and were cut off")
		err = nil
	}
	select {
	case failure := <-serving:
		err = errors.Join(err, failure)
	default: // Run has already received the error
	}
	err = errors.Join(err, stopServices(), m.close())
	m.Logger.InfoContext(ctx, "stopped")
	return err
}
