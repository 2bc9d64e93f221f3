package wal

import (
	"bytes"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/stayafrica/messaging/storage"
)

// stuckTables is a file system on which no table can be created until free is closed, so
// no memtable can be flushed. Everything else works.
type stuckTables struct {
	vfs.FS
	free chan struct{}
}

func (fs *stuckTables) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	if strings.HasSuffix(name, ".sst") && fs.free != nil {
		<-fs.free
	}
	return fs.FS.Create(name, category)
}

// The write-ahead log can be written and synced, but no commit proceeds.
func TestStoreThatCannotFlushIsAStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := &stuckTables{FS: vfs.NewMem()}
		store, err := storage.Open(storage.Config{Dir: "/data", FS: fs, Control: storage.NewMemoryControl().Open, MemTableBytes: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		l, err := Open(Config{Store: store})
		if err != nil {
			t.Fatal(err)
		}
		fs.free = make(chan struct{})
		done := make(chan error, 1)
		go func() { done <- commitLarge(l, 100) }()
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if s := l.Stalled(); s < 9*time.Second || s > 10*time.Second {
			t.Errorf("stalled for %s, want about 10s", s)
		}
		close(fs.free)
		if err := <-done; err != nil {
			t.Error(err)
		}
		if s := l.Stalled(); s != 0 {
			t.Errorf("stalled for %s after the disk worked again", s)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
}

// commitLarge commits n messages of 100 kB, one after the other.
func commitLarge(l *Log, n int) error {
	r := record(time.Now())
	r.Message.Body = bytes.Repeat([]byte("x"), 100_000)
	for range n {
		if err := l.Commit(&appended{record: r}); err != nil {
			return err
		}
	}
	return nil
}
