package engine

import (
	"slices"
	"testing"

	"github.com/stayafrica/messaging"
)

// What a look asks for ahead is what it will hand out next, in that order, and it
// does not move the page itself.
func TestUpcomingFollowsTheTurns(t *testing.T) {
	lists := [messaging.Priorities][]place{
		messaging.High:   {{sequence: 10}, {sequence: 11}, {sequence: 12}},
		messaging.Normal: {{sequence: 1}, {sequence: 2}},
		messaging.Low:    {{sequence: 5}},
	}
	for _, test := range []struct {
		name    string
		weights *Weights
		n       int
		want    []uint64
	}{
		{"strict", nil, 4, []uint64{10, 11, 12, 1}},
		{"more than there are", nil, 9, []uint64{10, 11, 12, 1, 2, 5}},
		{"by weight", &Weights{messaging.High: 2, messaging.Normal: 1, messaging.Low: 1}, 4, []uint64{10, 1, 5, 11}},
	} {
		got := upcoming(test.weights, [messaging.Priorities]int{}, lists, test.n)
		if !slices.Equal(got, test.want) {
			t.Errorf("%s: %v, want %v", test.name, got, test.want)
		}
	}
	if len(lists[messaging.High]) != 3 {
		t.Error("the page has moved")
	}
}

// What is asked for ahead never takes more memory than the page has room for.
func TestReadAheadFindsRoom(t *testing.T) {
	for room, want := range map[int]int{-1: 1, 0: 1, 1: 1, 3 * messaging.MaxBody: 3, maxHandout: 8, 10 * maxHandout: maxReadAhead} {
		if got := readAhead(room); got != want {
			t.Errorf("with room for %d bytes %d records are asked for, want %d", room, got, want)
		}
	}
}
