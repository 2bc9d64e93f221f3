package repair

import (
	"bytes"
	"cmp"
	"container/heap"
	"iter"
	"path/filepath"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"github.com/stayafrica/messaging/storage/fsck"
	"github.com/stayafrica/messaging/storage/internal/layout"
)

// A database that does not open, or only partially, is read file by file. Each table and
// each write-ahead log has versions of keys in order. They are merged. The newest version
// of each key counts, unless a range delete is newer.
//
// Without a manifest it is unknown which files are in use. A log whose records are in
// tables was flushed and is skipped. Keys of other old files that were removed long ago
// may come back. So after a salvage a message may be delivered again, with the same id,
// but no readable message is missing.

// version is one version of a key.
type version struct {
	key, value []byte
	seq        uint64
	deleted    bool
}

// rangeDelete removes the older versions of keys in [from, to).
type rangeDelete struct {
	from, to []byte
	seq      uint64
}

// salvager reads the readable part of a database's files.
type salvager struct {
	dir     string
	report  *fsck.Report
	deletes []rangeDelete
}

// merged returns the merged keys of a database's files, in order.
func (s *salvager) merged() iter.Seq2[[]byte, []byte] {
	sources := append(s.tableSources(), s.logSources()...)
	slices.SortFunc(s.deletes, func(a, b rangeDelete) int { return bytes.Compare(a.from, b.from) })
	return func(yield func(key, value []byte) bool) {
		m := newMerge(sources)
		defer m.stop()
		cover := sweep{deletes: s.deletes}
		var last []byte
		for v, ok := m.next(); ok; v, ok = m.next() {
			if last != nil && bytes.Equal(v.key, last) {
				continue // an older version
			}
			last = v.key
			if v.deleted || cover.newest(v.key) > v.seq {
				continue
			}
			if !yield(v.key, v.value) {
				return
			}
		}
	}
}

// tableSources opens every table. If only the range deletes of a table are unreadable,
// the keys that they removed come back, but the rest of the table is not lost.
func (s *salvager) tableSources() (sources []iter.Seq[version]) {
	names, err := filepath.Glob(filepath.Join(s.dir, "*.sst"))
	if err != nil {
		s.report.Add(layout.MessagesDir, "%v", err)
	}
	for _, name := range names {
		deletes, err := rangeDeletes(name)
		if err != nil {
			s.report.Add(filepath.Join(layout.MessagesDir, filepath.Base(name)), "has range deletes that cannot be read: %v", err)
		}
		s.deletes = append(s.deletes, deletes...)
		sources = append(sources, s.table(name))
	}
	return sources
}

// sweep moves along ascending keys and returns the newest range delete over each.
type sweep struct {
	deletes []rangeDelete // sorted by from; those before at are in over
	at      int
	over    []rangeDelete
}

func (s *sweep) newest(key []byte) (seq uint64) {
	for s.at < len(s.deletes) && bytes.Compare(s.deletes[s.at].from, key) <= 0 {
		s.over = append(s.over, s.deletes[s.at])
		s.at++
	}
	s.over = slices.DeleteFunc(s.over, func(d rangeDelete) bool { return bytes.Compare(d.to, key) <= 0 })
	for _, d := range s.over {
		seq = max(seq, d.seq)
	}
	return seq
}

// merge reads several sources in key order, the newest version of each key first.
type merge struct {
	heads versions
	stops []func()
}

type head struct {
	version

	next func() (version, bool)
}

type versions []head

func newMerge(sources []iter.Seq[version]) *merge {
	m := &merge{}
	for _, source := range sources {
		next, stop := iter.Pull(source)
		m.stops = append(m.stops, stop)
		if v, ok := next(); ok {
			m.heads = append(m.heads, head{v, next})
		}
	}
	heap.Init(&m.heads)
	return m
}

func (m *merge) next() (version, bool) {
	if len(m.heads) == 0 {
		return version{}, false
	}
	v := m.heads[0].version
	if next, ok := m.heads[0].next(); ok {
		m.heads[0].version = next
		heap.Fix(&m.heads, 0)
	} else {
		heap.Pop(&m.heads)
	}
	return v, true
}

func (m *merge) stop() {
	for _, stop := range m.stops {
		stop()
	}
}

// Len implements [heap.Interface].
func (v *versions) Len() int { return len(*v) }

// Less implements [heap.Interface].
func (v *versions) Less(i, j int) bool {
	a, b := &(*v)[i], &(*v)[j]
	return cmp.Or(bytes.Compare(a.key, b.key), cmp.Compare(b.seq, a.seq)) < 0
}

// Swap implements [heap.Interface].
func (v *versions) Swap(i, j int) { (*v)[i], (*v)[j] = (*v)[j], (*v)[i] }

// Push implements [heap.Interface].
func (v *versions) Push(x any) { *v = append(*v, x.(head)) } //nolint:errcheck,forcetypeassert // only heads are pushed

// Pop implements [heap.Interface].
func (v *versions) Pop() any {
	last := (*v)[len(*v)-1]
	*v = (*v)[:len(*v)-1]
	return last
}

// isDelete reports whether a kind of key is a delete. point is true if the kind is of a
// single key.
func isDelete(kind pebble.InternalKeyKind) (deletes, point bool) {
	switch kind {
	case pebble.InternalKeyKindSet, pebble.InternalKeyKindSetWithDelete:
		return false, true
	case pebble.InternalKeyKindDelete, pebble.InternalKeyKindSingleDelete, pebble.InternalKeyKindDeleteSized:
		return true, true
	default:
		return false, false
	}
}
