package storage

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/sys/unix"

	"github.com/stayafrica/messaging/storage/internal/controlfile"
	"github.com/stayafrica/messaging/storage/internal/diskfs"
	"github.com/stayafrica/messaging/storage/internal/layout"
	"github.com/stayafrica/messaging/storage/internal/storagetest"
)

// smallDisk mounts a disk of 160 MiB until the end of the test. fill leaves so many bytes
// free, and empty frees everything again.
func smallDisk(t *testing.T) (dir string, fill func(leave int64), empty func()) {
	t.Helper()
	dir = t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=160m"); err != nil {
		t.Skipf("a small disk cannot be mounted here (it takes root): %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Errorf("unmount: %v", errors.Join(err, syscall.Unmount(dir, syscall.MNT_DETACH)))
		}
	})
	filler := filepath.Join(dir, "filler")
	fill = func(leave int64) {
		t.Helper()
		f, err := os.OpenFile(filler, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		for {
			free, err := layout.Free(dir)
			if err != nil {
				t.Fatal(err)
			}
			end, _ := f.Seek(0, io.SeekEnd)
			// A concurrent write may take the space. Then the loop measures again.
			if int64(free) <= leave {
				return
			}
			if err := unix.Fallocate(int(f.Fd()), 0, end, int64(free)-leave); err != nil && !errors.Is(err, unix.ENOSPC) {
				t.Fatal(err)
			}
		}
	}
	return dir, fill, func() { _ = os.Remove(filler) }
}

// lines is a log that can be read while it is written.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *lines) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.buf.String(), text)
}

func openSmall(t *testing.T, dir string, log *lines) (*Store, error) {
	t.Helper()
	return Open(Config{
		Dir: filepath.Join(dir, "data"), MemTableBytes: 1 << 20, CacheBytes: 8 << 20, Logger: slog.New(slog.NewTextHandler(log, nil)),
		Fatal: func(err error) { t.Errorf("the disk failed: %v", err); select {} },
	})
}

// putMegabyte commits an incompressible record of a mebibyte.
func putMegabyte(s *Store, seq uint64) {
	text := make([]byte, 1<<20)
	r := rand.New(rand.NewPCG(seq, 0))
	for i := range text {
		text[i] = byte(r.Uint32())
	}
	b := s.NewBatch()
	defer b.Close()
	b.PutRecord(seq, len(text), func(dst []byte) { copy(dst, text) })
	m := s.meta
	m.Last = seq
	b.PutMeta(m)
	b.Commit()
}

// TestFact4AFullDiskHoldsWritesUpUntilThereIsRoom: Pebble retries a flush to a full disk
// forever, and ends the process if its log cannot be written. The test shows that the
// ballast is used first. Then writes wait, and continue without a restart.
func TestFact4AFullDiskHoldsWritesUpUntilThereIsRoom(t *testing.T) {
	dir, fill, empty := smallDisk(t)
	log := new(lines)
	s, err := openSmall(t, dir, log)
	if err != nil {
		t.Fatal(err)
	}
	fill(0)
	seq := uint64(0)
	for range 20 {
		seq++
		putMegabyte(s, seq)
	}
	if s.BallastMissing() == 0 {
		t.Fatal("the reserve was not needed")
	}
	fill(0)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 20 {
			seq++
			putMegabyte(s, seq)
		}
	}()
	select {
	case <-done:
		t.Error("20 MiB were written to a full disk")
	case <-time.After(2 * time.Second):
	}
	empty()
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Fatal("writes do not continue with free space")
	}
	if err := s.RestoreBallast(); err != nil || s.BallastMissing() != 0 {
		t.Errorf("the reserve was not restored: %v", err)
	}
	for _, line := range []string{"the reserve is given free", "writes wait for room"} {
		if n := log.count(line); n != 1 {
			t.Errorf("the log says %q %d times", line, n)
		}
	}
	if n := log.count("level=ERROR"); n != 2 {
		t.Errorf("the log has %d errors", n)
	}
	storagetest.Close(t, s)
	if s, err = openSmall(t, dir, log); err != nil || s.Meta().Last != seq {
		t.Fatalf("after opening again it ends at %d, want %d (%v)", s.Meta().Last, seq, err)
	}
	storagetest.Close(t, s)
}

// TestACompactionLeavesSpaceOnAFullDisk shows that a compaction without a ballast fails
// before it uses the space that the write-ahead log and flushes need. It is not retried
// without a pause, and it succeeds once there is space.
func TestACompactionLeavesSpaceOnAFullDisk(t *testing.T) {
	dir, fill, empty := smallDisk(t)
	log := new(lines)
	s, err := openSmall(t, dir, log)
	if err != nil {
		t.Fatal(err)
	}
	seq := uint64(0)
	put := func(n int) {
		for range n {
			seq++
			putMegabyte(s, seq)
		}
	}
	put(30)
	s.releaseBallast() // as a write does on a full disk
	fill(12 << 20)     // the compaction rewrites 30 MiB
	if err := s.CompactRange(t.Context(), 0, seq, false); !errors.Is(err, layout.ErrDiskFull) {
		t.Errorf("the compaction returned %v", err)
	}
	put(2)
	if n := log.count("writes wait for room"); n != 0 {
		t.Errorf("writes waited %d times", n)
	}
	empty()
	if err := s.CompactRange(t.Context(), 0, seq, false); err != nil {
		t.Errorf("with space the compaction returned %v", err)
	}
	storagetest.Close(t, s)
}

// TestFact4AStartOnAFullDiskEnds shows that a start uses the ballast. Without one it is
// refused, unless there is enough space for recovery.
func TestFact4AStartOnAFullDiskEnds(t *testing.T) {
	dir, fill, empty := smallDisk(t)
	log := new(lines)
	s, err := openSmall(t, dir, log)
	if err != nil {
		t.Fatal(err)
	}
	putMegabyte(s, 1)
	storagetest.Close(t, s)

	fill(0)
	if s, err = openSmall(t, dir, log); err != nil {
		t.Fatalf("with its reserve Open returned %v", err)
	}
	putMegabyte(s, 2)
	storagetest.Close(t, s)

	_ = os.Remove(filepath.Join(dir, "data", layout.BallastName))
	fill(0)
	if _, err = openSmall(t, dir, log); !errors.Is(err, layout.ErrDiskFull) {
		t.Fatalf("without a reserve Open returned %v", err)
	}
	empty()
	fill(67 << 20)
	if s, err = openSmall(t, dir, log); err != nil || s.BallastMissing() == 0 {
		t.Fatalf("with space for a start but not for the reserve, Open returned %v", err)
	}
	putMegabyte(s, 3)
	storagetest.Close(t, s)
}

// TestAFullDiskDoesNotBreakTheControlFile shows that the control file may use the
// ballast, too. Without a ballast an update is refused and can be retried.
func TestAFullDiskDoesNotBreakTheControlFile(t *testing.T) {
	dir, fill, empty := smallDisk(t)
	log := new(lines)
	s, err := openSmall(t, dir, log)
	if err != nil {
		t.Fatal(err)
	}
	write := func(n int) error {
		return s.Control().Update("write", func(tx controlfile.Tx) error {
			for i := range 100 {
				key := fmt.Sprint(n*100 + i)
				if err := tx.Put(controlfile.Format1Letters, key, controlfile.AppendChecksum(controlfile.Format1Letters, key, make([]byte, 50_000))); err != nil {
					return err
				}
			}
			return nil
		})
	}
	written := func() (n int) {
		if err := controlfile.Scan(s.controlFile, controlfile.Format1Letters, "", func(string, []byte) (bool, error) { n++; return true, nil }); err != nil {
			t.Error(err)
		}
		return n
	}
	fill(0)
	if err := write(0); err != nil || s.BallastMissing() == 0 {
		t.Fatalf("with the reserve: %v, %d bytes of it are missing", err, s.BallastMissing())
	}
	fill(0)
	wrote, refused := 1, error(nil)
	for refused == nil && wrote < 50 {
		if refused = write(wrote); refused == nil {
			wrote++
		}
	}
	if !errors.Is(refused, layout.ErrDiskFull) {
		t.Fatalf("on a full disk %d updates returned %v", wrote, refused)
	}
	if n := written(); n != wrote*100 {
		t.Errorf("%d values, want %d", n, wrote*100)
	}
	empty()
	if err := write(wrote); err != nil {
		t.Fatalf("with space again: %v", err)
	}
	storagetest.Close(t, s)
	if s, err = openSmall(t, dir, log); err != nil {
		t.Fatal(err)
	}
	if n := written(); n != (wrote+1)*100 {
		t.Errorf("after opening again %d values, want %d", n, (wrote+1)*100)
	}
	storagetest.Close(t, s)
}

// stingyFS refuses a number of writes for lack of space.
type stingyFS struct {
	vfs.FS

	refusals *int
}

func (f stingyFS) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	file, err := f.FS.Create(name, category)
	return stingyFile{file, f.refusals}, err
}

type stingyFile struct {
	vfs.File

	refusals *int
}

func (f stingyFile) Write(b []byte) (int, error) {
	if *f.refusals > 0 {
		*f.refusals--
		return 0, syscall.ENOSPC
	}
	return f.File.Write(b)
}

// TestAWriteWaitsIfAnotherProcessTakesTheBallast shows that a write waits if another
// process takes the released space before the retry. A write-ahead log that cannot be
// written would end the process.
func TestAWriteWaitsIfAnotherProcessTakesTheBallast(t *testing.T) {
	dir := t.TempDir()
	s := &Store{
		config: Config{Dir: dir}, logger: slog.New(slog.DiscardHandler),
		ballast: diskfs.NewBallast(filepath.Join(dir, layout.BallastName), 1<<20),
	}
	if err := s.ballast.Restore(); err != nil {
		t.Fatal(err)
	}
	refusals := 2
	file, err := s.withBallast(stingyFS{vfs.NewMem(), &refusals}).Create("log", vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := file.Write([]byte("x")); err != nil || s.BallastMissing() == 0 {
		t.Errorf("the write returned %v, and %d bytes of the reserve are missing", err, s.BallastMissing())
	}
	if err := file.Close(); err != nil {
		t.Error(err)
	}
}
