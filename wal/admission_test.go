package wal

import (
	"bytes"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/storage"
)

// slowDisk is a file system whose log takes some time for each sync, and for each synced
// byte.
type slowDisk struct {
	vfs.FS

	mu            sync.Mutex
	each, perByte time.Duration
}

func (fs *slowDisk) set(each, perByte time.Duration) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.each, fs.perByte = each, perByte
}

func (fs *slowDisk) takes(written int) time.Duration {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	return fs.each + time.Duration(written)*fs.perByte
}

func (fs *slowDisk) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := fs.FS.Create(name, category)
	return &slowFile{File: f, disk: fs}, err
}

func (fs *slowDisk) ReuseForWrite(from, to string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := fs.FS.ReuseForWrite(from, to, category)
	return &slowFile{File: f, disk: fs}, err
}

type slowFile struct {
	vfs.File

	disk    *slowDisk
	mu      sync.Mutex
	written int
}

func (f *slowFile) Write(b []byte) (int, error) {
	f.mu.Lock()
	f.written += len(b)
	f.mu.Unlock()
	return f.File.Write(b)
}

func (f *slowFile) SyncData() error { f.wait(); return f.File.SyncData() }
func (f *slowFile) Sync() error     { f.wait(); return f.File.Sync() }

func (f *slowFile) wait() {
	f.mu.Lock()
	written := f.written
	f.written = 0
	f.mu.Unlock()
	time.Sleep(f.disk.takes(written))
}

// openSlow opens a log on a disk that is fast until it is set otherwise.
func openSlow(t *testing.T) (*Log, *slowDisk) {
	t.Helper()
	disk := &slowDisk{FS: vfs.NewMem()}
	store, err := storage.Open(storage.Config{Dir: "/data", FS: disk, Control: storage.NewMemoryControl().Open})
	if err != nil {
		t.Fatal(err)
	}
	l, err := Open(Config{Store: store})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		disk.set(0, 0)
		if err := errors.Join(l.Close(), store.Close()); err != nil {
			t.Error(err)
		}
	})
	return l, disk
}

// offered is the result of changes that were offered at a rate.
type offered struct {
	mu      sync.Mutex
	waits   []time.Duration // of the accepted changes, in the order in which they ended
	refused int
}

// offer offers so many changes per second, without waiting for earlier ones.
func offer(t *testing.T, l *Log, perSecond int, lasting time.Duration) *offered {
	t.Helper()
	o := &offered{}
	r := record(time.Now())
	r.Message.Body = bytes.Repeat([]byte("x"), 1000)
	var wg sync.WaitGroup
	for range int(float64(perSecond) * lasting.Seconds()) {
		time.Sleep(time.Second / time.Duration(perSecond))
		wg.Go(func() {
			began := time.Now()
			err := l.Commit(&appended{record: r})
			o.mu.Lock()
			defer o.mu.Unlock()
			switch {
			case err == nil:
				o.waits = append(o.waits, time.Since(began))
			case messaging.CodeOf(err) == messaging.CodeOverloaded:
				o.refused++
			default:
				t.Error(err)
			}
		})
	}
	wg.Wait()
	return o
}

// TestInvariant8WaitsAreBoundedInTime offers twice as much as a slow disk accepts. In a
// queue bounded in changes alone, the waits would grow until MaxPending changes are
// waiting.
func TestInvariant8WaitsAreBoundedInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, disk := openSlow(t)
		disk.set(time.Millisecond, time.Microsecond) // about 900 changes a second
		o := offer(t, l, 1800, 20*time.Second)
		// Changes that came before the disk was known to be slow have waited longer.
		onset, steady := slices.Max(o.waits), slices.Max(o.waits[len(o.waits)/4:])
		if onset > 10*target || steady > 3*target {
			t.Errorf("an accepted change waited %s at first, and %s later; the target is %s", onset, steady, target)
		}
		if len(o.waits) < 12_000 || o.refused == 0 {
			t.Errorf("%d were accepted and %d refused of 36,000, on a disk for half of that", len(o.waits), o.refused)
		}
		calm := offer(t, l, 100, 5*time.Second)
		if longest := slices.Max(calm.waits); calm.refused > 0 || longest > 50*time.Millisecond {
			t.Errorf("after the overload %d were refused and one waited for %s", calm.refused, longest)
		}
	})
}

// A limit from an overload a minute ago does not apply: without waiters, nothing has
// measured the disk since.
func TestBurstAfterAQuietTimeIsServed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, disk := openSlow(t)
		disk.set(time.Millisecond, time.Millisecond/2) // about two changes a second
		if o := offer(t, l, 400, 5*time.Second); o.refused == 0 {
			t.Fatal("nothing was refused on a very slow disk")
		}
		disk.set(time.Millisecond, 0)
		time.Sleep(time.Minute)
		if o := offer(t, l, 1_000_000, 2*time.Millisecond); o.refused > 0 {
			t.Errorf("%d of 2,000 were refused after a quiet minute", o.refused)
		}
	})
}

// TestOneSlowSyncRefusesFew checks that the burst after one slow sync is
// served.
func TestOneSlowSyncRefusesFew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, disk := openSlow(t)
		disk.set(time.Millisecond, 0)
		time.AfterFunc(2*time.Second, func() { disk.set(2*time.Second, 0) })
		time.AfterFunc(2*time.Second+10*time.Millisecond, func() { disk.set(time.Millisecond, 0) })
		o := offer(t, l, 2000, 6*time.Second)
		if longest := slices.Max(o.waits); o.refused > 100 || longest < time.Second {
			t.Errorf("%d were refused; the longest wait was %s", o.refused, longest)
		}
	})
}

// If the time is that of the sync and not of its bytes, refusing gains nothing. So
// minLimit changes are always admitted.
func TestSlowSyncsStillServeMinLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, disk := openSlow(t)
		disk.set(time.Second, 0)
		if o := offer(t, l, 1000, 20*time.Second); len(o.waits) < 10*minLimit {
			t.Errorf("%d changes in 20 seconds", len(o.waits))
		}
	})
}
