package storage

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/stayafrica/messaging"
)

// controlState is what a control file says.
type controlState struct {
	identity  identity
	watermark Watermark
	position  messaging.Position
	letters   string
}

func readControl(c *Control) (s controlState, err error) {
	if s.identity, err = c.identity(); err != nil {
		return s, err
	}
	if s.watermark, err = c.Watermark(); err != nil {
		return s, err
	}
	if s.position, err = c.Position(); err != nil {
		return s, err
	}
	if err := c.load(); err != nil {
		return s, err
	}
	page, err := c.ListDeadLetters(messaging.DeadLetterFilter{Limit: 1000})
	for _, d := range page.DeadLetters {
		s.letters += d.ID + d.Reason + string(d.Message.Body) + "\n"
	}
	return s, err
}

// tryControl opens a control file and reads it, by bbolt's own check too. A
// panic inside bbolt ends the test program.
func tryControl(path string) (s controlState, err error) {
	file, err := openControlFile(path)
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	err = file.(boltFile).db.View(func(tx *bbolt.Tx) error {
		var errs []error
		for err := range tx.Check() {
			errs = append(errs, err)
		}
		return errors.Join(errs...)
	})
	if err != nil {
		return s, fmt.Errorf("bbolt refuses what was let pass: %w", err)
	}
	return readControl(&Control{file: file})
}

// largeControl makes a control file with every kind of page, and all buckets.
func largeControl(t *testing.T, path string) controlState {
	t.Helper()
	if err := createControlFile(path, messaging.MessageID{7}); err != nil {
		t.Fatal(err)
	}
	file, err := openControlFile(path)
	if err != nil {
		t.Fatal(err)
	}
	c := &Control{file: file, fatal: func(doing string, err error) { t.Fatal(doing, err) }}
	if err := c.load(); err != nil {
		t.Fatal(err)
	}
	var letters []messaging.DeadLetter
	for seq := range uint64(40) {
		d := letter(seq+1, uint32(seq%3), fmt.Sprint("reason ", seq%7))
		d.Message.Body = []byte(`{"text":"` + strings.Repeat("x", 400) + `"}`)
		letters = append(letters, d)
	}
	letters[20].Message.Body = []byte(`{"text":"` + strings.Repeat("y", 10_000) + `"}`)
	for part := range 4 { // several transactions leave free pages
		if err := c.AddDeadLetters(letters[part*10 : part*10+10]); err != nil {
			t.Fatal(err)
		}
		if err := c.SavePosition(messaging.Position{Sequence: uint64(part + 1)}); err != nil {
			t.Fatal(err)
		}
		if err := c.SaveJob(fmt.Sprint("job", part), []byte(strings.Repeat("j", 300))); err != nil {
			t.Fatal(err)
		}
		if err := c.SaveWatermark(Watermark{Sequence: uint64(part + 1), Generation: 1}); err != nil {
			t.Fatal(err)
		}
	}
	s, err := readControl(c)
	if err = errors.Join(err, file.Close()); err != nil {
		t.Fatal(err)
	}
	return s
}

// structure gives the offsets of headers, metas and elements of a whole control
// file, and how many pages of each flag there are.
func structure(t *testing.T, path string) (offsets map[int64]bool, kinds map[uint16]int, meta boltMeta) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	if meta, err = newestBoltMeta(f, info.Size()); err != nil {
		t.Fatal(err)
	}
	w := boltWalk{file: f, boltMeta: meta, reached: make([]bool, meta.pages)}
	if err := w.all(); err != nil {
		t.Fatal(err)
	}
	offsets, kinds = make(map[int64]bool), make(map[uint16]int)
	mark := func(id, n uint64) {
		for at := range n {
			offsets[int64(id*meta.pageSize+at)] = true
		}
	}
	mark(0, boltHeader+boltMetaLen)
	mark(1, boltHeader+boltMetaLen)
	for id := uint64(firstBoltPage); id < meta.pages; id++ {
		if b, err := w.read(id, boltHeader); err == nil && w.reached[id] && parseBoltHeader(b).id == id {
			h := parseBoltHeader(b)
			kinds[h.flags]++
			if h.overflow > 0 {
				kinds[0]++
				id += uint64(h.overflow)
			}
			mark(h.id, h.elementsEnd())
		}
	}
	return offsets, kinds, meta
}

// Every byte that bbolt follows, and a part of all others, is changed: the file
// is refused, or it says what it said; only a meta page that is not whole may
// undo the last transaction, as after a crash.
func TestFlippedByteOfTheControlFileIsRefusedOrHarmless(t *testing.T) {
	path := filepath.Join(t.TempDir(), controlName)
	want := largeControl(t, path)
	offsets, kinds, meta := structure(t, path)
	if kinds[boltBranch] == 0 || kinds[boltLeaf] == 0 || kinds[0] == 0 {
		t.Fatalf("the file lacks a kind of page: %v", kinds)
	}
	for at := int64(0); at < int64(meta.pages*meta.pageSize); at += 16 {
		offsets[at+at/16%16] = true
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	older := want
	older.watermark.Sequence--
	refused, back := 0, 0
	for _, at := range slices.Sorted(maps.Keys(offsets)) {
		got, err := flipped(t, f, at, 1<<(at/3%8))
		switch {
		case errors.Is(err, ErrDamaged):
			refused++
		case err == nil && got == older && at < firstBoltPage*int64(meta.pageSize):
			back++ // as after a crash while the meta page was written
		case err != nil || got != want:
			t.Errorf("byte %d of page %d: %v, %+v", at%int64(meta.pageSize), at/int64(meta.pageSize), err, got)
		}
	}
	t.Logf("%d bytes flipped: %d refused, %d undo the last transaction", len(offsets), refused, back)
}

// flipped tries the file with one byte changed.
func flipped(t *testing.T, f *os.File, at int64, mask byte) (controlState, error) {
	t.Helper()
	var b [1]byte
	if _, err := f.ReadAt(b[:], at); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte{b[0] ^ mask}, at); err != nil {
		t.Fatal(err)
	}
	s, err := tryControl(f.Name())
	if _, err := f.WriteAt(b[:], at); err != nil {
		t.Fatal(err)
	}
	return s, err
}

func TestCutControlFileIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), controlName)
	largeControl(t, path)
	_, _, meta := structure(t, path)
	for pages := int64(meta.pages) - 1; pages >= 0; pages-- {
		for _, more := range []int64{1, 0} {
			if err := os.Truncate(path, pages*int64(meta.pageSize)+more); err != nil {
				t.Fatal(err)
			}
			if _, err := tryControl(path); !errors.Is(err, ErrDamaged) {
				t.Errorf("cut to %d pages and %d: %v", pages, more, err)
			}
		}
	}
}

// A file in which only its making was committed has a list of free pages.
func TestFlippedByteOfAFreshBoltFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), controlName)
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 40 { // frees pages, and lists them
		err = errors.Join(err, db.Update(func(tx *bbolt.Tx) error {
			for _, name := range stateBuckets {
				b, err := tx.CreateBucketIfNotExists([]byte(name))
				if err != nil {
					return err
				}
				if err := b.Put(fmt.Append(nil, i), make([]byte, 1500)); err != nil {
					return err
				}
			}
			return nil
		}))
	}
	if err = errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	offsets, kinds, meta := structure(t, path)
	if meta.freelist == noFreelist || kinds[boltFreelist] != 1 {
		t.Fatalf("no list of free pages: %v", kinds)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	for at := range int64(200) {
		offsets[int64(meta.freelist*meta.pageSize)+at] = true
	}
	for _, at := range slices.Sorted(maps.Keys(offsets)) {
		if _, err := flipped(t, f, at, 0xff); err != nil && !errors.Is(err, ErrDamaged) {
			t.Errorf("byte %d of page %d: %v", at%int64(meta.pageSize), at/int64(meta.pageSize), err)
		}
	}
}
