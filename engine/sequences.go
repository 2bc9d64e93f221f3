package engine

import "slices"

// sequences is a set of sequences in ascending order. It is a slice, because most sets
// have few members, added and removed at the ends.
type sequences []uint64

func (s *sequences) add(seq uint64) {
	if n := len(*s); n == 0 || (*s)[n-1] < seq {
		*s = append(*s, seq)
		return
	}
	if at, found := slices.BinarySearch(*s, seq); !found {
		*s = slices.Insert(*s, at, seq)
	}
}

func (s *sequences) remove(seq uint64) {
	at, found := slices.BinarySearch(*s, seq)
	switch {
	case !found:
	case at == 0: // the common case: no member moves
		*s = (*s)[1:]
	default:
		*s = slices.Delete(*s, at, at+1)
	}
	if len(*s) == 0 {
		*s = nil
	}
}

// cutFrom removes the members at or above a sequence.
func (s *sequences) cutFrom(seq uint64) {
	at, _ := slices.BinarySearch(*s, seq)
	if *s = (*s)[:at]; at == 0 {
		*s = nil
	}
}

// orMin returns the lower of the lowest member and otherwise.
func (s *sequences) orMin(otherwise uint64) uint64 {
	if len(*s) == 0 {
		return otherwise
	}
	return min((*s)[0], otherwise)
}
