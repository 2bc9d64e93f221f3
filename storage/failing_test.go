package storage

import (
	"errors"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"go.etcd.io/bbolt"

	"github.com/stayafrica/messaging/storage/internal/controlfile"
	"github.com/stayafrica/messaging/storage/internal/layout"
	"github.com/stayafrica/messaging/storage/internal/storagetest"
)

var errBroken = errors.New("input/output error")

// brokenDisk is a disk whose operations can be made to fail.
type brokenDisk struct {
	fs      vfs.FS
	control *controlfile.Memory
	broken  atomic.Bool
	fatal   chan error
}

func newBrokenDisk(fails func(op errorfs.Op) bool) *brokenDisk {
	d := &brokenDisk{control: controlfile.NewMemory(), fatal: make(chan error, 10)}
	at := func(op errorfs.Op) error {
		if d.broken.Load() && fails(op) {
			return errBroken
		}
		return nil
	}
	d.fs = errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(at))
	d.control.OnSync(func() error { return at(errorfs.Op{Kind: errorfs.OpFileSync, Path: layout.ControlName}) })
	return d
}

func (d *brokenDisk) open() (*Store, error) {
	return Open(Config{Dir: "/data", FS: d.fs, Control: d.control.Open, MemTableBytes: 64 << 10, Fatal: func(err error) {
		d.fatal <- err
		select {} // the process would have ended
	}})
}

func syncOf(suffix string) func(op errorfs.Op) bool {
	return func(op errorfs.Op) bool {
		switch op.Kind {
		case errorfs.OpFileSync, errorfs.OpFileSyncData, errorfs.OpFileSyncTo:
			return strings.HasSuffix(op.Path, suffix)
		default:
			return false
		}
	}
}

// Fact 5: a failed sync ends the process, whichever call it fails in. No request gets a
// response, and none waits forever. Invariant 7's test in package wal shows that no
// reader sees a sequence above the durable one.
func TestFact5AnySyncErrorEndsTheProcess(t *testing.T) {
	commit := func(s *Store) {
		b := s.NewBatch()
		b.PutMeta(s.Meta())
		b.Commit()
	}
	inHalves := func(s *Store) {
		b := s.NewBatch()
		b.PutMeta(s.Meta())
		b.Apply()
		b.Wait()
	}
	for name, c := range map[string]struct {
		fails func(op errorfs.Op) bool
		do    func(s *Store)
	}{
		"a commit":                    {syncOf(".log"), commit},
		"a commit in two halves":      {syncOf(".log"), inHalves},
		"the control file":            {syncOf(layout.ControlName), func(s *Store) { _ = s.Control().SaveWatermark(controlfile.Watermark{}) }},
		"a directory":                 {syncOf("messages"), func(s *Store) { commit(s); _ = s.db.Flush() }},
		"the log that a flush begins": {func(op errorfs.Op) bool { return op.Kind == errorfs.OpCreate && strings.HasSuffix(op.Path, ".log") }, func(s *Store) { commit(s); _ = s.db.Flush() }},
		"every table":                 {syncOf(".sst"), func(s *Store) { commit(s); _ = s.db.Flush() }},
		"the manifest":                {func(op errorfs.Op) bool { return strings.Contains(op.Path, "MANIFEST") }, func(s *Store) { commit(s); _ = s.db.Flush() }},
	} {
		t.Run(name, func(t *testing.T) {
			d := newBrokenDisk(c.fails)
			s, err := d.open()
			if err != nil {
				t.Fatal(err)
			}
			d.broken.Store(true)
			answered := make(chan struct{})
			go func() {
				defer close(answered)
				c.do(s)
			}()
			select {
			case err := <-d.fatal:
				if !strings.Contains(err.Error(), errBroken.Error()) { // Pebble does not always wrap it
					t.Errorf("it ends with %v", err)
				}
			case <-answered:
				t.Error("responded after a failed sync")
			case <-time.After(10 * time.Second):
				t.Error("it hangs")
			}
		})
	}
}

// Fact 13: a store on an in-memory file system and a bbolt control file both work in a
// bubble, in which an hour passes at once.
func TestFact13StoreAndControlFileWorkInABubble(t *testing.T) {
	path := filepath.Join(t.TempDir(), layout.ControlName)
	synctest.Test(t, func(t *testing.T) {
		db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: 5 * time.Second, FreelistType: bbolt.FreelistMapType, NoFreelistSync: true})
		if err != nil {
			t.Fatal(err)
		}
		control := func() (controlfile.File, error) { return unclosed{controlfile.FromBolt(db)}, nil }
		fs := vfs.NewMem()
		began := time.Now()
		for range 3 {
			s, err := Open(Config{Dir: "/data", FS: fs, Control: control, MemTableBytes: 1 << 20})
			if err != nil {
				t.Fatal(err)
			}
			storagetest.Fill(t, s, 10)
			time.Sleep(time.Hour)
			storagetest.Close(t, s)
		}
		if spent := time.Since(began); spent < 3*time.Hour || spent > 4*time.Hour {
			t.Errorf("%s have passed", spent)
		}
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
}

// unclosed is a control file that several stores use in turn.
type unclosed struct{ controlfile.File }

func (unclosed) Close() error { return nil }
