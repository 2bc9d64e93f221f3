package fsck

import (
	"encoding/binary"
	"testing"
)

// TestIDSet shows that a set has the added ids and no others.
func TestIDSet(t *testing.T) {
	var s idSet
	for n := range uint64(1000) {
		s.add(setID(n))
	}
	for n := range uint64(2000) {
		if s.has(setID(n)) != (n < 1000) {
			t.Errorf("%d", n)
		}
	}
}

func setID(n uint64) (id [16]byte) {
	binary.BigEndian.PutUint64(id[8:], n)
	return id
}
