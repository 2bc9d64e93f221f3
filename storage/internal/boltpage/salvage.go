package boltpage

import (
	"io"
	"slices"
)

// Salvage calls each for every reachable entry of the known buckets. It skips a damaged
// page and the pages below it. Keys and values are valid during the call, and may be
// damaged themselves. It returns an error if the file has no undamaged meta page or is
// shorter than its meta page says.
func Salvage(f io.ReaderAt, size int64, known []string, each func(bucket string, key, value []byte)) error {
	w, err := newWalk(f, size, Buckets{Known: known})
	if err != nil {
		return err
	}
	w.salvage(w.root, func(e entry) {
		if e.flags == bucketFlag && slices.Contains(known, string(e.key)) && len(e.value) >= bucketLen {
			name := string(e.key)
			w.salvageBucket(e.value, func(e entry) { each(name, e.key, e.value) })
		}
	})
	return nil
}

// salvage calls each for the reachable entries of a tree.
func (w *walk) salvage(id uint64, each func(e entry)) {
	branch, entries, err := w.page(id)
	if err != nil {
		return
	}
	for _, e := range entries {
		if branch {
			w.salvage(e.page, each)
		} else {
			each(e)
		}
	}
}

// salvageBucket calls each for the reachable entries of the bucket that value describes.
func (w *walk) salvageBucket(value []byte, each func(e entry)) {
	if root := order.Uint64(value); root != 0 {
		w.salvage(root, each)
		return
	}
	inline := value[bucketLen:]
	if checkInline(0, inline) != nil {
		return
	}
	for _, e := range parseHeader(inline).entries(inline) {
		each(e)
	}
}
