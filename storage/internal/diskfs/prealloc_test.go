package diskfs

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
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
	testSpareBytes = preallocStep + 7 // more than a step
	testSpareDir   = "/logs"
	testCategory   = vfs.WriteCategoryUnspecified
)

var errBroken = errors.New("input/output error")

// preallocDisk has preallocated logs on an in-memory disk that may fail or be full.
type preallocDisk struct {
	*Prealloc

	t    *testing.T
	free atomic.Uint64
	slow atomic.Int64 // how long a write to a preallocated log takes
	fail atomic.Pointer[func(errorfs.Op) bool]
}

func newSpareDisk(t *testing.T) *preallocDisk {
	t.Helper()
	d := &preallocDisk{t: t}
	d.free.Store(1 << 40)
	fs := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind == errorfs.OpFileWrite && strings.Contains(op.Path, PreallocPrefix) {
			time.Sleep(time.Duration(d.slow.Load()))
		}
		if fails := d.fail.Load(); fails != nil && (*fails)(op) {
			return errBroken
		}
		return nil
	}))
	if err := fs.MkdirAll(testSpareDir, 0o700); err != nil {
		t.Fatal(err)
	}
	d.Prealloc = NewPrealloc(fs, fs, testSpareBytes, func() (uint64, error) { return d.free.Load(), nil }, slog.New(slog.DiscardHandler))
	return d
}

// begin calls Start and waits until all preallocated logs are ready.
func (d *preallocDisk) begin() {
	d.Start(testSpareDir)
	synctest.Wait()
}

// names returns the names in the directory.
func (d *preallocDisk) names() string {
	d.t.Helper()
	names, err := d.List(testSpareDir)
	if err != nil {
		d.t.Fatal(err)
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}

func (d *preallocDisk) wantNames(want string) {
	d.t.Helper()
	if got := d.names(); got != want {
		d.t.Errorf("the directory has %q, want %q", got, want)
	}
}

// create writes a file of so many letters, the way Pebble creates a log.
func (d *preallocDisk) create(name string, letters int) {
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

func (d *preallocDisk) reuse(oldname, newname string) {
	d.t.Helper()
	f, err := d.ReuseForWrite(d.PathJoin(testSpareDir, oldname), d.PathJoin(testSpareDir, newname), testCategory)
	if err != nil {
		d.t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		d.t.Fatal(err)
	}
}

// wantFile checks that a file has so many letters, followed by zeros up to size.
func (d *preallocDisk) wantFile(name string, letters, size int) {
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

// sparesTest runs a test in a bubble with a disk. It closes the disk at the end, which
// must leave no preallocated log.
func sparesTest(t *testing.T, test func(d *preallocDisk)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		d := newSpareDisk(t)
		test(d)
		d.fail.Store(nil)
		if err := d.Close(); err != nil {
			t.Error(err)
		}
		if names := d.names(); strings.Contains(names, PreallocPrefix) {
			t.Errorf("after Close the directory has %q", names)
		}
	})
}

func TestALogUsesAPreallocatedFile(t *testing.T) {
	sparesTest(t, func(d *preallocDisk) {
		d.begin()
		d.wantNames("spare-1 spare-2")
		d.create("000001.log", 1000)
		d.wantFile("000001.log", 1000, testSpareBytes)
		synctest.Wait()
		d.wantNames("000001.log spare-2 spare-3")
		if got := d.Bytes(); got != 2*testSpareBytes {
			d.t.Errorf("the preallocated logs take %d bytes", got)
		}
	})
}

func TestOnlyLogsUsePreallocatedFiles(t *testing.T) {
	sparesTest(t, func(d *preallocDisk) {
		d.begin()
		d.create("000001.sst", 10)
		d.wantFile("000001.sst", 10, 10)
		d.wantNames("000001.sst spare-1 spare-2")
	})
}

func TestAPreallocatedFileIsPreferredToAShortLog(t *testing.T) {
	sparesTest(t, func(d *preallocDisk) {
		d.create("000001.log", 10) // before there are preallocated logs
		d.begin()
		d.reuse("000001.log", "000002.log")
		d.wantFile("000002.log", 0, testSpareBytes)
		synctest.Wait()
		d.wantNames("000002.log spare-2 spare-3")
	})
}

func TestALongLogIsReused(t *testing.T) {
	sparesTest(t, func(d *preallocDisk) {
		d.create("000001.log", testSpareBytes/2+1)
		d.begin()
		d.reuse("000001.log", "000002.log")
		d.wantFile("000002.log", testSpareBytes/2+1, testSpareBytes/2+1)
		d.wantNames("000002.log spare-1 spare-2")
	})
}

func TestWithoutAPreallocatedFileALogIsCreated(t *testing.T) {
	sparesTest(t, func(d *preallocDisk) {
		d.create("000001.log", 10)
		d.wantFile("000001.log", 10, 10)
		d.reuse("000001.log", "000002.log")
		d.wantFile("000002.log", 10, 10)
	})
}

func TestNothingIsPreallocatedWithLittleSpace(t *testing.T) {
	sparesTest(t, func(d *preallocDisk) {
		d.free.Store(preallocMinFree*testSpareBytes - 1)
		d.begin()
		d.wantNames("")
		d.free.Store(preallocMinFree * testSpareBytes)
		d.create("000001.log", 10) // triggers another check
		synctest.Wait()
		d.wantNames("000001.log spare-1 spare-2")
	})
}

func TestAFullDiskRemovesPreallocatedFiles(t *testing.T) {
	sparesTest(t, func(d *preallocDisk) {
		d.begin()
		d.Drop()
		d.wantNames("")
		if got := d.Bytes(); got != 0 {
			d.t.Errorf("the preallocated logs take %d bytes", got)
		}
	})
}

func TestAStartRemovesFilesOfTheLastRun(t *testing.T) {
	sparesTest(t, func(d *preallocDisk) {
		d.create("spare-7", 10)
		d.create("000001.log", 10)
		d.free.Store(0)
		d.begin()
		d.wantNames("000001.log")
	})
}

func TestAFailedPreallocationIsNotAnError(t *testing.T) {
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
			sparesTest(t, func(d *preallocDisk) {
				d.failing(func(op errorfs.Op) bool { return op.Kind == c.fails && strings.Contains(op.Path, PreallocPrefix) })
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

// TestPreallocationPausesBetweenWrites shows the pause after each of the two steps of a
// preallocated log. Each step takes a millisecond.
func TestPreallocationPausesBetweenWrites(t *testing.T) {
	sparesTest(t, func(d *preallocDisk) {
		d.slow.Store(int64(time.Millisecond))
		d.Start(testSpareDir)
		time.Sleep(2*(1+preallocPause)*time.Millisecond - 1)
		if got := d.Bytes(); got != 0 {
			d.t.Errorf("the first log of %d bytes was preallocated without a pause", got)
		}
		time.Sleep(2 * time.Nanosecond)
		if got := d.Bytes(); got != testSpareBytes {
			d.t.Errorf("the preallocated logs take %d bytes, want one of %d", got, testSpareBytes)
		}
	})
}

func TestACloseDuringPreallocationLeavesNoFile(t *testing.T) {
	sparesTest(t, func(d *preallocDisk) {
		d.slow.Store(int64(time.Millisecond))
		d.Start(testSpareDir)
		time.Sleep(2 * time.Millisecond)
		d.wantNames("spare-1")
	})
}

func (d *preallocDisk) failing(fails func(errorfs.Op) bool) { d.fail.Store(&fails) }
