package repair

import (
	"errors"
	"path/filepath"
	"slices"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/stayafrica/messaging/storage/fsck"
	"github.com/stayafrica/messaging/storage/internal/layout"
	"github.com/stayafrica/messaging/storage/internal/pebbledb"
	"github.com/stayafrica/messaging/storage/internal/schema"
	"github.com/stayafrica/messaging/storage/internal/tables"
)

// copyKeys copies the tables that cannot be rebuilt from others.
func (r *repairer) copyKeys() error {
	batch := r.newBatch()
	defer batch.Close()
	put := func(key, value []byte) bool {
		switch key[0] {
		case schema.TableMeta:
			var err error
			if r.meta, err = schema.DecodeMeta(value); err == nil { // an unreadable one is rebuilt
				r.metaVersion = value[0]
			}
			return true
		case schema.TableLog, schema.TableReceivers, schema.TableQueue, schema.TableDelayed, schema.TableClear, schema.TableIdempotency, schema.TableFanout, schema.TableTime,
			schema.TableLetterMessage, schema.TableLetter, schema.TableLetterRecipient, schema.TablePosition, schema.TableJob:
		default:
			return true // rebuilt
		}
		tables.Set(batch, key, value)
		r.writeLarge(batch)
		return true
	}
	err := r.eachKey(put)
	r.write(batch)
	return err
}

// eachKey calls each for every key of the old database. It uses Pebble if Pebble can read
// the database to its end, uses all existing tables, and finds as many records as the
// logs have. Otherwise it reads file by file. A truncated manifest opens without an
// error, as an older manifest, and does not name the tables written since.
func (r *repairer) eachKey(each func(key, value []byte) bool) error {
	db, last, ok := r.openIntact()
	salvage := &salvager{dir: r.path(layout.MessagesDir), report: new(fsck.Report)}
	if !ok || salvage.lastRecord() > last {
		if ok {
			_ = db.Close() // it was only read
		}
		for key, value := range salvage.merged() {
			each(key, value)
		}
		for _, p := range salvage.report.Problems {
			r.change("%s %s", p.Where, p.What)
		}
		r.change("the files of %s were read one by one: messages that were taken may be delivered again", layout.MessagesDir)
		return nil
	}
	it, err := db.NewIter(nil)
	if err != nil {
		return errors.Join(err, db.Close())
	}
	for ok := it.First(); ok; ok = it.Next() {
		each(it.Key(), it.Value())
	}
	return errors.Join(it.Error(), it.Close(), db.Close())
}

// openIntact opens the old database if Pebble can read it to its end. It returns the
// sequence of its last record.
func (r *repairer) openIntact() (db *pebble.DB, last uint64, ok bool) {
	db, err := pebbledb.OpenReadOnly(r.path(layout.MessagesDir), pebbleConfig(vfs.Default))
	if err != nil {
		return nil, 0, false
	}
	it, err := db.NewIter(nil)
	if err == nil {
		for ok := it.First(); ok && err == nil; ok = it.Next() {
			if _, err = it.ValueAndErr(); it.Key()[0] == schema.TableLog {
				last, _ = schema.ParseNumberKey(it.Key())
			}
		}
		err = errors.Join(err, it.Error(), it.Close())
	}
	if err != nil || !r.usesAllTables(db) {
		_ = db.Close() // it was only read
		return nil, 0, false
	}
	return db, last, true
}

// usesAllTables reports whether a database names every existing table.
func (r *repairer) usesAllTables(db *pebble.DB) bool {
	live, err := pebbledb.LiveTables(db)
	names, globErr := filepath.Glob(filepath.Join(r.path(layout.MessagesDir), "*.sst"))
	return errors.Join(err, globErr) == nil && !slices.ContainsFunc(names, func(name string) bool { return !live[filepath.Base(name)] })
}
