package engine

import (
	"slices"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/storage"
)

// DeadLetterAt returns the dead letter of a key; ok is false if there is none.
func (d *DeadLetters) DeadLetterAt(k messaging.DeadLetterKey) (letter messaging.DeadLetter, ok bool, err error) {
	snapshot := d.engine.log.Snapshot()
	defer snapshot.Release()
	l := letterReader{store: snapshot.Reader}
	return l.read(storage.LetterKey(k))
}

// NextDeadLetters returns dead letters in the order of their keys, which do not change
// when ids do. It returns none only at the end. Before the end it may return fewer than
// the limit.
func (d *DeadLetters) NextDeadLetters(s messaging.DeadLetterScan) (letters []messaging.DeadLetter, err error) {
	snapshot := d.engine.log.Snapshot()
	defer snapshot.Release()
	l := letterReader{store: snapshot.Reader}
	bytes := 0
	for after := storage.LetterKey(s.After); ; {
		keys, err := l.keysAfter(after, &s)
		if err != nil || len(keys) == 0 {
			return letters, err
		}
		for _, k := range keys {
			if len(letters) >= s.Limit || bytes >= letterBytes {
				return letters, nil
			}
			letter, ok, err := l.read(k)
			if err != nil {
				return nil, err
			}
			if ok {
				letters = append(letters, letter)
				bytes += len(letter.Message.Body) + len(letter.Reason) + messaging.JSONOverhead
			}
			after = k
		}
	}
}

// keysAfter returns the next keys of a scan.
func (r *letterReader) keysAfter(after storage.LetterKey, s *messaging.DeadLetterScan) (keys []storage.LetterKey, err error) {
	if s.Reason != "" {
		return r.keyWithReason(after, s)
	}
	if after.Kind == "" {
		after.Kind = s.Kind
	}
	err = r.store.LetterKeys(after, func(k storage.LetterKey) bool {
		if s.Kind != "" && k.Kind != s.Kind {
			return false
		}
		keys = append(keys, k)
		return len(keys) < min(s.Limit, idsAtOnce)
	})
	return keys, err
}

// keyWithReason returns the next key with the reason of a scan.
func (r *letterReader) keyWithReason(after storage.LetterKey, s *messaging.DeadLetterScan) ([]storage.LetterKey, error) {
	kinds, from := storage.LetterKinds(), uint64(0)
	if at := slices.Index(kinds, after.Kind); at >= 0 {
		kinds, from = kinds[at:], after.Sequence+1
	}
	for _, kind := range kinds {
		if s.Kind == "" || s.Kind == kind {
			k, ok, err := r.store.NextLetterWithReason(kind, storage.ReasonHash(s.Reason), from)
			if err != nil || ok {
				return []storage.LetterKey{k}, err
			}
		}
		from = 0
	}
	return nil, nil
}
