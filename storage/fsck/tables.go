package fsck

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/cockroachdb/pebble/v2/sstable"

	"github.com/stayafrica/messaging/storage/internal/layout"
	"github.com/stayafrica/messaging/storage/internal/pebbledb"
	"github.com/stayafrica/messaging/storage/internal/schema"
)

// tableQuietTime is how long a table must not have been modified to count as completely
// written. tableAgain is the pause before it is read again.
const (
	tableQuietTime = 5 * time.Second
	tableAgain     = 100 * time.Millisecond
)

// VerifyTables checks the blocks of all tables of a store that may be in use. Next to a
// running service only tables can be checked, because they never change once written. A
// table that the service removes meanwhile is skipped. A table that it is still writing
// is waited for. It returns the number of checked tables.
func VerifyTables(dir string, progress func(done, total uint64)) (tables int, report Report, err error) {
	report.Problems = []Problem{}
	names, err := filepath.Glob(filepath.Join(dir, layout.MessagesDir, "*.sst"))
	if err != nil {
		return 0, report, err
	}
	if _, err := os.Stat(layout.Messages(dir)); err != nil {
		return 0, report, layout.NoStore(dir)
	}
	for i, name := range names {
		there, err := checkLiveTable(name)
		if there {
			tables++
		}
		if err != nil {
			report.Add(filepath.Join(layout.MessagesDir, filepath.Base(name)), "is damaged: %v", err)
		}
		if progress != nil {
			progress(uint64(i+1), uint64(len(names)))
		}
	}
	return tables, report, nil
}

// checkLiveTable checks a table that a service may be writing or removing. there is false
// if it was removed.
func checkLiveTable(path string) (there bool, err error) {
	for {
		before, err := os.Stat(path)
		if errors.Is(err, fs.ErrNotExist) {
			return false, nil
		}
		if err != nil {
			return true, err
		}
		if err = checkTable(path); err == nil {
			return true, nil
		}
		after, gone := os.Stat(path)
		switch {
		case errors.Is(gone, fs.ErrNotExist):
			return false, nil
		case gone == nil && (after.Size() != before.Size() || time.Since(after.ModTime()) < tableQuietTime):
			time.Sleep(tableAgain)
		default:
			return true, err
		}
	}
}

// checkTable checks all blocks of one table.
func checkTable(path string) error {
	r, _, err := pebbledb.OpenTable(path)
	if err != nil {
		return err
	}
	return errors.Join(r.ValidateBlockChecksums(), r.Close())
}

// lastRecordIn returns the highest sequence of a record in a table, or 0 if there is none
// or the table cannot be read.
func lastRecordIn(path string) (seq uint64) {
	r, _, err := pebbledb.OpenTable(path)
	if err != nil {
		return 0
	}
	defer func() { _ = r.Close() }() // it was only read
	it, err := r.NewIter(sstable.NoTransforms, nil, nil, sstable.AssertNoBlobHandles)
	if err != nil {
		return 0
	}
	defer func() { _ = it.Close() }() // it was only read
	if kv := it.SeekLT([]byte{schema.TableLog + 1}, 0); kv != nil && kv.K.UserKey[0] == schema.TableLog {
		seq, _ = schema.ParseNumberKey(kv.K.UserKey) // 0 if it is damaged
	}
	return seq
}
