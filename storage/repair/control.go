package repair

import (
	"bytes"
	"errors"
	"os"
	"strings"

	"github.com/stayafrica/messaging/storage/internal/boltpage"
	"github.com/stayafrica/messaging/storage/internal/controlfile"
	"github.com/stayafrica/messaging/storage/internal/format1"
	"github.com/stayafrica/messaging/storage/internal/layout"
	"github.com/stayafrica/messaging/storage/internal/tables"
)

// oldState is the readable part of a control file: the state, and all entries of other
// buckets whose checksum is correct.
type oldState struct {
	id      controlfile.Identity // zero if it cannot be read
	mark    controlfile.Watermark
	entries map[string]map[string][]byte // by bucket, with their checksums
	newer   error                        // set if a newer program wrote the file
}

// readControl reads the old control file page by page, because bbolt would not open it.
// It skips a damaged page and the pages below it.
func (r *repairer) readControl() oldState {
	state := oldState{entries: make(map[string]map[string][]byte)}
	f, err := os.Open(r.path(layout.ControlName))
	if err != nil {
		r.change("%s could not be read: it is rebuilt", layout.ControlName)
		return state
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return state
	}
	if err := boltpage.Salvage(f, info.Size(), controlfile.Buckets(), state.keep); err != nil {
		r.change("%s could not be read (%v): it is rebuilt", layout.ControlName, err)
		return state
	}
	state.read()
	return state
}

// keep keeps an entry whose checksum is correct.
func (s *oldState) keep(bucket string, key, value []byte) {
	if _, err := controlfile.VerifyChecksum(bucket, string(key), value); err != nil && bucket != controlfile.Format1LetterGroups {
		return
	}
	if s.entries[bucket] == nil {
		s.entries[bucket] = make(map[string][]byte)
	}
	s.entries[bucket][string(key)] = bytes.Clone(value)
}

// read reads the state from either of its copies.
func (s *oldState) read() {
	id, err := controlfile.ReadIdentity(s.file())
	switch {
	case err == nil:
		s.id = id
	case errors.Is(err, layout.ErrFormat):
		s.newer = err
	}
	s.mark, _ = controlfile.ReadWatermark(s.file()) // zero if it cannot be read
}

// file returns the readable entries as a control file.
func (s *oldState) file() *controlfile.Memory { return controlfile.MemoryOf(s.entries) }

// buildControl creates the new control file.
func (r *repairer) buildControl() error {
	return controlfile.Create(r.path(repairedControl), r.meta.StoreID, controlfile.Watermark{Sequence: r.meta.Last, Generation: r.meta.Generation})
}

// rebuildFormat1 copies the readable dead letters, jobs and drain position of a control
// file of format 1. It removes nothing first: the copies of an interrupted upgrade are
// the same, and may be the only ones left.
func (r *repairer) rebuildFormat1() error {
	if !r.isFormat1() {
		return nil
	}
	batch := r.newBatch()
	defer batch.Close()
	if lost := r.dropUnreadable(); lost > 0 {
		r.change("unreadable dead letters: %d", lost)
	}
	c := &format1.Copier{From: format1.NewReader(r.state.file()), Into: r.into, Batch: batch, Write: func(batch *tables.Batch, last bool) {
		if last {
			r.write(batch)
		} else {
			r.writeLarge(batch)
		}
	}}
	return c.Copy()
}

// isFormat1 reports whether the store was of format 1. The control file decides, or, if
// it cannot be read, the meta record.
func (r *repairer) isFormat1() bool {
	if r.state.id.Format != 0 {
		return r.state.id.IsOld()
	}
	return r.metaVersion == layout.Format1
}

// dropUnreadable drops what an upgrade could not copy, and returns the number of lost
// dead letters.
func (r *repairer) dropUnreadable() (lost int) {
	drop := func(bucket string, whole func(key string, value []byte) bool) (n int) {
		entries := r.state.entries[bucket]
		for key, sealed := range entries {
			if value, err := controlfile.VerifyChecksum(bucket, key, sealed); err != nil || !whole(key, value) {
				delete(entries, key)
				n++
			}
		}
		return n
	}
	recipients := make(map[string]bool)
	drop(controlfile.Format1LetterReceivers, func(key string, value []byte) bool {
		id, user, _ := strings.Cut(key, "/")
		_, err := format1.DecodeRecipient(user, value)
		recipients[id] = recipients[id] || err == nil
		return err == nil
	})
	lost = drop(controlfile.Format1Letters, func(id string, value []byte) bool {
		_, err := format1.DecodeLetter(value)
		there := recipients[id]
		delete(recipients, id)
		return err == nil && there
	})
	drop(controlfile.Format1Jobs, func(id string, value []byte) bool {
		_, err := format1.DecodeJob(id, value)
		return err == nil
	})
	return lost + len(recipients)
}
