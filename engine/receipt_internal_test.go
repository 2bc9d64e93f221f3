package engine

import (
	"encoding/base64"
	"testing"

	"github.com/stayafrica/messaging"
)

var sampleReceipt = receipt{priority: messaging.Low, sequence: 1 << 40, deliveries: 3, lease: 7}

func FuzzReceipts(f *testing.F) {
	k := newReceiptKey()
	f.Add(k.encode("u", sampleReceipt))
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		if r, outcome := k.decode("u", text); outcome == "" && k.encode("u", r) != text {
			t.Errorf("%q is read as %+v", text, r)
		}
	})
}

func TestReceiptsAreRead(t *testing.T) {
	k, former := newReceiptKey(), newReceiptKey()
	text := k.encode("u", sampleReceipt)
	for _, c := range []struct {
		name string
		user messaging.UserID
		text string
		want messaging.Outcome
	}{
		{"of the user", "u", text, ""},
		{"of another user", "v", text, messaging.Unknown},
		{"of another run", "u", former.encode("u", sampleReceipt), messaging.Expired},
		{"cut", "u", text[:len(text)-2], messaging.Unknown},
		{"longer", "u", text + "AA", messaging.Unknown},
		{"no base64", "u", "!" + text[1:], messaging.Unknown},
		{"empty", "u", "", messaging.Unknown},
		{"very long", "u", text + text + text, messaging.Unknown},
	} {
		r, outcome := k.decode(c.user, c.text)
		if outcome != c.want || (outcome == "" && r != sampleReceipt) {
			t.Errorf("%s: %+v, %q; want %q", c.name, r, outcome, c.want)
		}
	}
}

// A receipt cannot be made from another one: no change of a bit leaves it valid.
func TestReceiptsCannotBeForged(t *testing.T) {
	k := newReceiptKey()
	raw, err := base64.RawURLEncoding.DecodeString(k.encode("u", sampleReceipt))
	if err != nil {
		t.Fatal(err)
	}
	for bit := range 8 * len(raw) {
		raw[bit/8] ^= 1 << (bit % 8)
		if r, outcome := k.decode("u", base64.RawURLEncoding.EncodeToString(raw)); outcome == "" {
			t.Errorf("with bit %d changed it is read as %+v", bit, r)
		}
		raw[bit/8] ^= 1 << (bit % 8)
	}
}

func TestNoReceiptLooksLikeAFlag(t *testing.T) {
	for range 1000 {
		k := newReceiptKey()
		if text := k.encode("u", receipt{}); text[0] == '-' {
			t.Fatal(text)
		}
	}
}

func BenchmarkReceipt(b *testing.B) {
	k := newReceiptKey()
	b.ReportAllocs()
	for b.Loop() {
		if _, outcome := k.decode("789", k.encode("789", sampleReceipt)); outcome != "" {
			b.Fatal(outcome)
		}
	}
}
