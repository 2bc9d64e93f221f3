package main

import (
	"testing"

	"github.com/stayafrica/messaging"
)

func TestBacklogCountsWhatWaitsAndWhatIsGone(t *testing.T) {
	for _, c := range []struct {
		name                          string
		position, floor, end, trimmed uint64
		waiting, gone, from           uint64
		off, on                       string
	}{
		{
			name: "nothing was sent yet", position: 1, floor: 1, end: 1, from: 1,
			off: "the drain is off: 0 messages wait for DJANGO_API_URL, 0 were trimmed",
			on:  "0 messages wait, 0 were trimmed while the drain was off or by a full disk; the drain resumes at 1",
		},
		{
			name: "one waits", position: 5, floor: 2, end: 6, waiting: 1, from: 5,
			off: "the drain is off: 1 message waits for DJANGO_API_URL, 0 were trimmed",
			on:  "1 message waits, 0 were trimmed while the drain was off or by a full disk; the drain resumes at 5",
		},
		{
			name: "one was trimmed", position: 5, floor: 6, end: 9, trimmed: 1, waiting: 3, gone: 1, from: 6,
			off: "the drain is off: 3 messages wait for DJANGO_API_URL, 1 was trimmed",
			on:  "3 messages wait, 1 was trimmed while the drain was off or by a full disk; the drain resumes at 6",
		},
		{
			name: "all were trimmed", position: 5, floor: 9, end: 9, trimmed: 4, gone: 4, from: 9,
			off: "the drain is off: 0 messages wait for DJANGO_API_URL, 4 were trimmed",
			on:  "0 messages wait, 4 were trimmed while the drain was off or by a full disk; the drain resumes at 9",
		},
		{
			name: "some were trimmed around one", position: 5, floor: 2, end: 9, trimmed: 3, waiting: 1, gone: 3, from: 5,
			off: "the drain is off: 1 message waits for DJANGO_API_URL, 3 were trimmed",
			on:  "1 message waits, 3 were trimmed while the drain was off or by a full disk; the drain resumes at 5",
		},
		{
			name: "no position yet", floor: 4, end: 9, trimmed: 5, waiting: 3, gone: 2, from: 4,
			off: "the drain is off: 3 messages wait for DJANGO_API_URL, 2 were trimmed",
			on:  "3 messages wait, 2 were trimmed while the drain was off or by a full disk; the drain resumes at 4",
		},
		{
			name: "a store that ends before the position", position: 9, floor: 1, end: 5, from: 9,
			off: "the drain is off: 0 messages wait for DJANGO_API_URL, 0 were trimmed",
			on:  "0 messages wait, 0 were trimmed while the drain was off or by a full disk; the drain resumes at 9",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBacklog(messaging.Position{Sequence: c.position}, c.floor, c.end, c.trimmed)
			if b.waiting() != c.waiting || b.gone() != c.gone || b.from() != c.from {
				t.Errorf("%d wait, %d were trimmed, from %d; want %d, %d, %d", b.waiting(), b.gone(), b.from(), c.waiting, c.gone, c.from)
			}
			if got := b.line(false); got != c.off {
				t.Errorf("off: %q, want %q", got, c.off)
			}
			if got := b.line(true); got != c.on {
				t.Errorf("on: %q, want %q", got, c.on)
			}
		})
	}
}
