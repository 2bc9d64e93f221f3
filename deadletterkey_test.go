package messaging_test

import (
	"math"
	"testing"

	"github.com/go-json-experiment/json"

	"github.com/stayafrica/messaging"
)

func TestDeadLetterKeyRoundTripsAsText(t *testing.T) {
	for text, key := range map[string]messaging.DeadLetterKey{
		`""`: {}, `"refused-7-0"`: {Kind: messaging.Refused, Sequence: 7},
		`"undeliverable-18446744073709551615-ffffffffffffffff"`: {Kind: messaging.Undeliverable, Sequence: math.MaxUint64, Reason: math.MaxUint64},
	} {
		written, err := json.Marshal(key)
		if err != nil || string(written) != text {
			t.Errorf("%+v is written as %s (%v), want %s", key, written, err, text)
		}
		got := messaging.DeadLetterKey{Sequence: 1}
		if err := json.Unmarshal([]byte(text), &got); err != nil || got != key {
			t.Errorf("%s is read as %+v (%v)", text, got, err)
		}
	}
	for _, text := range []string{"refused-7", "refused-7-0-0", "other-7-0", "refused-x-0", "refused-7-g", "refused--1-0", "-7-0"} {
		if err := new(messaging.DeadLetterKey).UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q is accepted as a key", text)
		}
	}
}
