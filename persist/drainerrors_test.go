package persist_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/persist"
)

// A failure within the service is logged once, however often the operation is retried:
// dead letters that a full disk rejects, messages that cannot be read from the log.
func TestOwnErrorsAreLoggedOnce(t *testing.T) {
	for line, c := range map[string]struct {
		result     persist.Result
		unreadable bool
	}{
		"could not be written": {result: persist.Result{Permanent: true, Error: "no"}},
		"could not be read":    {result: persist.Result{Error: "locked"}, unreadable: true},
	} {
		t.Run(line, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l, b := newLog(), &backend{respond: each(func(string) persist.Result { return c.result })}
				l.deadFail = errors.New("disk full")
				lines := runFor(t, time.Hour, l, b, c.unreadable)
				if n := strings.Count(lines, line); n != 1 {
					t.Errorf("%d lines in an hour, want 1:\n%.2000s", n, lines)
				}
			})
		})
	}
}

// runFor drains twenty conversations for a time and returns the log output.
func runFor(t *testing.T, d time.Duration, l *memoryLog, b *backend, unreadable bool) string {
	t.Helper()
	var lines bytes.Buffer
	var source persist.Source = l
	if unreadable {
		source = readOnceLog{l}
	}
	drain, err := persist.New(persist.Config{Source: source, Store: l, Sink: b, Logger: slog.New(slog.NewTextHandler(&lines, nil))})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- drain.Run(ctx) }()
	for i := range 20 {
		l.add(fmt.Sprintf("c%d/1", i))
	}
	after(d)
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	return lines.String()
}

// readOnceLog fails reads of a single message, with which the drain reads a dropped
// message again.
type readOnceLog struct{ *memoryLog }

func (l readOnceLog) Read(from messaging.Position, limit, maxBytes int) ([]messaging.Message, messaging.Position, error) {
	if limit == 1 {
		return nil, from, errors.New("input/output error")
	}
	return l.memoryLog.Read(from, limit, maxBytes)
}
