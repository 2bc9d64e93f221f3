package storage

import (
	"fmt"
	"os"

	"github.com/stayafrica/messaging/storage/internal/controlfile"
	"github.com/stayafrica/messaging/storage/internal/format1"
	"github.com/stayafrica/messaging/storage/internal/layout"
	"github.com/stayafrica/messaging/storage/internal/schema"
	"github.com/stayafrica/messaging/storage/internal/tables"
)

// An upgrade from format 1 moves dead letters, jobs and the drain's position from the
// control file into tables of the database:
//
//  1. The control file's format is set to "upgrading to 2", which older programs refuse,
//     including their repair.
//  2. The new tables are emptied and filled in commits of 4 MiB.
//  3. The database is flushed and the copies are counted.
//  4. The meta record is set to format 2.
//  5. A new control file without the moved data is written and renamed into place. The
//     rename is the commit point.
//
// A crash before step 5 leaves the old control file unchanged except for its format. The
// next start resumes at step 2.
const (
	upgradeBatch = 4 << 20
	upgradeSpace = 64 << 20
)

// upgrade upgrades a store of format 1 to [Format]. The caller has checked the store.
func (s *Store) upgrade(id controlfile.Identity, meta schema.Meta) error {
	if err := s.checkUpgradeSpace(); err != nil {
		return err
	}
	from := format1.NewReader(s.controlFile)
	if _, err := from.Check(); err != nil {
		return fmt.Errorf("%w; %s", err, layout.HowToRepair)
	}
	s.logger.Info("upgrading the store", "from_format", layout.Format1, "to_format", layout.Format)
	id.Format = layout.FormatUpgrading
	if err := s.control.Update("begin the upgrade", func(tx controlfile.Tx) error { return controlfile.PutIdentity(tx, id) }); err != nil {
		return err
	}
	batch := s.NewBatch()
	defer batch.Close()
	for _, table := range schema.LetterTables {
		tables.DeleteRange(batch, []byte{table}, []byte{table + 1})
	}
	batch.Commit()
	batch.Reset()
	c := &format1.Copier{From: from, Into: s.Reader, Batch: batch, Write: func(batch *Batch, last bool) {
		if last || batch.Len() >= upgradeBatch {
			batch.Commit()
			batch.Reset()
		}
	}}
	if err := c.Copy(); err != nil {
		return err
	}
	if err := s.db.Flush(); err != nil {
		return fmt.Errorf("write the upgraded store: %w", err)
	}
	if err := c.Check(); err != nil {
		return err
	}
	batch.PutMeta(meta)
	batch.Commit()
	if err := s.replaceControl(id); err != nil {
		return err
	}
	letters, jobs := c.Counts()
	s.logger.Info("the store was upgraded", "format", layout.Format, "dead_letters", letters, "jobs", jobs)
	return nil
}

// checkUpgradeSpace refuses an upgrade for which the disk has too little space.
func (s *Store) checkUpgradeSpace() error {
	if s.config.FS != nil {
		return nil
	}
	info, err := os.Stat(s.path(layout.ControlName))
	if err != nil {
		return err
	}
	free, err := layout.Free(s.config.Dir)
	if err != nil {
		return err
	}
	if need := 2*uint64(info.Size()) + upgradeSpace; free < need { //nolint:gosec // not negative
		return fmt.Errorf("%w: the upgrade of the store needs %d MiB, and %d MiB are free; nothing was changed", layout.ErrDiskFull, need>>20, free>>20)
	}
	return nil
}

// replaceControl replaces the old control file with one of this format.
func (s *Store) replaceControl(id controlfile.Identity) error {
	mark, err := s.control.Watermark()
	if err != nil {
		return err
	}
	if s.config.FS != nil {
		return s.control.Update("end the upgrade", func(tx controlfile.Tx) error { return format1.Drop(tx, id) })
	}
	path := s.path(layout.ControlName)
	err = s.controlFile.Close()
	s.control, s.controlFile = nil, nil
	if err == nil {
		err = controlfile.Create(path, id.StoreID, mark)
	}
	if err != nil {
		return fmt.Errorf("rewrite %s: %w", path, err)
	}
	return s.openControl()
}
