package storage

import (
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/stayafrica/messaging/storage/internal/controlfile"
	"github.com/stayafrica/messaging/storage/internal/storagetest"
)

// The power is cut before each operation of a start, and again before each operation of
// the next start. The disk keeps any part of the unsynced writes. It may keep a later
// name without an earlier one.
func TestStoreOpensAfterACrashBeforeAnyOperationOfItsStart(t *testing.T) {
	disk, control := vfs.NewCrashableMem(), controlfile.NewMemory()
	for start := range 2 {
		var mu sync.Mutex // Pebble works in background goroutines
		operations := 0
		var crashed []*vfs.MemFS
		var controls []*controlfile.Memory
		random := rand.New(rand.NewPCG(1, uint64(start)))
		fs := errorfs.Wrap(disk, errorfs.InjectorFunc(func(errorfs.Op) error {
			mu.Lock()
			defer mu.Unlock()
			operations++
			for range 5 {
				crashed = append(crashed, disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 50, RNG: random}))
				controls = append(controls, control.CrashClone(false))
			}
			return nil
		}))
		openAndClose(t, fs, control)
		for i := range crashed {
			openAndClose(t, crashed[i], controls[i])
			if t.Failed() {
				t.Fatalf("start %d: crash %d of %d operations", start, i/5, operations)
			}
		}
	}
}

func openAndClose(t *testing.T, fs vfs.FS, control *controlfile.Memory) {
	t.Helper()
	s, err := Open(Config{Dir: "/data", FS: fs, Control: control.Open, MemTableBytes: 1 << 20, CacheBytes: 1 << 20})
	if err != nil {
		t.Errorf("open: %v", err)
		return
	}
	storagetest.Close(t, s)
}
