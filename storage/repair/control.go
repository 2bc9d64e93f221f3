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

// oldState is what can be read of a control file: the state, and all sealed
// entries of other buckets whose checksum is right.
type oldState struct {
	id      controlfile.Identity // zero where it cannot be read
	mark    controlfile.Watermark
	entries map[string]map[string][]byte // by bucket, with their checksums
	newer   error                        // says that a newer program has written it
}

// readControl reads the old control file page by page: bbolt would not open it.
// A page that is damaged is passed over, with what is below it.
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

// keep keeps an entry whose checksum is right.
func (s *oldState) keep(bucket string, key, value []byte) {
	if _, err := controlfile.VerifyChecksum(bucket, string(key), value); err != nil && bucket != controlfile.Format1LetterGroups {
		return
	}
	if s.entries[bucket] == nil {
		s.entries[bucket] = make(map[string][]byte)
	}
	s.entries[bucket][string(key)] = bytes.Clone(value)
}

// read takes the state out of either of its copies.
func (s *oldState) read() {
	id, err := controlfile.ReadIdentity(s.file())
	switch {
	case err == nil:
		s.id = id
	case errors.Is(err, layout.ErrFormat):
		s.newer = err
	}
	s.mark, _ = controlfile.ReadWatermark(s.file()) // zero where it cannot be read
}

// file returns what could be read as a control file.
func (s *oldState) file() *controlfile.Memory { return controlfile.MemoryOf(s.entries) }

// buildControl makes the new control file.
func (r *repairer) buildControl() error {
	return controlfile.Create(r.path(repairedControl), r.meta.StoreID, controlfile.Watermark{Sequence: r.meta.Last, Generation: r.meta.Generation})
}

// rebuildFormat1 copies what a control file of format 1 has of messages, as far as
// it can be read. Nothing is removed before: what an upgrade that was cut off has
// copied is the same, and may be all that is left of it.
func (r *repairer) rebuildFormat1() error {
	if !r.isFormat1() {
		return nil
	}
	batch := r.newBatch()
	defer batch.Close()
	if lost := r.dropUnreadable(); lost > 0 {
		r.change("%d dead letters could not be read", lost)
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

// isFormat1 says whether the store was of format 1: by its control file, or where
// that cannot be read by its meta record.
func (r *repairer) isFormat1() bool {
	if r.state.id.Format != 0 {
		return r.state.id.IsOld()
	}
	return r.metaVersion == layout.Format1
}

// dropUnreadable leaves only what an upgrade can copy, and says how many dead
// letters are lost.
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
