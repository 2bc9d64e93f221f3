package persist_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/persist"
)

// addMany appends n messages of one conversation, so that its batches are sent one
// after the other.
func addMany(l *memoryLog, n int) {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("a/%d", i)
	}
	l.add(names...)
}

// responsesInOrder returns the given classes one after the other and then stores.
func responsesInOrder(classes ...persist.Class) func([]string) persist.Response {
	return func(batch []string) persist.Response {
		if len(classes) == 0 {
			return stored(batch)
		}
		a := persist.Response{Class: classes[0]}
		classes = classes[1:]
		return a
	}
}

func TestBatchSizesFollowTheResponses(t *testing.T) {
	for name, c := range map[string]struct {
		verdicts []persist.Class
		want     string
	}{
		"no failure":             {nil, "[500 100]"},
		"a time-out halves them": {[]persist.Class{persist.TimedOut, persist.TimedOut}, "[500 250 125 250 225]"},
		"other outages do not":   {[]persist.Class{persist.Unavailable, persist.Unreached}, "[500 500 500 100]"},
		"a throttling backend":   {[]persist.Class{persist.TimedOut, persist.TimedOut, persist.Throttled}, "[500 250 125 500 100]"},
	} {
		t.Run(name, func(t *testing.T) {
			drain(t, func(l *memoryLog, b *backend, _ *persist.Drain) {
				b.set(responsesInOrder(c.verdicts...))
				addMany(l, 600)
				after(5 * time.Minute)
				var sizes []int
				_, batches := b.log()
				for _, names := range batches {
					sizes = append(sizes, len(names))
				}
				if fmt.Sprint(sizes) != c.want {
					t.Errorf("batches of %v, want %s", sizes, c.want)
				}
			})
		})
	}
}

func TestInvariant8BatchIsBoundedInBytes(t *testing.T) {
	const bound = 1 << 20 // the default
	drain(t, func(l *memoryLog, b *backend, _ *persist.Drain) {
		for i := range 10 {
			l.add(fmt.Sprintf("a/%d", i) + strings.Repeat("x", 300_000))
		}
		l.add("a/" + strings.Repeat("y", bound)) // sent alone
		after(time.Minute)
		_, batches := b.log()
		total := 0
		for _, names := range batches {
			bytes := 0
			for _, n := range names {
				bytes += len(n) + messaging.JSONOverhead
			}
			if bytes > bound && len(names) > 1 {
				t.Errorf("a batch of %d has %d bytes", len(names), bytes)
			}
			total += len(names)
		}
		if total != 11 || len(batches) != 5 { // 3 + 3 + 3 + 1, and the large one
			t.Errorf("%d messages in %d batches, want 11 in 5", total, len(batches))
		}
	})
}
