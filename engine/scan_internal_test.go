package engine

import (
	"slices"
	"testing"

	"github.com/stayafrica/messaging"
)

// upcoming returns what will be delivered next, in order, and does not change the batch.
func TestUpcomingFollowsTheTurns(t *testing.T) {
	lists := [messaging.Priorities][]candidate{
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
		t.Error("upcoming changed its arguments")
	}
}

// Prefetched records never need more memory than the batch has left.
func TestReadAheadFitsTheBatch(t *testing.T) {
	for room, want := range map[int]int{-1: 1, 0: 1, 1: 1, 3 * messaging.MaxBody: 3, maxDeliveryBytes: 8, 10 * maxDeliveryBytes: maxReadAhead} {
		if got := readAhead(room); got != want {
			t.Errorf("with %d bytes left %d records are prefetched, want %d", room, got, want)
		}
	}
}
