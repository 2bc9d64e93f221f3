package controlfile

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/storage/internal/boltpage"
	"github.com/stayafrica/messaging/storage/internal/layout"
)

// boltFile is the control file on a real disk.
type boltFile struct{ db *bbolt.DB }

var boltOptions = bbolt.Options{
	Timeout:        5 * time.Second,
	FreelistType:   bbolt.FreelistMapType,
	NoFreelistSync: true,
	OpenFile: func(name string, flag int, mode os.FileMode) (*os.File, error) {
		return os.OpenFile(name, flag|layout.NoFollow, mode)
	},
}

// Create creates a control file under a temporary name and renames it once it is
// complete. The real name must never have an empty file: bbolt takes one for a new
// database.
func Create(path string, id messaging.MessageID, mark Watermark) error {
	temporary := path + ".new"
	if err := os.Remove(temporary); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	options := boltOptions
	db, err := bbolt.Open(temporary, 0o600, &options)
	if err != nil {
		return err
	}
	err = Init(boltFile{db}, id, mark)
	if err = errors.Join(err, db.Sync(), db.Close()); err != nil {
		return err
	}
	if err := os.Rename(temporary, path); err != nil {
		return err
	}
	return syncParent(path)
}

func syncParent(path string) error {
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// Open opens a control file after checking the pages that bbolt would follow. Reading a
// damaged page through bbolt would kill the process.
func Open(path string) (File, error) {
	if err := check(path); err != nil {
		return nil, fmt.Errorf("%w: %s: %w; %s", layout.ErrCorrupt, path, err, layout.HowToRepair)
	}
	options := boltOptions
	db, err := bbolt.Open(path, 0o600, &options)
	switch {
	case err == nil:
		return boltFile{db}, nil
	case errors.Is(err, bolterrors.ErrTimeout):
		return nil, fmt.Errorf("%w: %s is held by another process", layout.ErrLocked, path)
	case errors.Is(err, bolterrors.ErrInvalid), errors.Is(err, bolterrors.ErrChecksum), errors.Is(err, bolterrors.ErrVersionMismatch):
		return nil, fmt.Errorf("%w: %s: %w", layout.ErrCorrupt, path, err)
	}
	return nil, fmt.Errorf("open %s: %w", path, err)
}

// OpenRead opens a control file read-only. Its error is bbolt's, or describes the damage.
func OpenRead(path string) (File, error) {
	if err := check(path); err != nil {
		return nil, err
	}
	options := boltOptions
	options.ReadOnly = true
	db, err := bbolt.Open(path, 0o600, &options)
	if err != nil {
		return nil, fmt.Errorf("cannot be opened: %w", err)
	}
	return boltFile{db}, nil
}

// FromBolt returns the control file in an open bbolt database.
func FromBolt(db *bbolt.DB) File { return boltFile{db} }

// check walks all pages that bbolt would follow.
func check(path string) error {
	return boltpage.Check(path, boltpage.Buckets{Known: Buckets(), Required: StateBuckets()})
}

func (f boltFile) View(use func(tx Tx) error) error {
	return f.db.View(func(tx *bbolt.Tx) error { return use(boltTx{tx}) })
}

func (f boltFile) Update(change func(tx Tx) error) error {
	return f.db.Update(func(tx *bbolt.Tx) error { return change(boltTx{tx}) })
}

func (f boltFile) Close() error { return f.db.Close() }

// errUnknownBucket means that a bucket is missing from [Buckets]. The next start would
// refuse the file.
var errUnknownBucket = errors.New("control file has no such bucket")

type boltTx struct{ tx *bbolt.Tx }

func (t boltTx) Get(bucket, key string) []byte {
	if b := t.tx.Bucket([]byte(bucket)); b != nil {
		return b.Get([]byte(key))
	}
	return nil
}

func (t boltTx) Put(bucket, key string, value []byte) error {
	if !slices.Contains(Buckets(), bucket) {
		return fmt.Errorf("%w: %s", errUnknownBucket, bucket)
	}
	b, err := t.tx.CreateBucketIfNotExists([]byte(bucket))
	if err != nil {
		return err
	}
	return b.Put([]byte(key), value)
}

func (t boltTx) Delete(bucket, key string) error {
	if b := t.tx.Bucket([]byte(bucket)); b != nil {
		return b.Delete([]byte(key))
	}
	return nil
}

func (t boltTx) Scan(bucket, from string, each func(key string, value []byte) bool) {
	b := t.tx.Bucket([]byte(bucket))
	if b == nil {
		return
	}
	cursor := b.Cursor()
	for k, v := cursor.Seek([]byte(from)); k != nil; k, v = cursor.Next() {
		if !each(string(k), v) {
			return
		}
	}
}
