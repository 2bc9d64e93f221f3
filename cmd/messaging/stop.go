package main

import (
	"context"
	"errors"
	"time"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/persist"
)

// deadlineSink is a sink whose requests end, at the latest, when the time for
// stopping is over.
type deadlineSink struct {
	sink persist.Sink
	over context.Context
}

// Deliver implements [persist.Sink].
func (b deadlineSink) Deliver(ctx context.Context, batch []messaging.Message) persist.Response {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(b.over, cancel)() //nolint:contextcheck // the other context is what this is for
	return b.sink.Deliver(ctx, batch)
}

// grace turns readiness red, lets balancers notice, and gives the time that
// everything has to end: one SHUTDOWN_GRACE, less when hurry ends.
func (m *Main) grace(force context.Context) (context.Context, context.CancelFunc) {
	m.Logger.InfoContext(force, "stopping: readiness is red, requests that are being answered finish")
	m.server.Drain()
	select {
	case <-time.After(m.Config.ShutdownDelay):
	case <-force.Done():
	}
	return context.WithTimeout(force, m.Config.ShutdownGrace)
}

// stop ends everything in order and joins what went wrong. Requests and the
// drain have until the context ends.
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
	default: // it is what brought us here, and was read
	}
	err = errors.Join(err, stopServices(), m.close())
	m.Logger.InfoContext(ctx, "stopped")
	return err
}
