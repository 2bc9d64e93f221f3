package wal

import (
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/storage"
)

// tombstones is a change that trims single records.
type tombstones []uint64

func (c tombstones) Records() []Record { return nil }
func (c tombstones) Stage(tx *Tx) {
	for _, seq := range c {
		tx.CountTrimmed(seq)
		tx.TrimRecord(seq, &Record{})
	}
}
func (c tombstones) OnDurable() {}

// moved is a change of the drain's position.
type moved struct {
	to      messaging.Position
	trimmed uint64
}

func (c *moved) Records() []Record { return nil }
func (c *moved) Stage(tx *Tx)      { tx.PutPosition(c.to, c.trimmed) }
func (c *moved) OnDurable()        {}

func TestTrimmedCountsFromTheDrainsPositionOn(t *testing.T) {
	fs, control := vfs.NewMem(), storage.NewMemoryControl()
	l, store := openOn(t, fs, control, nil)
	commitSome(t, l, 20)
	want := func(n uint64) {
		t.Helper()
		if l.Trimmed() != n {
			t.Errorf("%d are trimmed, want %d", l.Trimmed(), n)
		}
		closeBoth(t, l, store)
		l, store = openOn(t, fs, control, nil)
		if l.Trimmed() != n {
			t.Errorf("after a restart %d are trimmed, want %d", l.Trimmed(), n)
		}
	}
	change := func(c Change) {
		t.Helper()
		if err := l.Commit(c); err != nil {
			t.Fatal(err)
		}
	}
	drain := func(to, n uint64) {
		t.Helper()
		trimmed, err := l.TrimmedFrom(to)
		if err != nil || trimmed != n {
			t.Errorf("from %d on %d are trimmed (%v), want %d", to, trimmed, err, n)
		}
		change(&moved{messaging.Position{Sequence: to}, trimmed})
		want(n)
	}
	want(0)
	drain(3, 0)
	change(tombstones{2}) // the drain has passed it
	want(0)
	change(tombstones{4, 5, 6, 9, 12})
	want(5)
	drain(5, 4)
	drain(4, 5) // a repair moves it back
	drain(7, 2)
	change(&trimming{first: 9}) // counts 7 and 8
	want(4)
	drain(9, 2)
	drain(12, 1)
	drain(21, 0)
	closeBoth(t, l, store)
}

func TestALogCountsWhatWasTrimmedAfterAnUpgrade(t *testing.T) {
	fs, control := vfs.NewMem(), storage.NewMemoryControl()
	l, store := openOn(t, fs, control, nil)
	commitSome(t, l, 9)
	for _, c := range []Change{&moved{to: messaging.Position{Sequence: 3}}, &trimming{first: 5}, tombstones{7, 9}} {
		if err := l.Commit(c); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Commit(&moved{messaging.Position{Sequence: 3}, storage.TrimmedUnknown}); err != nil {
		t.Fatal(err)
	}
	closeBoth(t, l, store)
	l, store = openOn(t, fs, control, nil)
	if l.Trimmed() != 4 {
		t.Errorf("%d are trimmed, want 4", l.Trimmed())
	}
	closeBoth(t, l, store)
}
