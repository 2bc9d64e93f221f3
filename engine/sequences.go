package engine

import "slices"

// sequences is a set of sequences in ascending order. It is a slice: most have
// a handful of members, which come and go at its ends.
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
	case at == 0: // the usual one: nothing has to move
		*s = (*s)[1:]
	default:
		*s = slices.Delete(*s, at, at+1)
	}
	if len(*s) == 0 {
		*s = nil
	}
}

// orMin gives the lowest member, or otherwise where that is lower.
func (s *sequences) orMin(otherwise uint64) uint64 {
	if len(*s) == 0 {
		return otherwise
	}
	return min((*s)[0], otherwise)
}
