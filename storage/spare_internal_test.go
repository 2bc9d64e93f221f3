package storage

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

const (
	testSpareBytes = spareSynced*spareStep + 7 // one sync on the way, and no multiple of a step
	testSpareDir   = "/logs"
	testCategory   = vfs.WriteCategoryUnspecified
)

// spareDisk is spares on a disk in memory that may fail and may be full.
type spareDisk struct {
	*spareFS

	t    *testing.T
	free atomic.Uint64
	fail atomic.Pointer[func(errorfs.Op) bool]
}

func newSpareDisk(t *testing.T) *spareDisk {
	t.Helper()
	d := &spareDisk{t: t}
	d.free.Store(1 << 40)
	fs := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		if fails := d.fail.Load(); fails != nil && (*fails)(op) {
			return errBroken
		}
		return nil
	}))
	if err := fs.MkdirAll(testSpareDir, 0o700); err != nil {
		t.Fatal(err)
	}
	d.spareFS = newSpareFS(fs, fs, testSpareBytes, func() (uint64, error) { return d.free.Load(), nil }, slog.New(slog.DiscardHandler))
	return d
}

// begin starts, and waits until nothing is being made.
func (d *spareDisk) begin() {
	d.start(testSpareDir)
	synctest.Wait()
}

// names lists the directory.
func (d *spareDisk) names() string {
	d.t.Helper()
	names, err := d.List(testSpareDir)
	if err != nil {
		d.t.Fatal(err)
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}

func (d *spareDisk) wantNames(want string) {
	d.t.Helper()
	if got := d.names(); got != want {
		d.t.Errorf("the directory has %q, want %q", got, want)
	}
}

// create makes a file of so many letters, as Pebble makes a log.
func (d *spareDisk) create(name string, letters int) {
	d.t.Helper()
	f, err := d.Create(d.PathJoin(testSpareDir, name), testCategory)
	if err != nil {
		d.t.Fatal(err)
	}
	if _, err := f.Write(bytes.Repeat([]byte("x"), letters)); err != nil {
		d.t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		d.t.Fatal(err)
	}
}

func (d *spareDisk) reuse(oldname, newname string) {
	d.t.Helper()
	f, err := d.ReuseForWrite(d.PathJoin(testSpareDir, oldname), d.PathJoin(testSpareDir, newname), testCategory)
	if err != nil {
		d.t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		d.t.Fatal(err)
	}
}

// wantFile wants a file to be so many letters, and zeros up to size.
func (d *spareDisk) wantFile(name string, letters, size int) {
	d.t.Helper()
	f, err := d.Open(d.PathJoin(testSpareDir, name))
	if err != nil {
		d.t.Fatal(err)
	}
	defer func() { _ = f.Close() }() // only read
	b, err := io.ReadAll(f)
	if err != nil {
		d.t.Fatal(err)
	}
	want := append(bytes.Repeat([]byte("x"), letters), make([]byte, size-letters)...)
	if !bytes.Equal(b, want) {
		d.t.Errorf("%s has %d bytes, want %d letters and zeros up to %d", name, len(b), letters, size)
	}
}

// sparesTest runs in a bubble with a disk, which is closed at the end: nothing of
// the spares may be left then.
func sparesTest(t *testing.T, test func(d *spareDisk)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		d := newSpareDisk(t)
		test(d)
		d.fail.Store(nil)
		if err := d.Close(); err != nil {
			t.Error(err)
		}
		if names := d.names(); strings.Contains(names, sparePrefix) {
			t.Errorf("after the end there is %q", names)
		}
	})
}

func TestALogIsWrittenOverASpare(t *testing.T) {
	sparesTest(t, func(d *spareDisk) {
		d.begin()
		d.wantNames("spare-1 spare-2")
		d.create("000001.log", 1000)
		d.wantFile("000001.log", 1000, testSpareBytes)
		synctest.Wait()
		d.wantNames("000001.log spare-2 spare-3")
		if got := d.bytes(); got != 2*testSpareBytes {
			d.t.Errorf("the spares take %d bytes", got)
		}
	})
}

func TestOnlyLogsAreMadeOfSpares(t *testing.T) {
	sparesTest(t, func(d *spareDisk) {
		d.begin()
		d.create("000001.sst", 10)
		d.wantFile("000001.sst", 10, 10)
		d.wantNames("000001.sst spare-1 spare-2")
	})
}

func TestAShortLogIsNotUsedAgainWhereThereIsASpare(t *testing.T) {
	sparesTest(t, func(d *spareDisk) {
		d.create("000001.log", 10) // before there are spares
		d.begin()
		d.reuse("000001.log", "000002.log")
		d.wantFile("000002.log", 0, testSpareBytes)
		synctest.Wait()
		d.wantNames("000002.log spare-2 spare-3")
	})
}

func TestALongLogIsUsedAgainAndNoSpareIsTaken(t *testing.T) {
	sparesTest(t, func(d *spareDisk) {
		d.create("000001.log", testSpareBytes/2+1)
		d.begin()
		d.reuse("000001.log", "000002.log")
		d.wantFile("000002.log", testSpareBytes/2+1, testSpareBytes/2+1)
		d.wantNames("000002.log spare-1 spare-2")
	})
}

func TestWithoutASpareALogIsMadeAsEver(t *testing.T) {
	sparesTest(t, func(d *spareDisk) {
		d.create("000001.log", 10)
		d.wantFile("000001.log", 10, 10)
		d.reuse("000001.log", "000002.log")
		d.wantFile("000002.log", 10, 10)
	})
}

func TestNoSpareIsMadeWhereThereIsLittleRoom(t *testing.T) {
	sparesTest(t, func(d *spareDisk) {
		d.free.Store(spareRoom*testSpareBytes - 1)
		d.begin()
		d.wantNames("")
		d.free.Store(spareRoom * testSpareBytes)
		d.create("000001.log", 10) // makes it look again
		synctest.Wait()
		d.wantNames("000001.log spare-1 spare-2")
	})
}

func TestAFullDiskTakesTheSpares(t *testing.T) {
	sparesTest(t, func(d *spareDisk) {
		d.begin()
		d.drop()
		d.wantNames("")
		if got := d.bytes(); got != 0 {
			d.t.Errorf("the spares take %d bytes", got)
		}
	})
}

func TestAStartRemovesTheSparesOfTheLastRun(t *testing.T) {
	sparesTest(t, func(d *spareDisk) {
		d.create("spare-7", 10)
		d.create("000001.log", 10)
		d.free.Store(0)
		d.begin()
		d.wantNames("000001.log")
	})
}

func TestASpareThatCannotBeMadeOrUsedIsDoneWithout(t *testing.T) {
	for _, c := range []struct {
		what  string
		fails errorfs.OpKind
	}{
		{"create", errorfs.OpCreate},
		{"write", errorfs.OpFileWrite},
		{"sync", errorfs.OpFileSync},
		{"sync of a part", errorfs.OpFileSyncData},
		{"use", errorfs.OpReuseForWrite},
	} {
		t.Run(c.what, func(t *testing.T) {
			sparesTest(t, func(d *spareDisk) {
				d.failing(func(op errorfs.Op) bool { return op.Kind == c.fails && strings.Contains(op.Path, sparePrefix) })
				d.begin()
				d.create("000001.log", 10)
				d.wantFile("000001.log", 10, 10)
				d.fail.Store(nil)
				d.create("000002.log", 10)
				synctest.Wait()
				d.create("000003.log", 10)
				d.wantFile("000003.log", 10, testSpareBytes)
			})
		})
	}
}

func (d *spareDisk) failing(fails func(errorfs.Op) bool) { d.fail.Store(&fails) }

// spareStore is a store whose logs are of spares.
type spareStore struct {
	*Store

	t    *testing.T
	meta Meta
}

func newSpareStore(t *testing.T) *spareStore {
	t.Helper()
	s := openDisk(t, filepath.Join(t.TempDir(), "data"))
	t.Cleanup(func() { closeStore(t, s) })
	store := &spareStore{Store: s, t: t, meta: s.Meta()}
	store.awaitSpares()
	return store
}

// awaitSpares waits until there is nothing to make.
func (s *spareStore) awaitSpares() {
	s.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); s.spares.bytes() < spareCount<<20; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			s.t.Fatal("no spares are made")
		}
	}
}

// commit commits one record of a thousand bytes.
func (s *spareStore) commit() {
	s.meta.Last++
	b := s.NewBatch()
	b.PutRecord(s.meta.Last, 1000, func(dst []byte) { copy(dst, "body") })
	b.PutMeta(s.meta)
	b.Commit()
	b.Close()
}

func (s *spareStore) log() string {
	s.t.Helper()
	return newestFile(s.t, filepath.Join(s.Dir(), messagesDir, "*.log"))
}

// nextLog commits until there is another log, which is a spare.
func (s *spareStore) nextLog() {
	s.t.Helper()
	for log := s.log(); s.log() == log; {
		s.commit()
	}
	if info, err := os.Stat(s.log()); err != nil || info.Size() != 1<<20 {
		s.t.Errorf("the log is not a spare: %v, %v", info, err)
	}
}

// crashed is a copy of what is on disk, as a crash would leave it.
func (s *spareStore) crashed() (dir string) {
	s.t.Helper()
	if err := s.Control().SaveWatermark(Watermark{Sequence: s.meta.Last, Generation: s.meta.Generation}); err != nil {
		s.t.Fatal(err)
	}
	dir = filepath.Join(s.t.TempDir(), "data")
	s.copyMessages(filepath.Join(dir, messagesDir))
	control, err := os.ReadFile(filepath.Join(s.Dir(), controlName))
	if err = errors.Join(err, os.WriteFile(filepath.Join(dir, controlName), control, 0o600)); err != nil {
		s.t.Fatal(err)
	}
	return dir
}

// copyMessages copies the database, again where a flush or a compaction came
// between: a crash sees one moment.
func (s *spareStore) copyMessages(to string) {
	s.t.Helper()
	from := filepath.Join(s.Dir(), messagesDir)
	for deadline := time.Now().Add(20 * time.Second); ; {
		before := s.files()
		err := os.CopyFS(to, os.DirFS(from))
		if err == nil && s.files() == before {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("the database does not come to rest: %v", err)
		}
		if err := os.RemoveAll(to); err != nil {
			s.t.Fatal(err)
		}
	}
}

// files tells of the files of the database, but for spares.
func (s *spareStore) files() (told string) {
	s.t.Helper()
	entries, err := os.ReadDir(filepath.Join(s.Dir(), messagesDir))
	if err != nil {
		s.t.Fatal(err)
	}
	for _, e := range entries {
		if info, err := e.Info(); !strings.HasPrefix(e.Name(), sparePrefix) {
			if err != nil {
				return time.Now().String() // it was removed meanwhile: equal to nothing
			}
			told += fmt.Sprintln(e.Name(), info.Size())
		}
	}
	return told
}

// wantWhole opens what a crash would leave.
func (s *spareStore) wantWhole() {
	s.t.Helper()
	again := openDisk(s.t, s.crashed())
	if got := again.Meta().Last; got != s.meta.Last {
		s.t.Errorf("%d records came back of %d", got, s.meta.Last)
	}
	closeStore(s.t, again)
}

// TestACrashWithALogOfASpare crashes at the first record of each log, and later:
// the end of a log among zeros is found, and what is before it is whole.
func TestACrashWithALogOfASpare(t *testing.T) {
	s := newSpareStore(t)
	for range 4 {
		s.nextLog()
		s.wantWhole()
		for range 100 {
			s.commit()
		}
		s.wantWhole()
		s.awaitSpares()
	}
}

// TestAFlippedBitAmongZerosIsDamage flips one before the last block of a log: it is
// not taken for the end.
func TestAFlippedBitAmongZerosIsDamage(t *testing.T) {
	s := newSpareStore(t)
	s.nextLog()
	for range 100 {
		s.commit()
	}
	dir := s.crashed()
	flipByte(t, filepath.Join(dir, messagesDir, filepath.Base(s.log())), 20_000)
	wantRefused(t, dir, ErrDamaged)
}
