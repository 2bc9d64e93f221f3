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

// The limit on failures and the pauses between restarts. The limit is the restart intensity
// of the original.
const (
	failuresMax    = 10
	failuresPeriod = time.Minute
	firstRestart   = 50 * time.Millisecond
	slowestRestart = 2 * time.Second
)

// supervisor runs the services around the core and restarts those that fail. It ends with
// errGaveUp after more than failuresMax failures within failuresPeriod, so that the
// machine's own supervisor takes over.
type supervisor struct {
	tree   *suture.Supervisor
	logger *slog.Logger

	mu       sync.Mutex
	failures []time.Time
}

func newSupervisor(logger *slog.Logger) *supervisor {
	return &supervisor{
		logger: logger,
		// The library's limit decays and this one does not, so the threshold disables the
		// library's.
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

// serve runs all services until the context ends or the supervision gives up. It returns
// after all services have returned.
func (s *supervisor) serve(ctx context.Context) error {
	err := s.tree.Serve(ctx)
	if errors.Is(err, suture.ErrTerminateSupervisorTree) {
		return fmt.Errorf("%w: parts of the service failed more than %d times in %s", errGaveUp, failuresMax, failuresPeriod)
	}
	return nil
}

// String names the service for the library.
func (s *service) String() string { return s.name }

// Serve implements suture's Service. It returns in order to be called again.
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

// protected runs the service and turns a panic into an error, so that it counts as a
// failure.
func (s *service) protected(ctx context.Context) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack()) //nolint:err113 // a panic has no kind
		}
	}()
	return s.run(ctx)
}

// failed records a failure and returns the number of failures within the period.
func (s *supervisor) failed(now time.Time) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failures = slices.DeleteFunc(s.failures, func(at time.Time) bool { return now.Sub(at) >= failuresPeriod })
	s.failures = append(s.failures, now)
	return len(s.failures)
}
