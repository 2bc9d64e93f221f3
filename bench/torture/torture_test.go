package torture_test

import (
	"testing"

	"github.com/stayafrica/messaging/bench/torture"
)

// TestRoundsAreDrawnFromTheirSeeds: the same seed repeats the same round, whatever its
// number.
func TestRoundsAreDrawnFromTheirSeeds(t *testing.T) {
	t.Setenv("TORTURE_SEED", "7")
	t.Setenv("TORTURE_ROUNDS", "3")
	var seeds, drawn []uint64
	torture.Run(t, 1, func(r *torture.Round) {
		seeds, drawn = append(seeds, r.Seed), append(drawn, r.Rand.Uint64())
		r.Count("rounds", 1)
	})
	if len(seeds) != 3 || seeds[0] != 7 || seeds[2] != 9 {
		t.Fatalf("seeds %v", seeds)
	}
	t.Setenv("TORTURE_SEED", "9")
	t.Setenv("TORTURE_ROUNDS", "1")
	torture.Run(t, 1, func(r *torture.Round) {
		if again := r.Rand.Uint64(); again != drawn[2] {
			t.Errorf("the round drew %d, and again %d", drawn[2], again)
		}
	})
}

func TestControlWantsAFailure(t *testing.T) {
	rounds := 0
	torture.Control(t, 5, func(r *torture.Round) {
		rounds++
		if r.Number == 2 {
			r.Fatal("lost")
		}
	})
	if rounds != 3 {
		t.Errorf("%d rounds, want 3: the third one fails", rounds)
	}
}
