package fsck

import (
	"cmp"
	"slices"
)

// Spans is a set of sequences as ranges. They are added in ascending order.
type Spans []Span

// Span is the sequences in [From, To).
type Span struct{ From, To uint64 }

// Add adds the sequences in [from, to).
func (s *Spans) Add(from, to uint64) {
	if n := len(*s); n > 0 && (*s)[n-1].To == from {
		(*s)[n-1].To = to
		return
	}
	*s = append(*s, Span{from, to})
}

// Has reports whether a sequence was added.
func (s *Spans) Has(seq uint64) bool {
	_, found := slices.BinarySearchFunc(*s, seq, func(e Span, seq uint64) int {
		switch {
		case e.To <= seq:
			return -1
		case e.From > seq:
			return 1
		}
		return 0
	})
	return found
}

// Sort sorts ranges, which must not overlap.
func (s *Spans) Sort() {
	slices.SortFunc(*s, func(a, b Span) int { return cmp.Compare(a.From, b.From) })
}
