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
// second signal at least sameSignal later, and ends every grace period. SIGHUP, which a
// terminal sends when it closes, is logged and has no effect. stop stops the watching.
func watchSignals(logger *slog.Logger) (ctx, force context.Context, stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	force, cutShort := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		handleSignals(logger, signals, done, cancel, cutShort)
	}()
	return ctx, force, func() {
		signal.Stop(signals)
		close(done)
		<-ended
		cancel()
		cutShort()
	}
}

func handleSignals(logger *slog.Logger, signals <-chan os.Signal, done <-chan struct{}, cancel, cutShort func()) {
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
			logger.Info("SIGHUP: nothing is reloaded yet, restart to change settings")
		case stopping.IsZero():
			stopping = time.Now()
			cancel()
		case time.Since(stopping) >= sameSignal:
			logger.Warn("a second signal: stopping at once")
			cutShort()
		}
	}
}
