package diskfs

import (
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Categories of files that compactions write.
const (
	categoryCompaction = "pebble-compaction"
	categoryBlobs      = "pebble-blob-file-rewrite"
)

// compactionPause is how long a new file of a compaction waits for space before it
// fails. Pebble retries a failed compaction at once.
const compactionPause = time.Second

// measureEvery is how many bytes a compaction writes between two measurements of the free
// space.
const measureEvery = 256 << 10

// CompactionLimit is a file system below Pebble that stops compactions from using the
// last space of a full disk. A compaction holds the space of what it has written until it
// ends. If it waited for more space, like other writes, it would keep the last space from
// the write-ahead log and from flushes. These need little, but all of them would wait for
// each other. So a write of a compaction fails if there is too little space. Pebble then
// removes the compaction's files and retries it.
//
// The methods are safe for concurrent use.
type CompactionLimit struct {
	vfs.FS // creates all other files: their writes wait for space

	// Failing creates the files of compactions. Its writes may release the ballast, and
	// fail if that is not enough.
	Failing vfs.FS
	// Held reports whether the ballast is held. While it is, compactions may fill the
	// disk: the other writes can use the ballast.
	Held func() bool
	// Free measures the free space of the disk in bytes.
	Free func() (uint64, error)
	// Floor is how many bytes compactions leave free.
	Floor uint64
	// Stopped reports whether waiting must end.
	Stopped func() bool
}

// Create implements [vfs.FS].
func (l *CompactionLimit) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	if category != categoryCompaction && category != categoryBlobs {
		return l.FS.Create(name, category)
	}
	for deadline := time.Now().Add(compactionPause); !l.HasSpace(); time.Sleep(spacePoll) {
		if l.Stopped() || time.Now().After(deadline) {
			return nil, syscall.ENOSPC
		}
	}
	f, err := l.Failing.Create(name, category)
	if err != nil {
		return nil, err
	}
	return &limitedFile{File: f, limit: l}, nil
}

// Unwrap implements [vfs.FS].
func (l *CompactionLimit) Unwrap() vfs.FS { return l.FS }

// HasSpace reports whether a compaction may write.
func (l *CompactionLimit) HasSpace() bool {
	if l.Held() {
		return true
	}
	free, err := l.Free()
	return err != nil || free >= l.Floor // if the disk fails, the write itself reports it
}

// limitedFile is a file of a compaction.
type limitedFile struct {
	vfs.File

	limit   *CompactionLimit
	written atomic.Int64 // since the free space was measured
}

// Write implements [vfs.File].
func (f *limitedFile) Write(p []byte) (int, error) {
	if f.written.Add(int64(len(p))) >= measureEvery {
		f.written.Store(0)
		if !f.limit.HasSpace() {
			return 0, syscall.ENOSPC
		}
	}
	return f.File.Write(p)
}
