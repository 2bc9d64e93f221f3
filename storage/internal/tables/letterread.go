package tables

import (
	"encoding/binary"
	"errors"
	"slices"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/storage/internal/layout"
	"github.com/stayafrica/messaging/storage/internal/schema"
)

// Letter returns a dead letter. ok is false if there is none.
func (r Reader) Letter(k schema.LetterKey) (l schema.Letter, ok bool, err error) {
	ok, err = r.lookup("g", schema.EncodeLetterKey(k), func(v []byte) error {
		l, err = schema.DecodeLetter(v)
		return err
	})
	return l, ok, err
}

// LetterByID returns the key of the dead letter with an id.
func (r Reader) LetterByID(id schema.LetterID) (k schema.LetterKey, ok bool, err error) {
	ok, err = r.lookup("i", schema.LetterIDKey(id), func(v []byte) error {
		k, err = schema.DecodeLetterID(id, v)
		return err
	})
	return k, ok, err
}

// LetterMessage returns the message of dead letters. That of a broadcast has neither
// receiver nor id (see [messaging.Message.CopyTo]).
func (r Reader) LetterMessage(k schema.LetterMessageKey) (m messaging.Message, ok bool, err error) {
	ok, err = r.lookup("o", schema.EncodeLetterMessageKey(k), func(v []byte) error {
		m, err = schema.DecodeLetterMessage(k.Sequence, slices.Clone(v))
		return err
	})
	return m, ok, err
}

// LetterRecipient returns one recipient of a dead letter. ok is false if the user is not
// one.
func (r Reader) LetterRecipient(k schema.LetterKey, user messaging.UserID) (l schema.LetterRecipient, ok bool, err error) {
	ok, err = r.lookup("r", schema.RecipientKey(k, user), func(v []byte) error {
		l, err = schema.DecodeLetterRecipient(v)
		return err
	})
	return l, ok, err
}

// LetterRecipients calls each for the recipients of a dead letter after a user, in key
// order, until each returns false. It holds an iterator open, so each must be quick.
func (r Reader) LetterRecipients(k schema.LetterKey, after messaging.UserID, each func(user messaging.UserID, l schema.LetterRecipient) bool) error {
	prefix := schema.RecipientsPrefix(k)
	from := prefix
	if after != "" {
		from = append(schema.RecipientKey(k, after), 0)
	}
	return r.scan(from, schema.PrefixEnd(prefix), func(key, value []byte) (bool, error) {
		_, user, err := schema.ParseRecipientKey(key)
		if err != nil {
			return false, damagedKey("r", err)
		}
		l, err := schema.DecodeLetterRecipient(value)
		if err != nil {
			return false, damagedKey("r", err)
		}
		return each(user, l), nil
	})
}

// LetterIDs calls each for the ids after one, in order, until each returns false. The
// zero id is before all others.
func (r Reader) LetterIDs(after schema.LetterID, each func(id schema.LetterID, k schema.LetterKey) bool) error {
	from := []byte{schema.TableLetterID}
	if after.Kind != "" {
		from = append(schema.LetterIDKey(after), 0)
	}
	return r.scan(from, []byte{schema.TableLetterID + 1}, func(key, value []byte) (bool, error) {
		id, err := schema.ParseLetterIDKey(key)
		if err != nil {
			return false, damagedKey("i", err)
		}
		k, err := schema.DecodeLetterID(id, value)
		if err != nil {
			return false, damagedKey("i", err)
		}
		return each(id, k), nil
	})
}

// LetterKeys calls each for the keys of dead letters after one, in order, until each
// returns false. The zero key is before all others.
func (r Reader) LetterKeys(after schema.LetterKey, each func(k schema.LetterKey) bool) error {
	from := []byte{schema.TableLetter}
	if after.Kind != "" {
		from = append(schema.EncodeLetterKey(after), 0)
	}
	return r.scan(from, []byte{schema.TableLetter + 1}, func(key, _ []byte) (bool, error) {
		k, err := schema.ParseLetterKey(key)
		if err != nil {
			return false, damagedKey("g", err)
		}
		return each(k), nil
	})
}

// LettersOf returns the dead letters of one message and kind.
func (r Reader) LettersOf(k schema.LetterMessageKey) (letters []schema.LetterKey, err error) {
	prefix := schema.LettersPrefix(k)
	err = r.scan(prefix, schema.PrefixEnd(prefix), func(key, _ []byte) (bool, error) {
		letter, err := schema.ParseLetterKey(key)
		if err != nil {
			return false, damagedKey("g", err)
		}
		letters = append(letters, letter)
		return true, nil
	})
	return letters, err
}

// NextLetterWithReason returns the first dead letter of a kind and a reason at or after a
// sequence. It does not scan letters of other reasons.
func (r Reader) NextLetterWithReason(kind messaging.DeadLetterKind, reason, from uint64) (k schema.LetterKey, ok bool, err error) {
	prefix := schema.ReasonPrefix(kind, reason)
	lower := binary.BigEndian.AppendUint64(slices.Clone(prefix), from)
	err = r.scan(lower, schema.PrefixEnd(prefix), func(key, _ []byte) (bool, error) {
		k, _, err = schema.ParseRecipientKey(key)
		if err != nil {
			return false, damagedKey("r", err)
		}
		ok = true
		return false, nil
	})
	return k, ok, err
}

// LetterMessages returns the sequences in [from, to) whose message is in a dead letter of
// a kind.
func (r Reader) LetterMessages(kind messaging.DeadLetterKind, from, to uint64) (sequences map[uint64]bool, err error) {
	sequences = make(map[uint64]bool)
	lower, upper := schema.EncodeLetterMessageKey(schema.LetterMessageKey{Kind: kind, Sequence: from}), schema.EncodeLetterMessageKey(schema.LetterMessageKey{Kind: kind, Sequence: to})
	err = r.scan(lower, upper, func(key, _ []byte) (bool, error) {
		k, err := schema.ParseLetterMessageKey(key)
		if err != nil {
			return false, damagedKey("o", err)
		}
		sequences[k.Sequence] = true
		return true, nil
	})
	return sequences, err
}

// LetterCount returns the number of dead letters of a kind.
func (r Reader) LetterCount(kind messaging.DeadLetterKind) (n uint64, err error) {
	_, err = r.lookup("n", schema.KindKey(schema.TableLetterCount, kind), func(v []byte) error {
		if len(v) != 8 {
			return schema.ErrValue
		}
		n = binary.BigEndian.Uint64(v)
		return nil
	})
	return n, err
}

// Position returns the drain's position: the lowest one that is not settled. It is zero
// if nothing was drained.
func (r Reader) Position() (p messaging.Position, err error) {
	_, err = r.lookup("p", []byte{schema.TablePosition}, func(v []byte) error {
		p, err = schema.DecodePosition(v)
		return err
	})
	return p, err
}

// Jobs returns the stored jobs by id.
func (r Reader) Jobs() (map[string]schema.JobRecord, error) {
	jobs := make(map[string]schema.JobRecord)
	err := r.scan([]byte{schema.TableJob}, []byte{schema.TableJob + 1}, func(key, value []byte) (bool, error) {
		job, err := schema.DecodeJob(value)
		if err != nil {
			return false, damagedKey("j", err)
		}
		jobs[string(key[1:])] = job
		return true, nil
	})
	return jobs, err
}

// lookup reads one value, if it exists. A value that cannot be decoded is an ErrCorrupt.
func (r Reader) lookup(table string, key []byte, use func(value []byte) error) (ok bool, err error) {
	err = r.get(key, func(v []byte) error {
		if err := use(v); err != nil {
			return damagedKey(table, err)
		}
		return nil
	})
	if errors.Is(err, layout.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}
