package storage

import (
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/storage/internal/controlfile"
	"github.com/stayafrica/messaging/storage/internal/format1"
	"github.com/stayafrica/messaging/storage/internal/layout"
	"github.com/stayafrica/messaging/storage/internal/pebbledb"
	"github.com/stayafrica/messaging/storage/internal/schema"
	"github.com/stayafrica/messaging/storage/internal/tables"
)

// OpenToRead opens a store that no process has open, to look at it: nothing is
// written, and nothing is checked. Only the methods that read may be called.
func OpenToRead(dir string) (*Store, error) {
	lock, err := layout.LockToRead(dir)
	if err != nil {
		return nil, err
	}
	s := newStore(Config{Dir: dir, CacheBytes: 64 << 20})
	s.closers = append(s.closers, lock)
	file, controlErr := controlfile.OpenRead(layout.Control(dir))
	if controlErr == nil {
		s.controlFile, s.control = file, controlfile.New(file, s.fatal, nil)
		if id, err := controlfile.ReadIdentity(file); err == nil {
			s.old = id.IsOld()
		}
	}
	if s.db, err = pebbledb.OpenReadOnly(layout.Messages(dir), s.pebbleConfig(vfs.Default)); err == nil {
		s.meta, err = tables.ReadMeta(s.Reader)
	}
	if err != nil || controlErr != nil {
		return nil, errors.Join(fmt.Errorf("%w: it cannot be opened as it is: see `messaging verify`", layout.ErrCorrupt), err, s.closeAll())
	}
	return s, nil
}

// Format1DeadLetters calls each for the dead letters of a store of format 1 that
// was opened to be read ([OpenToRead]); old is false for every other store.
func (s *Store) Format1DeadLetters(each func(d *messaging.DeadLetter) error) (old bool, err error) {
	if !s.old {
		return false, nil
	}
	return true, format1.NewReader(s.controlFile).Letters(func(l *format1.Letter, recipients map[messaging.UserID]schema.LetterRecipient) error {
		return each(&messaging.DeadLetter{
			ID: l.ID, Kind: l.Kind, Reason: l.Reason, StatusCode: l.StatusCode, Attempts: l.Attempts, FailedAt: l.FailedAt,
			Recipients: len(recipients), Message: l.DeadMessage(),
		})
	})
}

// Position is that of [Reader]; in a store of format 1 the control file has it.
func (s *Store) Position() (messaging.Position, error) {
	if s.old {
		return format1.NewReader(s.controlFile).Position()
	}
	return s.Reader.Position()
}

// Jobs are those of [Reader]; in a store of format 1 the control file has them.
func (s *Store) Jobs() (map[string]schema.JobRecord, error) {
	if !s.old {
		return s.Reader.Jobs()
	}
	jobs := make(map[string]schema.JobRecord)
	err := format1.NewReader(s.controlFile).Jobs(func(id string, j schema.JobRecord) error {
		jobs[id] = j
		return nil
	})
	return jobs, err
}
