package engine

import (
	"strings"
	"testing"
)

func TestOneLeasedMessageIsCountedInTheSingular(t *testing.T) {
	for leased, want := range map[int]string{1: "1 message of this queue is leased", 2: "2 messages of this queue are leased"} {
		if err := leasedOut(leased); !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q, want %q", err, want)
		}
	}
}
