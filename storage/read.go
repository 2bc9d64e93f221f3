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

// OpenToRead opens a store read-only, while no other process has it open. It writes
// nothing and checks nothing. Only methods that read may be called.
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
		return nil, errors.Join(fmt.Errorf("%w: it cannot be opened: run `messaging verify`", layout.ErrCorrupt), err, s.closeAll())
	}
	return s, nil
}

// Format1DeadLetters calls each for the dead letters of a format 1 store that was opened
// with [OpenToRead]. For every other store, old is false.
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

// Position returns [Reader.Position]. In a format 1 store it reads the control file.
func (s *Store) Position() (messaging.Position, error) {
	if s.old {
		return format1.NewReader(s.controlFile).Position()
	}
	return s.Reader.Position()
}

// Jobs returns [Reader.Jobs]. In a format 1 store it reads the control file.
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
