package boltpage_test

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
	"github.com/stayafrica/messaging/storage/internal/boltpage"
	"github.com/stayafrica/messaging/storage/internal/controlfile"
	"github.com/stayafrica/messaging/storage/internal/layout"
)

// controlState is the contents of a control file.
type controlState struct {
	identity  controlfile.Identity
	watermark controlfile.Watermark
	values    string // of format 1: its buckets grow
}

func readControl(file controlfile.File) (s controlState, err error) {
	if s.identity, err = controlfile.ReadIdentity(file); err != nil {
		return s, err
	}
	if s.watermark, err = controlfile.ReadWatermark(file); err != nil {
		return s, err
	}
	for _, bucket := range controlfile.Format1Buckets() {
		err := controlfile.Scan(file, bucket, "", func(key string, value []byte) (bool, error) {
			s.values += key + string(value) + "\n"
			return true, nil
		})
		if err != nil {
			return s, err
		}
	}
	return s, nil
}

// tryControl opens a control file, reads it, and runs bbolt's own check. A panic in bbolt
// ends the test program.
func tryControl(path string) (s controlState, err error) {
	file, err := controlfile.Open(path)
	if err != nil {
		return s, err
	}
	s, err = readControl(file)
	if err = errors.Join(err, file.Close()); err != nil {
		return s, err
	}
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{FreelistType: bbolt.FreelistMapType, NoFreelistSync: true})
	if err != nil {
		return s, fmt.Errorf("bbolt refuses what Check accepted: %w", err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	err = db.View(func(tx *bbolt.Tx) error {
		var errs []error
		for err := range tx.Check() {
			errs = append(errs, err)
		}
		return errors.Join(errs...)
	})
	if err != nil {
		return s, fmt.Errorf("bbolt refuses what Check accepted: %w", err)
	}
	return s, nil
}

// largeControl creates a control file with every kind of page and all buckets.
func largeControl(t *testing.T, path string) controlState {
	t.Helper()
	if err := controlfile.Create(path, messaging.MessageID{7}, controlfile.Watermark{}); err != nil {
		t.Fatal(err)
	}
	file, err := controlfile.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	c := controlfile.New(file, func(doing string, err error) { t.Fatal(doing, err) }, nil)
	for part := range 4 { // several transactions leave free pages
		for n := range 10 {
			size := 400
			if part*10+n == 20 {
				size = 10_000
			}
			putWithChecksum(t, c, controlfile.Format1Letters, fmt.Sprintf("refused-%d", part*10+n), strings.Repeat("x", size))
			putWithChecksum(t, c, controlfile.Format1LetterReceivers, fmt.Sprintf("refused-%d/u%d", part*10+n, n), "12345")
			putWithChecksum(t, c, controlfile.Format1LetterGroups, fmt.Sprintf("refused%d", part*10+n), "id")
		}
		putWithChecksum(t, c, controlfile.Format1Jobs, fmt.Sprint("job", part), strings.Repeat("j", 300))
		if err := c.SaveWatermark(controlfile.Watermark{Sequence: uint64(part + 1), Generation: 1}); err != nil {
			t.Fatal(err)
		}
	}
	s, err := readControl(file)
	if err = errors.Join(err, file.Close()); err != nil {
		t.Fatal(err)
	}
	return s
}

// putWithChecksum writes a value with its checksum.
func putWithChecksum(t *testing.T, c *controlfile.Control, bucket, key, value string) {
	t.Helper()
	err := c.Update("test", func(tx controlfile.Tx) error {
		return tx.Put(bucket, key, controlfile.AppendChecksum(bucket, key, []byte(value)))
	})
	if err != nil {
		t.Fatal(err)
	}
}

// structure returns the offsets that bbolt follows in a control file.
func structure(t *testing.T, path string) boltpage.Structure {
	t.Helper()
	return boltpage.ReadStructure(t, path, boltpage.Buckets{Known: controlfile.Buckets(), Required: controlfile.StateBuckets()})
}

// The test changes every byte that bbolt follows, and some of the others. The file is
// refused or has the same contents. Only a damaged meta page may undo the last
// transaction, as after a crash.
func TestFlippedByteOfTheControlFileIsRefusedOrHarmless(t *testing.T) {
	path := filepath.Join(t.TempDir(), layout.ControlName)
	want := largeControl(t, path)
	file := structure(t, path)
	if file.Kinds[boltpage.BranchPage] == 0 || file.Kinds[boltpage.LeafPage] == 0 || file.Kinds[0] == 0 {
		t.Fatalf("the file lacks a kind of page: %v", file.Kinds)
	}
	for at := int64(0); at < int64(file.Pages*file.PageSize); at += 16 {
		file.Offsets[at+at/16%16] = true
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	older := want
	older.watermark.Sequence--
	refused, back := 0, 0
	for _, at := range slices.Sorted(maps.Keys(file.Offsets)) {
		got, err := flipped(t, f, at, 1<<(at/3%8))
		switch {
		case errors.Is(err, layout.ErrCorrupt):
			refused++
		case err == nil && got == older && at < boltpage.FirstPage*int64(file.PageSize):
			back++ // as after a crash during the write of the meta page
		case err != nil || got != want:
			t.Errorf("byte %d of page %d: %v, %+v", at%int64(file.PageSize), at/int64(file.PageSize), err, got)
		}
	}
	t.Logf("%d bytes flipped: %d refused, %d undo the last transaction", len(file.Offsets), refused, back)
}

// flipped tries the file with one changed byte.
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
	path := filepath.Join(t.TempDir(), layout.ControlName)
	largeControl(t, path)
	file := structure(t, path)
	for pages := int64(file.Pages) - 1; pages >= 0; pages-- {
		for _, more := range []int64{1, 0} {
			if err := os.Truncate(path, pages*int64(file.PageSize)+more); err != nil {
				t.Fatal(err)
			}
			if _, err := tryControl(path); !errors.Is(err, layout.ErrCorrupt) {
				t.Errorf("cut to %d pages and %d: %v", pages, more, err)
			}
		}
	}
}

// A control file has a freelist until the first commit after its creation.
func TestFlippedByteOfAFreshBoltFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), layout.ControlName)
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 40 { // frees pages and lists them
		err = errors.Join(err, db.Update(func(tx *bbolt.Tx) error {
			for _, name := range controlfile.StateBuckets() {
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
	file := structure(t, path)
	if file.Freelist == boltpage.NoFreelist || file.Kinds[boltpage.FreelistPage] != 1 {
		t.Fatalf("no freelist: %v", file.Kinds)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	for at := range int64(200) {
		file.Offsets[int64(file.Freelist*file.PageSize)+at] = true
	}
	for _, at := range slices.Sorted(maps.Keys(file.Offsets)) {
		if _, err := flipped(t, f, at, 0xff); err != nil && !errors.Is(err, layout.ErrCorrupt) {
			t.Errorf("byte %d of page %d: %v", at%int64(file.PageSize), at/int64(file.PageSize), err)
		}
	}
}
