package engine

import (
	"testing"

	"github.com/stayafrica/messaging"
)

func FuzzReceipts(f *testing.F) {
	f.Add(receipt{bootID: newBootID(), user: userTag("u"), priority: messaging.Low, sequence: 1 << 40, deliveries: 3, lease: 7}.encode())
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		if r, ok := decodeReceipt(text); ok && r.encode() != text {
			t.Errorf("%q is read as %+v", text, r)
		}
	})
}

func TestNoReceiptLooksLikeAFlag(t *testing.T) {
	for range 1000 {
		if text := (receipt{bootID: newBootID()}).encode(); text[0] == '-' {
			t.Fatal(text)
		}
	}
}
