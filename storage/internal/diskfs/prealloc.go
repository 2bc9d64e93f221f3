package diskfs

import (
	"errors"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

const (
	// PreallocCount is how many preallocated logs are kept: the first logs after a start
	// are short, and each is followed by the next within moments.
	PreallocCount = 2
	// preallocMinFree is the free space, in multiples of a log's size, that is needed to
	// create a preallocated log.
	preallocMinFree = 16
	// PreallocPrefix begins the name of a preallocated log. Pebble does not recognize
	// such a name: it lacks the suffix of a log.
	PreallocPrefix = "spare-"
	// preallocStep is how much of a preallocated log is written and synced at a time. A
	// concurrent commit waits for this sync. preallocPause is the pause after a step, in
	// multiples of the step's duration, which leaves the disk to others.
	preallocStep  = 256 << 10
	preallocPause = 4
)

// Prealloc is a file system below Pebble that keeps files ready for the next write-ahead
// logs. They have the full size of a log and are filled with zeros.
//
// Syncing data that overwrites allocated blocks writes only that data. At the end of a
// file the new length and the new blocks must be written too, which takes half as long
// again, or twice as long. Pebble therefore recycles old logs. But after a start it has
// none, and the first logs, which it then recycles, are short. Until each has grown to
// its full size, for half a million messages, every commit waits longer than necessary.
// So a log that would be new, or recycled from a short one, uses a preallocated log
// instead. When all of Pebble's logs are long, no preallocated log is used any more and
// none is created.
//
// A preallocated log has only zeros. A reader of the log stops at them, as it does at the
// remains of an older log. None outlives the run that created it. If there is little free
// space, none is created.
type Prealloc struct {
	vfs.FS // what Pebble uses

	bare   vfs.FS // where preallocated logs are created: does not wait for space on a full disk
	size   int64
	room   func() (uint64, error) // the spare free space in bytes
	logger *slog.Logger

	dir    string        // owned by filler: where preallocated logs are created
	made   int           // owned by filler: numbers them
	taken  chan struct{} // wakes filler after a log was created
	stop   chan struct{} // ends filler
	filler sync.WaitGroup

	mu    sync.Mutex
	ready []string // the complete preallocated logs
}

// NewPrealloc returns a file system over fs. It creates logs of a size on bare, as long
// as room returns enough free space.
func NewPrealloc(fs, bare vfs.FS, size int64, room func() (uint64, error), logger *slog.Logger) *Prealloc {
	return &Prealloc{FS: fs, bare: bare, size: size, room: room, logger: logger, taken: make(chan struct{}, 1), stop: make(chan struct{})}
}

// Start removes the preallocated logs of the last run from a directory, and creates new
// ones there until Close.
func (s *Prealloc) Start(dir string) {
	s.sweep(dir)
	s.dir = dir
	s.filler.Go(s.fill)
}

// sweep removes all preallocated logs. If one cannot be removed, the next start retries.
func (s *Prealloc) sweep(dir string) {
	names, err := s.bare.List(dir)
	if err != nil {
		return
	}
	for _, name := range names {
		if strings.HasPrefix(name, PreallocPrefix) {
			_ = s.bare.Remove(s.PathJoin(dir, name))
		}
	}
}

// Close stops the creation of preallocated logs and removes them.
func (s *Prealloc) Close() error {
	close(s.stop)
	s.filler.Wait()
	s.Drop()
	return nil
}

// Drop removes all preallocated logs, which frees their space.
func (s *Prealloc) Drop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, name := range s.ready {
		_ = s.bare.Remove(name) // if this fails, the next start removes it
	}
	s.ready = nil
}

// Bytes returns the disk space of the preallocated logs.
func (s *Prealloc) Bytes() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return uint64(len(s.ready)) * uint64(s.size) //nolint:gosec // not negative
}

// Create implements [vfs.FS].
func (s *Prealloc) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	if strings.HasSuffix(name, logSuffix) {
		if f := s.take(name, category); f != nil {
			return f, nil
		}
	}
	return s.FS.Create(name, category)
}

// ReuseForWrite implements [vfs.FS]. Its contract allows a new file instead of the old
// one. It uses a preallocated log if the old log is short.
func (s *Prealloc) ReuseForWrite(oldname, newname string, category vfs.DiskWriteCategory) (vfs.File, error) {
	if info, err := s.Stat(oldname); err != nil || info.Size() >= s.size/2 {
		return s.FS.ReuseForWrite(oldname, newname, category)
	}
	f := s.take(newname, category)
	if f == nil {
		return s.FS.ReuseForWrite(oldname, newname, category)
	}
	if err := s.Remove(oldname); err != nil {
		s.logger.Warn("an old log could not be removed; the next start tries again", "error", err)
	}
	return f, nil
}

// Unwrap implements [vfs.FS].
func (s *Prealloc) Unwrap() vfs.FS { return s.FS }

// take turns a preallocated log into a log. It returns nil if there is none.
func (s *Prealloc) take(name string, category vfs.DiskWriteCategory) vfs.File {
	spare, ok := s.pop()
	if !ok {
		return nil
	}
	f, err := s.FS.ReuseForWrite(spare, name, category) // without the lock, because this may call Drop
	if err != nil {
		s.logger.Warn("a preallocated log could not be used; another one is created", "error", err)
		_ = s.bare.Remove(spare) // if this fails, the next start removes it
		return nil
	}
	return f
}

func (s *Prealloc) pop() (name string, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case s.taken <- struct{}{}:
	default: // a wake-up is pending already
	}
	if len(s.ready) == 0 {
		return "", false
	}
	name, s.ready = s.ready[0], s.ready[1:]
	return name, true
}

// fill keeps preallocated logs ready until Close.
func (s *Prealloc) fill() {
	for {
		for s.lacks() {
			if err := s.make(); err != nil {
				s.logger.Warn("no log could be preallocated; the next log may be slower to sync", "error", err)
				break
			}
		}
		select {
		case <-s.stop:
			return
		case <-s.taken:
		}
	}
}

// lacks reports whether to create a preallocated log: there are too few, there is enough
// space, and Close was not called.
func (s *Prealloc) lacks() bool {
	select {
	case <-s.stop:
		return false
	default:
	}
	free, err := s.room()
	if err != nil || free < uint64(preallocMinFree*s.size) { //nolint:gosec // not negative
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.ready) < PreallocCount
}

// make creates a preallocated log. If that fails, it removes the file.
func (s *Prealloc) make() error {
	s.made++
	name := s.PathJoin(s.dir, PreallocPrefix+strconv.Itoa(s.made))
	f, err := s.bare.Create(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	whole, err := s.zero(f)
	if err = errors.Join(err, f.Close()); err != nil || !whole {
		return errors.Join(err, s.bare.Remove(name))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ready = append(s.ready, name)
	return nil
}

// zero fills a preallocated log. whole is false if Close was called meanwhile.
func (s *Prealloc) zero(f vfs.File) (whole bool, err error) {
	zeros := make([]byte, min(preallocStep, s.size))
	for at := int64(0); at < s.size; at += int64(len(zeros)) {
		began := time.Now()
		clear(zeros) // a test's file system may modify the buffer
		if _, err := f.Write(zeros[:min(int64(len(zeros)), s.size-at)]); err != nil {
			return false, err
		}
		if err := f.SyncData(); err != nil {
			return false, err
		}
		select {
		case <-s.stop:
			return false, nil
		case <-time.After(preallocPause * time.Since(began)):
		}
	}
	return true, f.Sync()
}
