package storage

import (
	"errors"
	"fmt"

	"github.com/stayafrica/messaging/storage/internal/controlfile"
	"github.com/stayafrica/messaging/storage/internal/layout"
	"github.com/stayafrica/messaging/storage/internal/schema"
	"github.com/stayafrica/messaging/storage/internal/tables"
)

// recover compares the opened store with what was acknowledged, and begins a new
// generation.
func (s *Store) recover(id controlfile.Identity) error {
	meta, err := tables.ReadMeta(s.Reader)
	if err != nil {
		return fmt.Errorf("%w: %s has no meta record: %w", layout.ErrCorrupt, s.path(layout.MessagesDir), err)
	}
	if meta.StoreID != id.StoreID {
		return fmt.Errorf("%w: %s and %s belong to different stores: put the matching pair back", layout.ErrCorrupt, s.path(layout.MessagesDir), s.path(layout.ControlName))
	}
	mark, err := s.control.Watermark()
	if err != nil {
		return err
	}
	if meta.Last < mark.Sequence || meta.Generation < mark.Generation {
		return fmt.Errorf("%w: it holds messages up to %d (generation %d), but %d (generation %d) was acknowledged: files are missing or were cut; %s",
			layout.ErrCorrupt, meta.Last, meta.Generation, mark.Sequence, mark.Generation, layout.HowToRepair)
	}
	for _, check := range []func() error{func() error { return s.checkTail(meta) }, s.checkUnfinished} {
		if err := check(); errors.Is(err, layout.ErrCorrupt) {
			return fmt.Errorf("%w; %s", err, layout.HowToRepair)
		} else if err != nil {
			return err
		}
	}
	if err := s.held.Release(); err != nil {
		s.logger.Warn("old files could not be removed; the next start tries again", "error", err)
	}
	if s.prealloc != nil {
		s.prealloc.Start(s.path(layout.MessagesDir))
		s.closers = append(s.closers, s.prealloc)
	}
	if id.IsOld() {
		if err := s.upgrade(id, meta); err != nil {
			return err
		}
	}
	meta.Generation++
	s.meta = meta
	batch := s.NewBatch()
	defer batch.Close()
	batch.PutMeta(meta)
	batch.Commit()
	return s.control.SaveWatermark(controlfile.Watermark{Sequence: meta.Last, Generation: meta.Generation})
}

// tailCheck is how many of the last records are read at open. It is more than a memtable
// holds, so it covers every record that came from the write-ahead log.
const tailCheck = 200_000

// checkTail refuses a log whose last records have a gap, or that ends before meta.Last.
func (s *Store) checkTail(meta schema.Meta) error {
	next := meta.FirstSequence
	if meta.Last >= tailCheck {
		next = max(next, meta.Last-tailCheck+1)
	}
	err := s.Records(next, ^uint64(0), func(seq uint64, _ []byte) (bool, error) {
		if seq != next {
			return false, fmt.Errorf("%w: record %d is missing", layout.ErrCorrupt, next)
		}
		next++
		return true, nil
	})
	if err != nil {
		return err
	}
	if next != meta.Last+1 {
		return fmt.Errorf("%w: the log ends at %d instead of %d", layout.ErrCorrupt, next-1, meta.Last)
	}
	return nil
}

// checkUnfinished reads the unfinished work that a start resumes. Damage there refuses
// the store before any file is removed.
func (s *Store) checkUnfinished() error {
	if _, err := s.Stages(); err != nil {
		return err
	}
	if _, err := s.Fanouts(); err != nil {
		return err
	}
	if _, err := s.Clears(); err != nil {
		return err
	}
	for _, what := range []schema.Event{schema.Due, schema.Expiry} {
		if _, _, err := s.NextTimer(what, 0); err != nil {
			return err
		}
	}
	_, err := s.LastTime()
	return err
}
