package storage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/stayafrica/messaging"
)

// boltFile is the control file on a real disk.
type boltFile struct{ db *bbolt.DB }

var boltOptions = bbolt.Options{
	Timeout:        5 * time.Second,
	FreelistType:   bbolt.FreelistMapType,
	NoFreelistSync: true,
}

// createControlFile makes a control file under a temporary name and renames it
// when it is whole: bbolt takes an empty file for a new database, so there must
// never be one under the real name.
func createControlFile(path string, id messaging.MessageID) error {
	temporary := path + ".new"
	if err := os.Remove(temporary); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	options := boltOptions
	db, err := bbolt.Open(temporary, 0o600, &options)
	if err != nil {
		return err
	}
	err = (&Control{file: boltFile{db}}).create(id)
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

// openControlFile opens a control file whose outside is whole. A file that is
// shorter than its meta page says would kill the process when it is read.
func openControlFile(path string) (ControlFile, error) {
	if err := checkBolt(path); err != nil {
		return nil, fmt.Errorf("%w: %s: %w; restore it, and do not delete anything", ErrDamaged, path, err)
	}
	options := boltOptions
	db, err := bbolt.Open(path, 0o600, &options)
	switch {
	case err == nil:
		return boltFile{db}, nil
	case errors.Is(err, bolterrors.ErrTimeout):
		return nil, fmt.Errorf("%w: %s is held by another process", ErrLocked, path)
	case errors.Is(err, bolterrors.ErrInvalid), errors.Is(err, bolterrors.ErrChecksum), errors.Is(err, bolterrors.ErrVersionMismatch):
		return nil, fmt.Errorf("%w: %s: %w", ErrDamaged, path, err)
	}
	return nil, fmt.Errorf("open %s: %w", path, err)
}

// The meta page of bbolt, of which there are two at the front of the file:
//
//	page header:16  magic:4 version:4 pageSize:4 flags:4 root:16 freelist:8 pgid:8 txid:8 checksum:8
//
// in the machine's byte order; the checksum is FNV-1a over what is between the
// header and itself. pgid is the first page behind the last one in use.
const (
	boltHeader   = 16
	boltMetaLen  = 64
	boltMagic    = 0xED0CDAED
	boltPgidAt   = 40
	boltSumAt    = 56
	boltSizeAt   = 8
	minBoltPages = 4
)

var (
	errBoltShort = errors.New("the file is shorter than it says")
	errBoltMeta  = errors.New("neither of its two meta pages is whole")
)

// checkBolt reads both meta pages and compares the file's size with what the
// whole ones say.
func checkBolt(path string) (err error) {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	pageSize := int64(os.Getpagesize())
	if info.Size() < minBoltPages*pageSize {
		return errBoltShort
	}
	whole := 0
	for page := range int64(2) {
		need, ok, err := boltNeeds(f, page*pageSize)
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		whole++
		if info.Size() < need {
			return errBoltShort
		}
	}
	if whole == 0 {
		return errBoltMeta
	}
	return nil
}

// boltNeeds gives how long the file must be by one meta page; ok is false
// where that page is not whole.
func boltNeeds(f io.ReaderAt, at int64) (size int64, ok bool, err error) {
	var meta [boltMetaLen]byte
	if _, err := f.ReadAt(meta[:], at+boltHeader); err != nil {
		return 0, false, err
	}
	order := binary.NativeEndian
	hash := fnv.New64a()
	_, _ = hash.Write(meta[:boltSumAt]) // a hash does not fail
	if order.Uint32(meta[:]) != boltMagic || hash.Sum64() != order.Uint64(meta[boltSumAt:]) {
		return 0, false, nil
	}
	pages := order.Uint64(meta[boltPgidAt:])
	return int64(pages) * int64(order.Uint32(meta[boltSizeAt:])), true, nil //nolint:gosec // checked by its checksum
}

func (f boltFile) View(use func(tx ControlTx) error) error {
	return f.db.View(func(tx *bbolt.Tx) error { return use(boltTx{tx}) })
}

func (f boltFile) Update(change func(tx ControlTx) error) error {
	return f.db.Update(func(tx *bbolt.Tx) error { return change(boltTx{tx}) })
}

func (f boltFile) Close() error { return f.db.Close() }

type boltTx struct{ tx *bbolt.Tx }

func (t boltTx) Get(bucket, key string) []byte {
	if b := t.tx.Bucket([]byte(bucket)); b != nil {
		return b.Get([]byte(key))
	}
	return nil
}

func (t boltTx) Put(bucket, key string, value []byte) error {
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
