package storage

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// tableSettled is how long a table must not have grown before it counts as one
// that was written to its end, and tableAgain how often it is looked at meanwhile.
const (
	tableSettled = 5 * time.Second
	tableAgain   = 100 * time.Millisecond
)

// VerifyTables checks the blocks of all tables of a store that may be in use.
// That is as much as can be checked beside a running service: tables are never
// changed once they are written. One that the service removes meanwhile is
// passed over, and one that it is still writing is waited for. It tells how many
// it has checked.
func VerifyTables(dir string, progress func(done, total uint64)) (tables int, report Report, err error) {
	report.Problems = []Problem{}
	names, err := filepath.Glob(filepath.Join(dir, messagesDir, "*.sst"))
	if err != nil {
		return 0, report, err
	}
	if _, err := os.Stat(filepath.Join(dir, messagesDir)); err != nil {
		return 0, report, noStore(dir)
	}
	for i, name := range names {
		there, err := checkLiveTable(name)
		if there {
			tables++
		}
		if err != nil {
			report.add(filepath.Join(messagesDir, filepath.Base(name)), "is damaged: %v", err)
		}
		if progress != nil {
			progress(uint64(i+1), uint64(len(names)))
		}
	}
	return tables, report, nil
}

// checkLiveTable checks a table that a service may be writing or removing; there
// is false where it has gone.
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
		case gone == nil && (after.Size() != before.Size() || time.Since(after.ModTime()) < tableSettled):
			time.Sleep(tableAgain)
		default:
			return true, err
		}
	}
}
