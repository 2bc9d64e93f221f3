package repair

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/stayafrica/messaging/storage/internal/diskfs"
	"github.com/stayafrica/messaging/storage/internal/layout"
	"github.com/stayafrica/messaging/storage/internal/pebbledb"
	"github.com/stayafrica/messaging/storage/internal/schema"
	"github.com/stayafrica/messaging/storage/internal/tables"
)

const (
	// repairBatch is how many bytes are committed at a time.
	repairBatch = 4 << 20
	// repairMemTable bounds the memtables of the new store.
	repairMemTable = 4 << 20
	// repairSpace is the free space that a repair needs in addition to the size of the
	// store. Half of it is enough to write what is in memory.
	repairSpace = 64 << 20
)

// build creates the new store and the file that is the commit point.
func (r *repairer) build() error {
	if err := errors.Join(r.removeNew(), pebbledb.RefuseNewerFormat(vfs.Default, r.path(layout.MessagesDir))); err != nil {
		return err
	}
	if err := r.wantSpace(); err != nil {
		return err
	}
	if r.state = r.readControl(); r.state.newer != nil {
		return r.state.newer
	}
	if err := r.buildMessages(); err != nil {
		return err
	}
	if err := r.buildControl(); err != nil {
		return err
	}
	if err := r.makeQuarantine(); err != nil {
		return err
	}
	return r.note(r.done.Quarantine)
}

// wantSpace refuses a repair for which the disk has too little space.
func (r *repairer) wantSpace() error {
	var size uint64
	err := filepath.WalkDir(r.path(layout.MessagesDir), func(_ string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return nil //nolint:nilerr // a file that was removed needs no space
		}
		if info, err := e.Info(); err == nil {
			size += uint64(info.Size()) //nolint:gosec // not negative
		}
		return nil
	})
	free, freeErr := layout.Free(r.config.Dir)
	if err = errors.Join(err, freeErr); err != nil {
		return err
	}
	if need := size + size/8 + repairSpace; free < need {
		return fmt.Errorf("%w: a repair needs about %d MiB, and %d MiB are free", layout.ErrDiskFull, need>>20, free>>20)
	}
	return nil
}

// write makes a batch durable and empties it. It ends the repair if the disk is nearly
// full, because Pebble would wait for space forever.
func (r *repairer) write(batch *tables.Batch) {
	if free, err := layout.Free(r.config.Dir); err == nil && free < repairSpace/2 {
		panic(repairFailed{fmt.Errorf("%w: %d MiB are free", layout.ErrDiskFull, free>>20)}) //nolint:forbidigo // to the recover of buildMessages
	}
	batch.Commit()
	batch.Reset()
}

// writeLarge calls write if the batch is large enough.
func (r *repairer) writeLarge(batch *tables.Batch) {
	if batch.Len() > repairBatch {
		r.write(batch)
	}
}

// buildMessages copies the readable part of the database and makes it consistent.
func (r *repairer) buildMessages() (err error) {
	defer func() {
		switch p := recover().(type) {
		case nil:
		case repairFailed:
			err = p.err
		default:
			panic(p) //nolint:forbidigo // not a panic of this package
		}
		if r.db != nil {
			err = errors.Join(err, r.db.Close())
		}
		r.db = nil
	}()
	if r.db, err = pebbledb.Create(r.path(repairedDir), pebbleConfig(r.newFS())); err != nil {
		return err
	}
	r.into = tables.NewReader(r.db)
	// As when a store is created: the first write-ahead log must not be used.
	if err := errors.Join(r.db.Set([]byte{schema.TableMeta}, make([]byte, schema.MetaLen), pebble.Sync), r.db.Flush()); err != nil {
		return err
	}
	if err := r.copyKeys(); err != nil {
		return err
	}
	if err := r.rebuild(); err != nil {
		return err
	}
	return r.db.Flush()
}

// newFS returns the file system of the new database. On a full disk it waits for space,
// but write ends the repair before that happens.
func (r *repairer) newFS() vfs.FS {
	wait := func() { diskfs.WaitForSpace(r.config.Dir, func() bool { return false }) }
	return &diskfs.DeferredRemove{FS: diskfs.Ordered{FS: vfs.OnDiskFull(vfs.Default, wait), Fatal: fail}}
}

func pebbleConfig(fs vfs.FS) pebbledb.Config {
	return pebbledb.Config{FS: fs, CacheBytes: 64 << 20, MemTableBytes: repairMemTable, Logger: slog.New(slog.DiscardHandler), Fatal: fail}
}

// fail ends the repair where no error can be returned.
func fail(doing string, err error) {
	panic(repairFailed{layout.MarkDiskFull(fmt.Errorf("%s: %w", doing, err))}) //nolint:forbidigo // to the recover of buildMessages
}

// repairFailed carries an error out of a batch.
type repairFailed struct{ err error }
