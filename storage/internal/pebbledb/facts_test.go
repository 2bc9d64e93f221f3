package pebbledb

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/stayafrica/messaging/storage/internal/filetest"
)

// Measured behavior of Pebble that the checks at open rely on. If a test fails after an
// upgrade of Pebble, a check has become unnecessary or insufficient.

const factKeys = 200

// The tests set FS. By default Pebble monitors the disk in a goroutine, which it does not
// end if opening fails.
//
// factLogger discards hundreds of lines about replayed logs.
var factLogger = logger{Logger: slog.New(slog.DiscardHandler)}

// factDatabase creates a database with Pebble directly. Its live log has acknowledged
// keys.
func factDatabase(t *testing.T, format pebble.FormatMajorVersion, flushed bool) string {
	t.Helper()
	dir := t.TempDir()
	db, err := pebble.Open(dir, &pebble.Options{FormatMajorVersion: format, Logger: factLogger, FS: vfs.Default})
	if err != nil {
		t.Fatal(err)
	}
	if flushed {
		err = errors.Join(db.Set([]byte("first"), nil, pebble.Sync), db.Flush())
	}
	for i := range uint64(factKeys) {
		err = errors.Join(err, db.Set(binary.BigEndian.AppendUint64([]byte{'k'}, i), make([]byte, 1000), pebble.Sync))
	}
	if err = errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	return dir
}

// factKeysLeft opens a database with Pebble directly and counts the keys.
func factKeysLeft(dir string) (n int, err error) {
	db, err := pebble.Open(dir, &pebble.Options{ErrorIfNotExists: true, Logger: factLogger, FS: vfs.Default})
	if err != nil {
		return 0, err
	}
	it, err := db.NewIter(&pebble.IterOptions{LowerBound: []byte{'k'}, UpperBound: []byte{'l'}})
	if err != nil {
		return 0, errors.Join(err, db.Close())
	}
	for ok := it.First(); ok; ok = it.Next() {
		n++
	}
	return n, errors.Join(it.Close(), db.Close())
}

func TestFact1PebbleCutsOffALogAtAFlippedBit(t *testing.T) {
	dir := factDatabase(t, pebble.FormatMinSupported, false)
	filetest.FlipByte(t, filetest.NewestFile(t, filepath.Join(dir, "*.log")), 100_000)
	if n, err := factKeysLeft(dir); err != nil || n >= factKeys {
		t.Errorf("%d keys of %d are left (%v): Pebble's first format detects damage now", n, factKeys, err)
	}
}

func TestFact1FormatAndFlushShowDamageButInTheLastBlock(t *testing.T) {
	for _, c := range []struct {
		what    string
		format  pebble.FormatMajorVersion
		flushed bool
		at      int64
		shown   bool
	}{
		{"the format without the flush", Format, false, 100_000, false},
		{"both", Format, true, 100_000, true},
		{"both, in the last block", Format, true, -500, false},
	} {
		t.Run(c.what, func(t *testing.T) {
			dir := factDatabase(t, c.format, c.flushed)
			filetest.FlipByte(t, filetest.NewestFile(t, filepath.Join(dir, "*.log")), c.at)
			n, err := factKeysLeft(dir)
			if shown := pebble.IsCorruptionError(err); shown != c.shown || (!shown && (err != nil || n == factKeys)) {
				t.Errorf("%d keys of %d are left (%v)", n, factKeys, err)
			}
		})
	}
}

func TestFact2PebbleOpensWithoutItsLog(t *testing.T) {
	dir := factDatabase(t, Format, true)
	if err := os.Remove(filetest.NewestFile(t, filepath.Join(dir, "*.log"))); err != nil {
		t.Fatal(err)
	}
	if n, err := factKeysLeft(dir); err != nil || n != 0 {
		t.Errorf("%d keys are left (%v)", n, err)
	}
}

func TestFact2PebbleOpensWithAFlippedManifest(t *testing.T) {
	dir := factDatabase(t, Format, true)
	if n, err := factKeysLeft(dir); err != nil || n != factKeys { // they are in a table now
		t.Fatalf("%d keys (%v)", n, err)
	}
	manifest := filetest.NewestFile(t, filepath.Join(dir, "MANIFEST-*"))
	info, err := os.Stat(manifest)
	if err != nil {
		t.Fatal(err)
	}
	opened, lost := 0, 0
	for at := range info.Size() {
		broken := t.TempDir()
		if err := os.CopyFS(broken, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
		filetest.FlipByte(t, filepath.Join(broken, filepath.Base(manifest)), at)
		if n, err := factKeysLeft(broken); err == nil {
			opened++
			if n < factKeys {
				lost++
			}
		}
	}
	if lost == 0 {
		t.Errorf("of %d flips %d opened and none of them lost keys: Pebble detects damage of its manifest now", info.Size(), opened)
	}
}

// TestFact10PebbleMakesFilesThatOthersMayRead shows why the service sets its umask and
// makes the directory private.
func TestFact10PebbleMakesFilesThatOthersMayRead(t *testing.T) {
	old := syscall.Umask(0o022)
	defer syscall.Umask(old)
	dir := filepath.Join(factDatabase(t, Format, false), "new")
	db, err := pebble.Open(dir, &pebble.Options{Logger: factLogger, FS: vfs.Default})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	readable := 0
	err = filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err == nil && info.Mode().Perm()&0o044 != 0 {
			readable++
		}
		return err
	})
	if err != nil || readable == 0 {
		t.Errorf("%d names are readable by others (%v): Pebble keeps them private now", readable, err)
	}
}

// Fact 11: the format is pinned, every level has bloom filters, and no commit is delayed
// for others.
func TestFact11OptionsOfTheDatabase(t *testing.T) {
	c := Config{FS: vfs.NewMem(), MemTableBytes: 64 << 10, Logger: factLogger.Logger}
	db, err := Create("/data", c)
	if err != nil {
		t.Fatal(err)
	}
	if v := db.FormatMajorVersion(); v != 24 {
		t.Errorf("the format is %d", v)
	}
	options := c.options()
	if options.FormatMajorVersion != pebble.FormatValueSeparation || options.WALMinSyncInterval != nil {
		t.Errorf("format %d, minimum interval of syncs set: %t", options.FormatMajorVersion, options.WALMinSyncInterval != nil)
	}
	for i := range options.Levels {
		if options.Levels[i].FilterPolicy == nil {
			t.Errorf("level %d has no filter", i)
		}
	}
	if err := db.Close(); err != nil {
		t.Error(err)
	}
}
