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
	// PreallocCount is how many files are kept ready: the first logs after a start
	// are short, and each is followed by the next within moments.
	PreallocCount = 2
	// preallocRoom is for how many times its size there must be room for a preallocated log to be
	// made.
	preallocRoom = 16
	// PreallocPrefix begins the name of a preallocated log. Pebble does not know it, and the
	// suffix of a log is not in it.
	PreallocPrefix = "spare-"
	// preallocStep is how much of a preallocated log is written and synced at a time: a commit
	// that is synced meanwhile waits for that. preallocRest is for how many times as
	// long the disk is left to others then.
	preallocStep = 256 << 10
	preallocRest = 4
)

// Prealloc is the file system below Pebble, with files ready for the write-ahead
// logs to come: of their full size, and written once with zeros.
//
// What is written over what is there already is synced by writing just that. At
// the end of a file its new length and the places of its new blocks must be written
// too, which takes half as long again, or twice as long. Pebble therefore writes
// over logs that it needs no longer. But after a start it has none, the first
// ones are short, and it is those that it keeps: until each has grown to its full
// size, for half a million messages, every commit waits for more than it needs to.
// So a log that would be new, or made of a short one, is made of a preallocated
// log. Once all that Pebble has are long it takes no preallocated log any more, and
// none is made.
//
// A spare holds nothing but zeros, at which a reader of the log stops, as it does
// at what an older log has left. None outlives the run that made it. Where
// there is little room none is made.
type Prealloc struct {
	vfs.FS // what Pebble uses

	bare   vfs.FS // what spares are made on: it does not wait for room on a full disk
	size   int64
	room   func() (uint64, error) // how many bytes nobody else needs
	logger *slog.Logger

	dir    string        // the filler's: where spares are made
	made   int           // the filler's: numbers them
	taken  chan struct{} // wakes the filler: a log was made
	stop   chan struct{} // ends it
	filler sync.WaitGroup

	mu    sync.Mutex
	ready []string // the spares that are whole
}

// NewPrealloc returns a file system over fs. It makes files of a size on bare, while room
// says that there is enough.
func NewPrealloc(fs, bare vfs.FS, size int64, room func() (uint64, error), logger *slog.Logger) *Prealloc {
	return &Prealloc{FS: fs, bare: bare, size: size, room: room, logger: logger, taken: make(chan struct{}, 1), stop: make(chan struct{})}
}

// Start removes what the last run has left in a directory, and makes spares there until
// Close.
func (s *Prealloc) Start(dir string) {
	s.sweep(dir)
	s.dir = dir
	s.filler.Go(s.fill)
}

// sweep removes all spares. What cannot be removed, the next start removes.
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

// Close ends the making of spares, and removes those that are there.
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
		_ = s.bare.Remove(name) // else by the next start
	}
	s.ready = nil
}

// Bytes is how much of the disk the spares take.
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

// ReuseForWrite implements [vfs.FS]. It may make a new file instead, by its
// contract, and does where the old one is short.
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

// take makes a preallocated log a log; nil where there is none.
func (s *Prealloc) take(name string, category vfs.DiskWriteCategory) vfs.File {
	spare, ok := s.pop()
	if !ok {
		return nil
	}
	f, err := s.FS.ReuseForWrite(spare, name, category) // may come back to Drop, so without the lock
	if err != nil {
		s.logger.Warn("a spare log could not be used; another is made", "error", err)
		_ = s.bare.Remove(spare) // else by the next start
		return nil
	}
	return f
}

func (s *Prealloc) pop() (name string, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case s.taken <- struct{}{}:
	default: // it is known already
	}
	if len(s.ready) == 0 {
		return "", false
	}
	name, s.ready = s.ready[0], s.ready[1:]
	return name, true
}

// fill keeps spares ready until Close.
func (s *Prealloc) fill() {
	for {
		for s.lacks() {
			if err := s.make(); err != nil {
				s.logger.Warn("no spare log could be made; the next log may be slower to sync", "error", err)
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

// lacks says whether a preallocated log is to be made: there are too few, room enough, and
// nobody closes.
func (s *Prealloc) lacks() bool {
	select {
	case <-s.stop:
		return false
	default:
	}
	free, err := s.room()
	if err != nil || free < uint64(preallocRoom*s.size) { //nolint:gosec // not negative
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.ready) < PreallocCount
}

// make makes a preallocated log. What is left of one that fails is removed.
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

// zero writes a preallocated log; whole is false where Close came meanwhile.
func (s *Prealloc) zero(f vfs.File) (whole bool, err error) {
	zeros := make([]byte, min(preallocStep, s.size))
	for at := int64(0); at < s.size; at += int64(len(zeros)) {
		began := time.Now()
		clear(zeros) // a file system for tests writes to what it was given
		if _, err := f.Write(zeros[:min(int64(len(zeros)), s.size-at)]); err != nil {
			return false, err
		}
		if err := f.SyncData(); err != nil {
			return false, err
		}
		select {
		case <-s.stop:
			return false, nil
		case <-time.After(preallocRest * time.Since(began)):
		}
	}
	return true, f.Sync()
}
