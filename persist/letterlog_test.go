package persist_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stayafrica/messaging/persist"
)

// TestDeadLettersAreLoggedOnceASecond refuses 20,000 messages permanently, in
// consecutive batches.
func TestDeadLettersAreLoggedOnceASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, b := newLog(), &backend{delay: 100 * time.Millisecond}
		b.respond = each(func(n string) persist.Result {
			return persist.Result{Permanent: true, Error: "no: " + n + "\nDETAIL: Failing row contains (secret text)"}
		})
		names := make([]string, 20_000)
		for i := range names {
			names[i] = fmt.Sprintf("c/%d", i)
		}
		l.add(names...)
		var lines bytes.Buffer
		drain, err := persist.New(persist.Config{Source: l, Store: l, Sink: b, Logger: slog.New(slog.NewTextHandler(&lines, nil))})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- drain.Run(ctx) }()
		began := time.Now()
		for drain.Position().Sequence <= 20_000 {
			after(100 * time.Millisecond)
		}
		took := time.Since(began)
		after(2 * time.Second) // by then the line of the last second is written
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		logged, last := strings.Count(lines.String(), "messages became dead letters"), time.Time{}
		if most := int(took.Seconds()) + 2; logged == 0 || logged > most {
			t.Errorf("%d lines in %s, want at most one per second", logged, took)
		}
		total := 0
		for line := range strings.Lines(lines.String()) {
			if !strings.Contains(line, "became dead letters") {
				continue
			}
			var count int
			_, rest, _ := strings.Cut(line, "count=")
			if _, err := fmt.Sscan(rest, &count); err != nil {
				t.Errorf("a line without a count: %s", line)
			}
			total += count
			_, stamp, _ := strings.Cut(line, "time=")
			at, err := time.Parse(time.RFC3339Nano, strings.Fields(stamp)[0])
			if err != nil || at.Sub(last) < time.Second {
				t.Errorf("%s after the line before (%v)", at.Sub(last), err)
			}
			last = at
			if !strings.Contains(line, "reason=\"no: c/") || strings.Contains(line, "secret text") {
				t.Errorf("the reason is missing, or more than its first line: %s", line)
			}
		}
		if total != 20_000 {
			t.Errorf("the lines count %d, want 20000", total)
		}
	})
}

// TestDeadLettersBeforeAStopAreLogged: the line of the last second is written at the
// stop.
func TestDeadLettersBeforeAStopAreLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, b := newLog(), &backend{respond: each(func(string) persist.Result { return persist.Result{Permanent: true, Error: "no"} })}
		lines := runFor(t, 300*time.Millisecond, l, b, false)
		if !strings.Contains(lines, "count=") || len(l.deadTexts()) != 20 {
			t.Errorf("%d dead letters, and the log is\n%s", len(l.deadTexts()), lines)
		}
	})
}
