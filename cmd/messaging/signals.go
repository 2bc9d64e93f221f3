package main

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// sameSignal is the time after the first signal to stop in which another one counts as the
// same: a supervisor and the shell of a container may both forward it.
const sameSignal = time.Second

// watchSignals returns two contexts. ctx ends with SIGTERM or SIGINT. force ends with a
// second signal at least sameSignal later, and ends every grace period. hangups receives
// SIGHUP, which a terminal sends too when it closes. stop stops the watching.
func watchSignals(logger *slog.Logger) (ctx, force context.Context, hangups <-chan struct{}, stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	force, cutShort := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	hup := make(chan struct{}, 1)
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		handleSignals(logger, signals, hup, done, cancel, cutShort)
	}()
	return ctx, force, hup, func() {
		signal.Stop(signals)
		close(done)
		<-ended
		cancel()
		cutShort()
	}
}

func handleSignals(logger *slog.Logger, signals <-chan os.Signal, hup chan<- struct{}, done <-chan struct{}, cancel, cutShort func()) {
	var stopping time.Time
	for {
		var received os.Signal
		select {
		case <-done:
			return
		case received = <-signals:
		}
		switch {
		case received == syscall.SIGHUP:
			select {
			case hup <- struct{}{}:
			default: // one is on its way
			}
		case stopping.IsZero():
			stopping = time.Now()
			cancel()
		case time.Since(stopping) >= sameSignal:
			logger.Warn("a second signal: stopping at once")
			cutShort()
		}
	}
}
