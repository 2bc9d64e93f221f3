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

// A ledger and a sink's file are lines of text, each with its checksum at the
// end. Lines are only appended. What a crash left half written is not there; any
// other line that does not fit its checksum is damage.
//
//	<words, separated by spaces> <crc32c in hex>\n

// pace is how long lines gather before they are synced: the ledger lives on the
// same disk as the service as a rule, and must not take its fsyncs.
const pace = 5 * time.Millisecond

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// File appends lines durably. Its methods are safe for concurrent use.
type File struct {
	file *os.File

	mu      sync.Mutex
	wake    *sync.Cond // lines are pending, or the file is closed
	pending []byte
	group   *group // of the pending lines
	closed  bool

	err  error // the first one, after which nothing is written; flush's alone until done
	done chan struct{}
}

// group is a number of lines that are synced together.
type group struct {
	synced chan struct{}
	err    error
}

func newGroup() *group { return &group{synced: make(chan struct{})} }

// Create opens a file for appending; it makes one where there is none, and cuts
// off a last line that a crash left half written.
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

// Append adds a line, which becomes durable within a moment.
func (l *File) Append(words ...string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.appendLocked(words)
}

// Sync adds a line and waits until it is durable, and all before it.
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

// flush is the one goroutine that writes.
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
		time.Sleep(pace)
	}
}

// next waits for lines; there are none when the file is closed.
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

// Close syncs what is pending and closes the file. Nothing may be added after.
func (l *File) Close() error {
	l.mu.Lock()
	l.closed = true
	l.wake.Signal()
	l.mu.Unlock()
	<-l.done
	return errors.Join(l.err, l.file.Close())
}

// ErrDamaged says that a file is not what was written.
var ErrDamaged = errors.New("the file is damaged")

// readLines gives the words of each line of a file in turn.
func readLines(path string, line func(words []string) error) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read the ledger: %w", err)
	}
	for number := 1; len(text) > 0; number++ {
		one, rest, whole := bytes.Cut(text, []byte("\n"))
		if !whole {
			return nil // a crash in the middle of it
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
		return nil, ErrDamaged
	}
	sum, err := strconv.ParseUint(string(line[at+1:]), 16, 32)
	if err != nil || uint32(sum) != crc32.Checksum(line[:at], castagnoli) {
		return nil, ErrDamaged
	}
	return strings.Split(string(line[:at]), " "), nil
}
