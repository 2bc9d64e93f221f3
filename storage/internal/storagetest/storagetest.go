package storagetest

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/stayafrica/messaging/storage/internal/controlfile"
	"github.com/stayafrica/messaging/storage/internal/layout"
	"github.com/stayafrica/messaging/storage/internal/pebbledb"
	"github.com/stayafrica/messaging/storage/internal/schema"
	"github.com/stayafrica/messaging/storage/internal/tables"
)

// Store is the part of a store that Fill and Close use.
type Store interface {
	Meta() schema.Meta
	Control() *controlfile.Control
	NewBatch() *tables.Batch
	Close() error
}

// Fill commits n records, as the log does.
func Fill(t *testing.T, s Store, n int) {
	t.Helper()
	meta := s.Meta()
	for range n {
		meta.Last++
		b := s.NewBatch()
		b.PutRecord(meta.Last, 4, func(dst []byte) { copy(dst, "body") })
		b.PutMeta(meta)
		b.Commit()
		b.Close()
	}
	if err := s.Control().SaveWatermark(controlfile.Watermark{Sequence: meta.Last, Generation: meta.Generation}); err != nil {
		t.Fatal(err)
	}
}

// Close closes a store.
func Close(t *testing.T, s Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// Listing returns the names in a data directory, without the lock and the reserve.
func Listing(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		if e.Name() != layout.LockName && e.Name() != layout.BallastName {
			names = append(names, e.Name())
		}
	}
	return strings.Join(names, " ")
}

// Zero overwrites n bytes of a file with zeros.
func Zero(t *testing.T, path string, at int64, n int) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(make([]byte, n), at); err != nil {
		t.Error(err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}

// Codec treats every record as that of a single message.
func Codec() schema.Codec {
	return schema.Codec{
		Inspect:       func([]byte) (schema.RecordInfo, error) { return schema.RecordInfo{}, nil },
		Lost:          func(time.Time) []byte { return []byte("lost") },
		WithReceivers: func(record []byte, _ uint32) ([]byte, error) { return record, nil },
	}
}

// OpenDatabase opens the database of a store that no process has open.
func OpenDatabase(t *testing.T, dir string) *pebble.DB {
	t.Helper()
	db, err := pebbledb.Open(layout.Messages(dir), pebbledb.Config{
		FS: vfs.Default, MemTableBytes: 1 << 20, Logger: slog.New(slog.DiscardHandler), Fatal: func(doing string, err error) { t.Fatal(doing, err) },
	})
	if err != nil {
		t.Fatal(err)
	}
	return db
}

// Change makes one commit and flushes it into a table. It compacts the database first:
// two tables whose keys overlap are enough to start a background compaction, which would
// merge them.
func Change(t *testing.T, db *pebble.DB, change func(b *tables.Batch, meta schema.Meta)) {
	t.Helper()
	if err := db.Compact(t.Context(), []byte{0}, []byte{0xff}, false); err != nil {
		t.Fatal(err)
	}
	meta, err := tables.ReadMeta(tables.NewReader(db))
	if err != nil {
		t.Fatal(err)
	}
	b := tables.NewBatch(db, &tables.Config{Fatal: func(doing string, err error) { t.Fatal(doing, err) }, Logger: slog.New(slog.DiscardHandler)})
	change(b, meta)
	b.Commit()
	b.Close()
	if err := db.Flush(); err != nil {
		t.Fatal(err)
	}
}

// Flush flushes the database of a closed store into tables and compacts them.
func Flush(t *testing.T, dir string) {
	t.Helper()
	db := OpenDatabase(t, dir)
	if err := errors.Join(db.Flush(), db.Compact(t.Context(), []byte{0}, []byte{0xff}, false), db.Close()); err != nil {
		t.Fatal(err)
	}
}

// SetFormat writes a format into a control file.
func SetFormat(t *testing.T, dir string, format uint32) {
	t.Helper()
	file, err := controlfile.Open(filepath.Join(dir, layout.ControlName))
	if err != nil {
		t.Fatal(err)
	}
	id, err := controlfile.ReadIdentity(file)
	if err != nil {
		t.Fatal(err)
	}
	id.Format = format
	if err := errors.Join(file.Update(func(tx controlfile.Tx) error { return controlfile.PutIdentity(tx, id) }), file.Close()); err != nil {
		t.Fatal(err)
	}
}
