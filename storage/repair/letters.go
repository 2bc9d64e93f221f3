package repair

import (
	"errors"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/storage/fsck"
	"github.com/stayafrica/messaging/storage/internal/layout"
	"github.com/stayafrica/messaging/storage/internal/schema"
	"github.com/stayafrica/messaging/storage/internal/tables"
)

// rebuildLetters drops the inconsistent parts of dead letters, rebuilds their ids and
// counts, and writes the drain's position.
func (r *repairer) rebuildLetters(*fsck.Records) error {
	if err := r.rebuildFormat1(); err != nil {
		return err
	}
	m := &letterRebuilder{repairer: r, batch: r.newBatch(), ids: make(map[schema.LetterID]bool), counts: make(map[messaging.DeadLetterKind]uint64)}
	defer m.batch.Close()
	for _, step := range []func() error{m.recipients, m.letters, m.messages, m.jobs, m.position} {
		if err := step(); err != nil {
			return err
		}
		r.write(m.batch)
	}
	if m.lost > 0 {
		r.change("parts of dead letters that could not be read or were inconsistent: %d", m.lost)
	}
	return nil
}

// letterRebuilder visits the tables of dead letters. Each step reads them without the
// entries that the steps before dropped.
type letterRebuilder struct {
	repairer *repairer
	batch    *tables.Batch
	ids      map[schema.LetterID]bool
	counts   map[messaging.DeadLetterKind]uint64
	lost     int
}

func (m *letterRebuilder) drop(key []byte) {
	m.lost++
	tables.Delete(m.batch, key)
	m.repairer.writeLarge(m.batch)
}

// recipients drops recipients without a letter or a message, and recipients whose message
// is in their queue, from where it is delivered.
func (m *letterRebuilder) recipients() error {
	into := m.repairer.into
	return tables.ScanTable(into, schema.TableLetterRecipient, func(key, value []byte) (bool, error) {
		k, user, err := schema.ParseRecipientKey(key)
		_, valueErr := schema.DecodeLetterRecipient(value)
		if errors.Join(err, valueErr) != nil {
			m.drop(key)
			return true, nil //nolint:nilerr // what cannot be read is dropped
		}
		letter, hasLetter, err := into.Letter(k)
		message, hasMessage, messageErr := into.LetterMessage(k.Message())
		if err != nil || messageErr != nil || !hasLetter || !hasMessage || schema.ReasonHash(letter.Reason) != k.Reason {
			m.drop(key)
			return true, nil //nolint:nilerr // what cannot be read is dropped
		}
		if k.Kind == messaging.Undeliverable {
			queued, err := tables.HasEntry(into, user, message.Priority, k.Sequence)
			if err != nil {
				return false, err
			}
			if queued {
				m.drop(key)
			}
		}
		return true, nil
	})
}

// letters drops letters without recipients, and counts the others.
func (m *letterRebuilder) letters() error {
	into := m.repairer.into
	err := tables.ScanTable(into, schema.TableLetter, func(key, value []byte) (bool, error) {
		k, err := schema.ParseLetterKey(key)
		l, valueErr := schema.DecodeLetter(value)
		if errors.Join(err, valueErr) != nil {
			m.drop(key)
			return true, nil //nolint:nilerr // what cannot be read is dropped
		}
		l.Recipients = 0
		if err := into.LetterRecipients(k, "", func(messaging.UserID, schema.LetterRecipient) bool { l.Recipients++; return true }); err != nil {
			return false, err
		}
		if l.Recipients == 0 {
			m.drop(key)
			return true, nil
		}
		if m.ids[schema.LetterID{Kind: k.Kind, Message: l.ID}] {
			l.ID = schema.DerivedLetterID(k)
		}
		m.ids[schema.LetterID{Kind: k.Kind, Message: l.ID}] = true
		m.counts[k.Kind]++
		m.batch.PutLetter(k, &l)
		m.repairer.writeLarge(m.batch)
		return true, nil
	})
	for kind, n := range m.counts {
		m.batch.PutLetterCount(kind, n)
	}
	return err
}

func (m *letterRebuilder) messages() error {
	into := m.repairer.into
	return tables.ScanTable(into, schema.TableLetterMessage, func(key, value []byte) (bool, error) {
		k, err := schema.ParseLetterMessageKey(key)
		if err == nil {
			_, err = schema.DecodeLetterMessage(k.Sequence, value)
		}
		if err != nil {
			m.drop(key)
			return true, nil //nolint:nilerr // what cannot be read is dropped
		}
		letters, err := into.LettersOf(k)
		if err == nil && len(letters) == 0 {
			m.drop(key)
		}
		return true, err
	})
}

func (m *letterRebuilder) jobs() error {
	return tables.ScanTable(m.repairer.into, schema.TableJob, func(key, value []byte) (bool, error) {
		_, err := schema.ParseJobKey(key)
		_, valueErr := schema.DecodeJob(value)
		if errors.Join(err, valueErr) != nil {
			m.drop(key)
		}
		return true, nil
	})
}

// position writes the drain's position. It is the old one, limited to the end of the log
// and to the first broadcast whose receivers were rebuilt.
func (m *letterRebuilder) position() error {
	r := m.repairer
	if err := tables.ScanTable(r.into, schema.TablePosition, func(key, _ []byte) (bool, error) {
		if len(key) > 1 {
			m.drop(key)
		}
		return true, nil
	}); err != nil {
		return err
	}
	p, err := r.into.Position()
	if errors.Is(err, layout.ErrCorrupt) {
		r.change("the drain's position could not be read: everything goes to the backend again, under the same ids")
		p = messaging.Position{Sequence: r.meta.FirstSequence}
	} else if err != nil {
		return err
	}
	if r.drained > 0 && p.Sequence > r.drained {
		p = messaging.Position{Sequence: r.drained}
	}
	if p.Sequence > r.meta.Last+1 {
		p = messaging.Position{Sequence: r.meta.Last + 1}
	}
	if p != (messaging.Position{}) {
		m.batch.PutPosition(p)
	}
	return nil
}
