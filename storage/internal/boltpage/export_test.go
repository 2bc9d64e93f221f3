package boltpage

import (
	"os"
	"testing"
)

// Constants for the tests of package boltpage_test.
const (
	BranchPage   = branchPage
	LeafPage     = leafPage
	FreelistPage = freelistPage
	NoFreelist   = noFreelist
	FirstPage    = firstPage
)

// Structure is the offsets of a file's headers, metas and elements.
type Structure struct {
	Offsets map[int64]bool
	// Kinds counts the pages by flag; 0 counts those with overflow pages.
	Kinds                     map[uint16]int
	PageSize, Pages, Freelist uint64
}

// ReadStructure returns the structure of an undamaged control file.
func ReadStructure(t *testing.T, path string, buckets Buckets) Structure {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	w, err := newWalk(f, info.Size(), buckets)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.all(); err != nil {
		t.Fatal(err)
	}
	s := Structure{
		Offsets: make(map[int64]bool), Kinds: make(map[uint16]int),
		PageSize: w.pageSize, Pages: w.pages, Freelist: w.freelist,
	}
	mark := func(id, n uint64) {
		for at := range n {
			s.Offsets[int64(id*w.pageSize+at)] = true
		}
	}
	mark(0, headerLen+metaLen)
	mark(1, headerLen+metaLen)
	for id := uint64(firstPage); id < w.pages; id++ {
		if b, err := w.read(id, headerLen); err == nil && w.reached[id] && parseHeader(b).id == id {
			h := parseHeader(b)
			s.Kinds[h.flags]++
			if h.overflow > 0 {
				s.Kinds[0]++
				id += uint64(h.overflow)
			}
			mark(h.id, h.elementsEnd())
		}
	}
	return s
}
