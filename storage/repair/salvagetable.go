package repair

import (
	"bytes"
	"context"
	"errors"
	"iter"
	"math/big"
	"path/filepath"

	"github.com/cockroachdb/pebble/v2/sstable"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/storage/internal/layout"
	"github.com/stayafrica/messaging/storage/internal/pebbledb"
)

// table returns the versions in one table. It skips blocks that cannot be read.
func (s *salvager) table(path string) iter.Seq[version] { return s.tableFrom(path, nil) }

// tableFrom is like table, from a key on.
func (s *salvager) tableFrom(path string, from []byte) iter.Seq[version] {
	name := filepath.Join(layout.MessagesDir, filepath.Base(path))
	return func(yield func(version) bool) {
		r, file, err := pebbledb.OpenTable(path)
		if err != nil {
			s.report.Add(name, "cannot be read: %v", err)
			return
		}
		defer r.Close()
		it, err := r.NewIter(sstable.NoTransforms, nil, nil, sstable.AssertNoBlobHandles)
		if err != nil {
			s.report.Add(name, "cannot be read: %v", err)
			return
		}
		defer it.Close()
		last := from
		for kv := it.SeekGE(from, 0); ; {
			for ; kv != nil; kv = it.Next() {
				last = bytes.Clone(kv.K.UserKey)
				value, _, err := kv.Value(nil)
				if err != nil {
					s.report.Add(name, "has a value that cannot be read: %v", err)
					continue
				}
				deleted, point := isDelete(kv.K.Kind())
				if point && !yield(version{key: last, value: bytes.Clone(value), seq: uint64(kv.K.SeqNum()), deleted: deleted}) {
					return
				}
			}
			if it.Error() == nil {
				return
			}
			s.report.Add(name, "has a block that cannot be read: %v", it.Error())
			file.MarkBad()
			behind := afterDamage(last, func(key []byte) bool {
				kv = it.SeekGE(key, 0)
				if it.Error() == nil {
					return true
				}
				file.MarkBad()
				return false
			})
			if behind == nil {
				return // the rest of the table is damaged
			}
			kv = it.SeekGE(behind, 0)
		}
	}
}

// afterDamage returns the first key after last at which reading works again, or nil if
// there is none. It treats keys as numbers of keyWidth bytes, which is the length of the
// longest entry key. It calls works at doubling distances, and then bisects between the
// last two.
func afterDamage(last []byte, works func(key []byte) bool) []byte {
	const keyWidth = 2 + messaging.MaxIDLength + 1 + 8
	limit := new(big.Int).Lsh(big.NewInt(1), 8*keyWidth)
	number := func(n *big.Int) []byte { return n.FillBytes(make([]byte, keyWidth)) }
	padded := append(bytes.Clone(last), make([]byte, keyWidth)...)[:keyWidth]
	damaged := new(big.Int).SetBytes(padded)
	fine := new(big.Int)
	for step := big.NewInt(1); ; step.Lsh(step, 1) {
		fine.Add(damaged, step)
		if fine.Cmp(limit) >= 0 {
			return nil
		}
		if works(number(fine)) {
			break
		}
		damaged.Set(fine)
	}
	for gap := new(big.Int); gap.Sub(fine, damaged).Cmp(big.NewInt(1)) > 0; {
		middle := new(big.Int).Rsh(new(big.Int).Add(fine, damaged), 1)
		if works(number(middle)) {
			fine = middle
		} else {
			damaged = middle
		}
	}
	return number(fine)
}

// rangeDeletes returns the range deletes of one table.
func rangeDeletes(path string) (deletes []rangeDelete, err error) {
	r, _, err := pebbledb.OpenTable(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	it, err := r.NewRawRangeDelIter(context.Background(), sstable.NoFragmentTransforms, sstable.NoReadEnv)
	if err != nil || it == nil {
		return nil, err
	}
	defer it.Close()
	span, err := it.First()
	for ; span != nil && err == nil; span, err = it.Next() {
		for _, key := range span.Keys {
			deletes = append(deletes, rangeDelete{bytes.Clone(span.Start), bytes.Clone(span.End), uint64(key.SeqNum())})
		}
	}
	return deletes, err
}
