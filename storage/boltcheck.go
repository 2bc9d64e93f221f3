package storage

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math"
	"os"
	"slices"
)

// bbolt trusts its file: it follows page numbers and lengths as it finds them,
// in goroutines of its own where nobody can recover a panic. So before it gets
// the file, all that it would follow is walked here.
//
// What is on disk (bbolt 1.5: internal/common page.go, meta.go, bucket.go and
// inode.go), in the machine's byte order:
//
//	page      id:8 flags:2 count:2 overflow:4, then by its flag:
//	meta      magic:4 version:4 pageSize:4 flags:4 root:16 freelist:8 pages:8 txid:8 checksum:8
//	branch    count times (pos:4 ksize:4 page:8), then the keys
//	leaf      count times (flags:4 pos:4 ksize:4 vsize:4), then each key and its value
//	freelist  count times page:8; where count is 0xFFFF the first is the count
//	bucket    root:8 sequence:8, as the value of a leaf element whose flag is 1;
//	          where root is 0 a leaf page follows within the value
//
// A page goes on over overflow more pages. pos counts from its own element, and
// keys and values follow each other without a gap, so there is one right value
// for nearly every byte here but the keys and values themselves, which carry
// checksums. The meta's checksum is FNV-1a over what is before it; its pages is
// the number of pages in use, and the whole meta with the highest txid counts.
const (
	boltHeader   = 16
	boltElement  = 16
	boltBucket   = 16
	boltMetaLen  = 64
	boltMagic    = 0xED0CDAED
	boltVersion  = 2
	boltSumAt    = 56
	boltBranch   = 0x01
	boltLeaf     = 0x02
	boltIsMeta   = 0x04
	boltFreelist = 0x10
	boltIsBucket = 1
	// noFreelist stands in the meta in place of a page: the free pages are those
	// that nothing reaches.
	noFreelist = math.MaxUint64
	// firstBoltPage is the first that is no meta page.
	firstBoltPage = 2
	// A page has at least minBoltPage bytes and at most maxBoltPage.
	minBoltPage = 1 << 10
	maxBoltPage = 16 << 20
)

var (
	errBoltShort   = errors.New("the file is shorter than it says")
	errBoltMeta    = errors.New("neither of its two meta pages is whole")
	errBoltPage    = errors.New("a page is not as it was written")
	errBoltBuckets = errors.New("one of its two copies of the state is missing")
)

var boltOrder = binary.NativeEndian

// checkBolt walks all that bbolt would follow in a file.
func checkBolt(path string) (err error) {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	meta, err := newestBoltMeta(f, info.Size())
	if err != nil {
		return err
	}
	walk := boltWalk{file: f, boltMeta: meta, reached: make([]bool, meta.pages)}
	return walk.all()
}

type boltMeta struct {
	pageSize, root, freelist, pages, txid uint64
}

// newestBoltMeta gives the meta page that bbolt goes by. The first stands at
// the front of the file; the second behind it, where the size of a page, which
// depends on the machine, is known from itself alone if the first is not whole.
func newestBoltMeta(f io.ReaderAt, size int64) (newest boltMeta, err error) {
	found := false
	for at := int64(0); at <= maxBoltPage; at = max(minBoltPage, 2*at) {
		h, m, whole, err := readBoltMeta(f, at)
		if err != nil {
			return boltMeta{}, err
		}
		if !whole || (at != 0 && uint64(at) != m.pageSize) {
			continue
		}
		if id := min(uint64(at), 1); h != (boltPage{id: id, flags: boltIsMeta}) {
			return boltMeta{}, wrongPage(id, "is not as it was written")
		}
		if m.pages > uint64(size)/m.pageSize { //nolint:gosec // a size is not negative
			return boltMeta{}, errBoltShort
		}
		if !found || m.txid > newest.txid {
			newest, found = m, true
		}
	}
	if !found {
		return boltMeta{}, errBoltMeta
	}
	return newest, nil
}

// readBoltMeta reads what stands at a place; whole says that it is a meta page,
// whose checksum is right.
func readBoltMeta(f io.ReaderAt, at int64) (h boltPage, m boltMeta, whole bool, err error) {
	var page [boltHeader + boltMetaLen]byte
	if _, err := f.ReadAt(page[:], at); errors.Is(err, io.EOF) {
		return h, m, false, nil
	} else if err != nil {
		return h, m, false, err
	}
	b := page[boltHeader:]
	hash := fnv.New64a()
	_, _ = hash.Write(b[:boltSumAt]) // a hash does not fail
	if boltOrder.Uint32(b) != boltMagic || boltOrder.Uint32(b[4:]) != boltVersion || hash.Sum64() != boltOrder.Uint64(b[boltSumAt:]) {
		return h, m, false, nil
	}
	m = boltMeta{
		pageSize: uint64(boltOrder.Uint32(b[8:])), root: boltOrder.Uint64(b[16:]),
		freelist: boltOrder.Uint64(b[32:]), pages: boltOrder.Uint64(b[40:]), txid: boltOrder.Uint64(b[48:]),
	}
	return parseBoltHeader(page[:]), m, m.pageSize >= minBoltPage && m.pageSize <= maxBoltPage, nil
}

// boltWalk goes through the pages of one file.
type boltWalk struct {
	boltMeta
	file    io.ReaderAt
	reached []bool // by page: no page may be reached twice
}

func (w *boltWalk) all() error {
	free, err := w.free()
	if err != nil {
		return err
	}
	copies := 0
	err = w.tree(w.root, nil, nil, func(page uint64, e boltEntry) error {
		if slices.Contains(stateBuckets[:], string(e.key)) {
			copies++
		}
		return w.bucket(page, e)
	})
	if err != nil {
		return err
	}
	if copies != len(stateBuckets) {
		return errBoltBuckets
	}
	for _, id := range free {
		if w.reached[id] {
			return wrongPage(id, "is free and in use")
		}
	}
	return nil
}

// tree walks the pages from id down, whose keys must ascend from the bound from
// to below the bound to; nil is none. It calls each with every entry of a leaf.
func (w *boltWalk) tree(id uint64, from, to []byte, each func(page uint64, e boltEntry) error) error {
	branch, entries, err := w.page(id)
	if err != nil {
		return err
	}
	if !ascend(entries, from, to) {
		return wrongPage(id, "has its keys out of order")
	}
	for i, e := range entries {
		end := to
		if i+1 < len(entries) {
			end = entries[i+1].key
		}
		if branch {
			err = w.tree(e.page, e.key, end, each)
		} else {
			err = each(id, e)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// ascend says whether keys are in order, the first of them not before from, and
// all of them before to.
func ascend(entries []boltEntry, from, to []byte) bool {
	for i, e := range entries {
		switch {
		case i == 0 && bytes.Compare(e.key, from) < 0,
			i > 0 && bytes.Compare(e.key, entries[i-1].key) <= 0,
			to != nil && bytes.Compare(e.key, to) >= 0:
			return false
		}
	}
	return true
}

// bucket checks an entry of the root, all of which are buckets of ours.
func (w *boltWalk) bucket(page uint64, e boltEntry) error {
	if e.flags != boltIsBucket || !slices.Contains(controlBuckets[:], string(e.key)) || len(e.value) < boltBucket {
		return wrongPage(page, "has something else than a bucket")
	}
	root, inline := boltOrder.Uint64(e.value), e.value[boltBucket:]
	switch {
	case root == 0:
		return checkInline(page, inline)
	case len(inline) > 0:
		return wrongPage(page, "has a bucket that is both here and elsewhere")
	}
	return w.tree(root, nil, nil, checkPlain)
}

// checkInline checks the page inside a bucket's value.
func checkInline(page uint64, b []byte) error {
	if len(b) < boltHeader {
		return wrongPage(page, "has a bucket that is cut")
	}
	h := parseBoltHeader(b)
	if h != (boltPage{flags: boltLeaf, count: h.count}) || h.elementsEnd() > uint64(len(b)) || h.size(b) != uint64(len(b)) {
		return wrongPage(page, "has a bucket that is not as it was written")
	}
	entries := h.entries(b)
	if !ascend(entries, nil, nil) {
		return wrongPage(page, "has a bucket with its keys out of order")
	}
	for _, e := range entries {
		if err := checkPlain(page, e); err != nil {
			return err
		}
	}
	return nil
}

// checkPlain checks an entry of a bucket: no bucket has others inside.
func checkPlain(page uint64, e boltEntry) error {
	if e.flags != 0 {
		return wrongPage(page, "has an entry with an unknown flag")
	}
	return nil
}

func wrongPage(id uint64, how string) error {
	return fmt.Errorf("%w: page %d %s", errBoltPage, id, how)
}
