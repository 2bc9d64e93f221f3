package boltpage

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

// bbolt trusts its file. It follows page numbers and lengths unchecked, in its own
// goroutines, where no caller can recover a panic. So this package first walks everything
// that bbolt would follow.
//
// The bytes on disk (bbolt 1.5: internal/common page.go, meta.go, bucket.go, inode.go), in
// the machine's byte order:
//
//	page      id:8 flags:2 count:2 overflow:4, then by its flag:
//	meta      magic:4 version:4 pageSize:4 flags:4 root:16 freelist:8 pages:8 txid:8 checksum:8
//	branch    count times (pos:4 ksize:4 page:8), then the keys
//	leaf      count times (flags:4 pos:4 ksize:4 vsize:4), then each key and its value
//	freelist  count times page:8; if count is 0xFFFF, the first is the count
//	bucket    root:8 sequence:8, as the value of a leaf element whose flag is 1;
//	          if root is 0, a leaf page follows within the value
//
// A page extends over overflow further pages. pos counts from its own element, and keys
// and values follow each other without a gap. So nearly every byte here has one correct
// value, except in keys and values, which carry checksums. The meta's checksum is FNV-1a
// over the bytes before it. Its pages field is the number of pages in use. Of the
// undamaged metas, the one with the highest txid counts.
const (
	headerLen    = 16
	elementLen   = 16
	bucketLen    = 16
	metaLen      = 64
	magic        = 0xED0CDAED
	version      = 2
	sumAt        = 56
	branchPage   = 0x01
	leafPage     = 0x02
	metaPage     = 0x04
	freelistPage = 0x10
	bucketFlag   = 1
	// noFreelist replaces the freelist's page in the meta. The free pages are then those
	// that are not reachable.
	noFreelist = math.MaxUint64
	// firstPage is the first page after the meta pages.
	firstPage = 2
	// A page has at least minPage bytes and at most maxPage.
	minPage = 1 << 10
	maxPage = 16 << 20
)

var (
	errShort   = errors.New("the file is shorter than its meta page says")
	errMeta    = errors.New("both meta pages are damaged")
	errPage    = errors.New("a page is damaged")
	errBuckets = errors.New("one of the two copies of the state is missing")
)

var order = binary.NativeEndian

// Buckets names the buckets of a file.
type Buckets struct {
	// Known is the names that a bucket may have. Any other name is damage.
	Known []string
	// Required is the names of the buckets that a file must have.
	Required []string
}

// Check walks everything in a file that bbolt would follow. It returns an error if a byte
// differs from what bbolt writes.
func Check(path string, buckets Buckets) (err error) {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	w, err := newWalk(f, info.Size(), buckets)
	if err != nil {
		return err
	}
	return w.all()
}

type meta struct {
	pageSize, root, freelist, pages, txid uint64
}

// newestMeta returns the meta page that bbolt uses. The first is at the front of the
// file, the second after it. The page size depends on the machine. If the first meta is
// damaged, only the second has the size, so all sizes are tried.
func newestMeta(f io.ReaderAt, size int64) (newest meta, err error) {
	found := false
	for at := int64(0); at <= maxPage; at = max(minPage, 2*at) {
		h, m, whole, err := readMeta(f, at)
		if err != nil {
			return meta{}, err
		}
		if !whole || (at != 0 && uint64(at) != m.pageSize) {
			continue
		}
		if id := min(uint64(at), 1); h != (header{id: id, flags: metaPage}) {
			return meta{}, wrongPage(id, "has a wrong header")
		}
		if m.pages > uint64(size)/m.pageSize { //nolint:gosec // a size is not negative
			return meta{}, errShort
		}
		if !found || m.txid > newest.txid {
			newest, found = m, true
		}
	}
	if !found {
		return meta{}, errMeta
	}
	return newest, nil
}

// readMeta reads a meta page at an offset. whole is true if it is a meta page with a
// correct checksum.
func readMeta(f io.ReaderAt, at int64) (h header, m meta, whole bool, err error) {
	var page [headerLen + metaLen]byte
	if _, err := f.ReadAt(page[:], at); errors.Is(err, io.EOF) {
		return h, m, false, nil
	} else if err != nil {
		return h, m, false, err
	}
	b := page[headerLen:]
	hash := fnv.New64a()
	_, _ = hash.Write(b[:sumAt]) // a hash does not fail
	if order.Uint32(b) != magic || order.Uint32(b[4:]) != version || hash.Sum64() != order.Uint64(b[sumAt:]) {
		return h, m, false, nil
	}
	m = meta{
		pageSize: uint64(order.Uint32(b[8:])), root: order.Uint64(b[16:]),
		freelist: order.Uint64(b[32:]), pages: order.Uint64(b[40:]), txid: order.Uint64(b[48:]),
	}
	return parseHeader(page[:]), m, m.pageSize >= minPage && m.pageSize <= maxPage, nil
}

// walk visits the pages of one file.
type walk struct {
	meta

	file    io.ReaderAt
	buckets Buckets
	reached []bool // by page; no page may be reached twice
}

func newWalk(f io.ReaderAt, size int64, buckets Buckets) (*walk, error) {
	m, err := newestMeta(f, size)
	if err != nil {
		return nil, err
	}
	return &walk{meta: m, file: f, buckets: buckets, reached: make([]bool, m.pages)}, nil
}

func (w *walk) all() error {
	free, err := w.free()
	if err != nil {
		return err
	}
	required := 0
	err = w.tree(w.root, nil, nil, func(page uint64, e entry) error {
		if slices.Contains(w.buckets.Required, string(e.key)) {
			required++
		}
		return w.bucket(page, e)
	})
	if err != nil {
		return err
	}
	if required != len(w.buckets.Required) {
		return errBuckets
	}
	for _, id := range free {
		if w.reached[id] {
			return wrongPage(id, "is both free and in use")
		}
	}
	return nil
}

// tree walks the pages from id down. Their keys must ascend from the bound from to below
// the bound to; nil is no bound. It calls each with every entry of a leaf.
func (w *walk) tree(id uint64, from, to []byte, each func(page uint64, e entry) error) error {
	branch, entries, err := w.page(id)
	if err != nil {
		return err
	}
	if !ascend(entries, from, to) {
		return wrongPage(id, "has keys out of order")
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

// ascend reports whether keys are in order, the first of them not before from, and all of
// them before to.
func ascend(entries []entry, from, to []byte) bool {
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

// bucket checks an entry of the root, which must be a known bucket.
func (w *walk) bucket(page uint64, e entry) error {
	if e.flags != bucketFlag || !slices.Contains(w.buckets.Known, string(e.key)) || len(e.value) < bucketLen {
		return wrongPage(page, "has an entry that is not a known bucket")
	}
	root, inline := order.Uint64(e.value), e.value[bucketLen:]
	switch {
	case root == 0:
		return checkInline(page, inline)
	case len(inline) > 0:
		return wrongPage(page, "has a bucket that is both inline and on another page")
	}
	return w.tree(root, nil, nil, checkPlain)
}

// checkInline checks the page in a bucket's value.
func checkInline(page uint64, b []byte) error {
	if len(b) < headerLen {
		return wrongPage(page, "has a truncated bucket")
	}
	h := parseHeader(b)
	if h != (header{flags: leafPage, count: h.count}) || h.elementsEnd() > uint64(len(b)) || h.size(b) != uint64(len(b)) {
		return wrongPage(page, "has a damaged bucket")
	}
	entries := h.entries(b)
	if !ascend(entries, nil, nil) {
		return wrongPage(page, "has a bucket with keys out of order")
	}
	for _, e := range entries {
		if err := checkPlain(page, e); err != nil {
			return err
		}
	}
	return nil
}

// checkPlain checks an entry of a bucket. Buckets are not nested.
func checkPlain(page uint64, e entry) error {
	if e.flags != 0 {
		return wrongPage(page, "has an entry with an unknown flag")
	}
	return nil
}

func wrongPage(id uint64, how string) error {
	return fmt.Errorf("%w: page %d %s", errPage, id, how)
}
