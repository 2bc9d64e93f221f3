package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/thejerf/suture/v4"
)

// How much failing the supervision puts up with: the original's intensity.
const (
	failuresMax    = 10
	failuresPeriod = time.Minute
	firstRestart   = 50 * time.Millisecond
	slowestRestart = 2 * time.Second
)

// supervisor runs the services around the core and restarts the ones that
// fail. More than failuresMax failures within failuresPeriod end it with
// errGaveUp, so that the machine's own supervisor takes over.
type supervisor struct {
	tree   *suture.Supervisor
	logger *slog.Logger

	mu       sync.Mutex
	failures []time.Time
}

func newSupervisor(logger *slog.Logger) *supervisor {
	return &supervisor{
		logger: logger,
		// The limit of the library decays, and ours does not: it never counts.
		tree: suture.New("messaging", suture.Spec{FailureThreshold: 1e9, Timeout: time.Hour, EventHook: func(suture.Event) {}}),
	}
}

// service is one supervised part.
type service struct {
	name       string
	run        func(ctx context.Context) error
	supervisor *supervisor
}

func (s *supervisor) add(name string, run func(ctx context.Context) error) {
	s.tree.Add(&service{name: name, run: run, supervisor: s})
}

// serve runs all services until the context ends or the supervision gives up.
// When it returns, all of them have.
func (s *supervisor) serve(ctx context.Context) error {
	err := s.tree.Serve(ctx)
	if errors.Is(err, suture.ErrTerminateSupervisorTree) {
		return fmt.Errorf("%w: parts of the service failed more than %d times in %s", errGaveUp, failuresMax, failuresPeriod)
	}
	return nil
}

// String names the service for the library.
func (s *service) String() string { return s.name }

// Serve implements suture's Service: it returns to be called again.
func (s *service) Serve(ctx context.Context) error {
	err := s.protected(ctx)
	if ctx.Err() != nil {
		if err != nil && !errors.Is(err, context.Canceled) {
			s.supervisor.logger.ErrorContext(ctx, "a part of the service ended with an error", "part", s.name, "error", err)
		}
		return suture.ErrDoNotRestart
	}
	if err == nil {
		err = errors.New("it ended by itself")
	}
	failures := s.supervisor.failed(time.Now())
	s.supervisor.logger.ErrorContext(ctx, "a part of the service failed and is started again", "part", s.name, "error", err, "failures", failures)
	if failures > failuresMax {
		return suture.ErrTerminateSupervisorTree
	}
	select {
	case <-time.After(min(firstRestart<<(failures-1), slowestRestart)):
	case <-ctx.Done():
	}
	return err
}

// protected turns a panic into an error, so that it is counted like one.
func (s *service) protected(ctx context.Context) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack()) //nolint:err113 // a panic has no kind
		}
	}()
	return s.run(ctx)
}

// failed notes a failure and gives how many there were within the period.
func (s *supervisor) failed(now time.Time) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failures = slices.DeleteFunc(s.failures, func(at time.Time) bool { return now.Sub(at) >= failuresPeriod })
	s.failures = append(s.failures, now)
	return len(s.failures)
}
