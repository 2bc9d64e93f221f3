package ledger

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// The files of a ledger and a sink consist of lines of text with a checksum at the end.
// Lines are only appended. An incomplete last line, left by a crash, is ignored; any
// other line that does not match its checksum is corruption.
//
//	<words, separated by spaces> <crc32c in hex>\n

// syncInterval is how long lines are collected before a sync: the ledger is usually on
// the same disk as the service and must not slow down its fsyncs.
const syncInterval = 5 * time.Millisecond

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// File appends lines durably. Its methods are safe for concurrent use.
type File struct {
	file *os.File

	mu      sync.Mutex
	wake    *sync.Cond // lines are pending, or the file is closed
	pending []byte
	group   *group // the group of the pending lines
	closed  bool

	err  error // the first error; nothing is written after it. Only flush accesses err until done is closed
	done chan struct{}
}

// group is a number of lines that are synced together.
type group struct {
	synced chan struct{}
	err    error
}

func newGroup() *group { return &group{synced: make(chan struct{})} }

// Create opens a file for appending. It creates a missing file and removes an
// incomplete last line.
func Create(path string) (*File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the ledger: %w", err)
	}
	text, err := os.ReadFile(path)
	if err == nil {
		err = f.Truncate(int64(bytes.LastIndexByte(text, '\n') + 1))
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open the ledger: %w", err), f.Close())
	}
	l := &File{file: f, group: newGroup(), done: make(chan struct{})}
	l.wake = sync.NewCond(&l.mu)
	go l.flush()
	return l, nil
}

// Append adds a line, which becomes durable shortly after.
func (l *File) Append(words ...string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.appendLocked(words)
}

// Sync adds a line and waits until it and all earlier lines are durable.
func (l *File) Sync(words ...string) error {
	l.mu.Lock()
	g := l.group
	l.appendLocked(words)
	l.mu.Unlock()
	<-g.synced
	return g.err
}

func (l *File) appendLocked(words []string) {
	at := len(l.pending)
	l.pending = append(l.pending, strings.Join(words, " ")...)
	sum := crc32.Checksum(l.pending[at:], castagnoli)
	l.pending = fmt.Appendf(l.pending, " %08x\n", sum)
	l.wake.Signal()
}

// flush is the goroutine that writes.
func (l *File) flush() {
	defer close(l.done)
	for {
		lines, g := l.next()
		if lines == nil {
			close(g.synced)
			return
		}
		if l.err == nil {
			_, err := l.file.Write(lines)
			l.err = errors.Join(err, l.file.Sync())
		}
		g.err = l.err
		close(g.synced)
		time.Sleep(syncInterval)
	}
}

// next waits for lines. It returns none when the file is closed.
func (l *File) next() ([]byte, *group) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.pending) == 0 && !l.closed {
		l.wake.Wait()
	}
	lines, g := l.pending, l.group
	l.pending, l.group = nil, newGroup()
	return lines, g
}

// Close syncs the pending lines and closes the file. No lines may be added after it.
func (l *File) Close() error {
	l.mu.Lock()
	l.closed = true
	l.wake.Signal()
	l.mu.Unlock()
	<-l.done
	return errors.Join(l.err, l.file.Close())
}

// ErrCorrupt reports that a file does not contain what was written.
var ErrCorrupt = errors.New("the file is corrupt")

// readLines calls line with the words of each line of a file.
func readLines(path string, line func(words []string) error) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read the ledger: %w", err)
	}
	for number := 1; len(text) > 0; number++ {
		one, rest, whole := bytes.Cut(text, []byte("\n"))
		if !whole {
			return nil // the line is incomplete after a crash
		}
		text = rest
		words, err := checkLine(one)
		if err == nil {
			err = line(words)
		}
		if err != nil {
			return fmt.Errorf("%s, line %d: %w", path, number, err)
		}
	}
	return nil
}

func checkLine(line []byte) ([]string, error) {
	at := bytes.LastIndexByte(line, ' ')
	if at < 0 {
		return nil, ErrCorrupt
	}
	sum, err := strconv.ParseUint(string(line[at+1:]), 16, 32)
	if err != nil || uint32(sum) != crc32.Checksum(line[:at], castagnoli) {
		return nil, ErrCorrupt
	}
	return strings.Split(string(line[:at]), " "), nil
}
