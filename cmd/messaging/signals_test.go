package main

import (
	"log/slog"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// A signal within a second of the first counts as the same one. A later one ends the grace
// at once. SIGHUP does neither.
func TestASignalWithinASecondIsTheSame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		signals, hangups, done := make(chan os.Signal), make(chan struct{}, 2), make(chan struct{})
		ended, cancelled, cut := make(chan struct{}), false, false
		go func() {
			defer close(ended)
			handleSignals(slog.New(slog.DiscardHandler), signals, hangups, done, func() { cancelled = true }, func() { cut = true })
		}()
		for _, step := range []struct {
			after             time.Duration
			signal            os.Signal
			cancelled, cutOff bool
		}{
			{0, syscall.SIGHUP, false, false},
			{time.Second, syscall.SIGTERM, true, false},
			{0, syscall.SIGINT, true, false},
			{sameSignal - time.Millisecond, syscall.SIGTERM, true, false},
			{0, syscall.SIGHUP, true, false},
			{time.Millisecond, syscall.SIGTERM, true, true},
		} {
			time.Sleep(step.after)
			signals <- step.signal
			synctest.Wait()
			if cancelled != step.cancelled || cut != step.cutOff {
				t.Errorf("%v %s later: stopping %t, cut short %t, want %t and %t", step.signal, step.after, cancelled, cut, step.cancelled, step.cutOff)
			}
		}
		close(done)
		<-ended
		if n := len(hangups); n != 2 {
			t.Errorf("%d SIGHUPs are handed on, want 2", n)
		}
	})
}
