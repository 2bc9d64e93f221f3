package main

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"
)

func TestFailedPartIsStartedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSupervisor(slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(t.Context())
		runs := 0
		s.add("part", func(ctx context.Context) error {
			switch runs++; runs {
			case 1:
				return errors.New("failed")
			case 2:
				panic("panicked")
			}
			<-ctx.Done()
			return nil
		})
		done := make(chan error, 1)
		go func() { done <- s.serve(ctx) }()
		time.Sleep(time.Minute)
		cancel()
		if err := <-done; err != nil || runs != 3 {
			t.Errorf("%d runs, %v", runs, err)
		}
	})
}

func TestSupervisionGivesUpAfterTooManyFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSupervisor(slog.New(slog.DiscardHandler))
		runs, joined := 0, false
		s.add("sick", func(context.Context) error { runs++; return errors.New("failed") })
		s.add("well", func(ctx context.Context) error { <-ctx.Done(); joined = true; return nil })
		err := s.serve(t.Context())
		if !errors.Is(err, errGaveUp) || exitStatus(err) != exitSupervision || runs != failuresMax+1 || !joined {
			t.Errorf("%v after %d runs, others joined: %t", err, runs, joined)
		}
	})
}

func TestSlowFailuresAreNoReasonToGiveUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSupervisor(slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		s.add("part", func(ctx context.Context) error {
			select {
			case <-time.After(10 * time.Second):
			case <-ctx.Done():
			}
			return errors.New("failed")
		})
		if err := s.serve(ctx); err != nil {
			t.Error(err)
		}
	})
}
