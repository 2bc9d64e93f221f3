package engine

import (
	"encoding/binary"
	"strings"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/storage"
)

// Bounds of one page of a listing. They limit how long a listing with few or large matches
// holds the snapshot, and its memory.
const (
	letterScan  = 10_000
	letterBytes = 8 << 20
)

func parseLetterID(text string) (storage.LetterID, bool) {
	kind, rest, _ := strings.Cut(text, "-")
	var id storage.LetterID
	if !messaging.ValidDeadLetterID(text) || id.Message.Parse(rest) != nil {
		return storage.LetterID{}, false
	}
	id.Kind = messaging.DeadLetterKind(kind)
	return id, true
}

// DeadLetterReader reads the dead letters of a store. The store need not have an engine.
// Its methods are safe for concurrent use.
type DeadLetterReader struct{ Store storage.Reader }

// FindDeadLetter returns one dead letter; ok is false if there is none.
func (r DeadLetterReader) FindDeadLetter(id string) (letter messaging.DeadLetter, ok bool, err error) {
	letterID, ok := parseLetterID(id)
	if !ok {
		return letter, false, nil
	}
	l := letterReader{store: r.Store}
	k, ok, err := l.store.LetterByID(letterID)
	if err != nil || !ok {
		return letter, false, err
	}
	return l.read(k)
}

// letterReader reads dead letters. It keeps the last message that it has read, because the
// letters of one broadcast are adjacent.
type letterReader struct {
	store   storage.Reader
	key     storage.LetterMessageKey
	message messaging.Message
}

// read returns a dead letter with the message of the recipient that names it. ok is false
// if the letter was removed.
func (r *letterReader) read(k storage.LetterKey) (d messaging.DeadLetter, ok bool, err error) {
	l, ok, err := r.store.Letter(k)
	if err != nil || !ok {
		return d, false, err
	}
	if ok, err := r.load(k.Message()); err != nil || !ok {
		return d, false, err
	}
	return messaging.DeadLetter{
		ID: messaging.DeadLetterID(k.Kind, l.ID), Kind: k.Kind, Reason: l.Reason, StatusCode: l.StatusCode, Attempts: l.Attempts,
		FailedAt: l.FailedAt, Recipients: int(l.Recipients), Message: messageFor(&r.message, l.Named, l.Number),
	}, true, nil
}

func (r *letterReader) load(k storage.LetterMessageKey) (ok bool, err error) {
	if r.key == k {
		return true, nil
	}
	m, ok, err := r.store.LetterMessage(k)
	if ok {
		r.key, r.message = k, m
	}
	return ok, err
}

// messageFor returns the message of one recipient of a dead letter.
func messageFor(m *messaging.Message, receiver messaging.Receiver, number uint32) messaging.Message {
	if !m.Copy {
		return *m
	}
	return m.CopyTo(number, receiver)
}

// ListDeadLetters returns one page of the listing, in the order of ids, or for one reason
// in the order of sequences. A page may end before its limit if it becomes too large. It
// has at least one letter if there is one.
func (r DeadLetterReader) ListDeadLetters(f messaging.DeadLetterFilter) (page messaging.DeadLetterPage, err error) {
	for _, kind := range storage.LetterKinds() {
		if f.Kind == "" || f.Kind == kind {
			n, err := r.Store.LetterCount(kind)
			if err != nil {
				return page, err
			}
			page.Total += int(n) //nolint:gosec // a count of what is on disk
		}
	}
	l := letterLister{letterReader: letterReader{store: r.Store}, page: &page, limit: f.Limit}
	if f.Reason != "" {
		return page, l.byReason(f)
	}
	return page, l.byID(f)
}

// letterLister collects one page.
type letterLister struct {
	letterReader

	page           *messaging.DeadLetterPage
	limit          int
	bytes, scanned int
}

// full reports whether the page is full. If so, it sets where the next page continues.
func (l *letterLister) full(next string) bool {
	if len(l.page.DeadLetters) < l.limit && l.bytes < letterBytes && l.scanned < letterScan {
		return false
	}
	l.page.Next = next
	return true
}

func (l *letterLister) add(k storage.LetterKey) error {
	l.scanned++
	d, ok, err := l.read(k)
	if ok {
		l.page.DeadLetters = append(l.page.DeadLetters, d)
		l.bytes += len(d.Message.Body) + len(d.Reason) + messaging.JSONOverhead
	}
	return err
}

// idsAtOnce is how many ids are read before their letters, so that the iterator over ids
// is not open while letters are read.
const idsAtOnce = 128

// byID lists in the order of ids.
func (l *letterLister) byID(f messaging.DeadLetterFilter) error {
	after := storage.LetterID{Kind: f.Kind}
	if f.After != "" {
		id, ok := parseLetterID(f.After)
		if !ok {
			return nil
		}
		after = id
	}
	if f.Kind == messaging.Undeliverable && after.Kind == messaging.Refused {
		after = storage.LetterID{Kind: f.Kind}
	}
	for {
		ids, keys, err := l.ids(after, f.Kind)
		if err != nil || len(ids) == 0 {
			return err
		}
		for i, id := range ids {
			if l.full(after.String()) {
				return nil
			}
			if err := l.add(keys[i]); err != nil {
				return err
			}
			after = id
		}
	}
}

func (l *letterLister) ids(after storage.LetterID, kind messaging.DeadLetterKind) (ids []storage.LetterID, keys []storage.LetterKey, err error) {
	err = l.store.LetterIDs(after, func(id storage.LetterID, k storage.LetterKey) bool {
		if kind != "" && id.Kind != kind {
			return false
		}
		ids, keys = append(ids, id), append(keys, k)
		return len(ids) < min(l.limit+1, idsAtOnce)
	})
	return ids, keys, err
}

// byReason lists the letters of one reason in the order of their sequences. The cursor of
// the next page has the form of an id, with the sequence and the hash of the reason in
// place of the message's id.
func (l *letterLister) byReason(f messaging.DeadLetterFilter) error {
	reason := storage.ReasonHash(f.Reason)
	after, _ := parseLetterID(f.After)
	next, err := l.cursorAfter(after, reason)
	if err != nil {
		return err
	}
	for _, kind := range storage.LetterKinds() {
		from := uint64(0)
		switch {
		case f.Kind != "" && kind != f.Kind:
			continue
		case f.After != "" && kind == after.Kind:
			from = next
		case f.After != "" && kind == messaging.Refused:
			continue // the cursor is after all letters of this kind
		}
		for {
			k, ok, err := l.store.NextLetterWithReason(kind, reason, from)
			if err != nil {
				return err
			}
			if !ok {
				break
			}
			if l.full(reasonCursor(kind, reason, from)) {
				return nil
			}
			if err := l.add(k); err != nil {
				return err
			}
			from = k.Sequence + 1
		}
	}
	return nil
}

// cursorAfter returns the sequence at which a listing by reason continues. after is a
// cursor, or the id of a letter, as jobs of format 1 have stored. If that letter was
// removed, the listing begins again.
func (l *letterLister) cursorAfter(after storage.LetterID, reason uint64) (next uint64, err error) {
	if binary.BigEndian.Uint64(after.Message[8:]) == reason {
		return binary.BigEndian.Uint64(after.Message[:]) + 1, nil
	}
	k, ok, err := l.store.LetterByID(after)
	if err != nil || !ok || k.Reason != reason {
		return 0, err
	}
	return k.Sequence + 1, nil
}

// reasonCursor returns the cursor before a sequence.
func reasonCursor(kind messaging.DeadLetterKind, reason, from uint64) string {
	var id messaging.MessageID
	binary.BigEndian.PutUint64(id[:], max(from, 1)-1)
	binary.BigEndian.PutUint64(id[8:], reason)
	return messaging.DeadLetterID(kind, id)
}

// DeadRecipients returns up to limit recipients of a dead letter after a user, in the
// order of their keys.
func (r DeadLetterReader) DeadRecipients(letter *messaging.DeadLetter, after messaging.UserID, limit int) (recipients []messaging.DeadRecipient, err error) {
	l := letterReader{store: r.Store}
	k := storage.LetterKey{Kind: letter.Kind, Sequence: letter.Message.Position.Sequence, Reason: storage.ReasonHash(letter.Reason)}
	if ok, err := l.load(k.Message()); err != nil || !ok {
		return nil, err
	}
	err = l.store.LetterRecipients(k, after, func(user messaging.UserID, r storage.LetterRecipient) bool {
		recipients = append(recipients, messaging.DeadRecipient{
			Kind: letter.Kind, Reason: letter.Reason,
			Message: messageFor(&l.message, messaging.Receiver{User: user, Quoted: r.Quoted}, r.Number),
		})
		return len(recipients) < limit
	})
	return recipients, err
}

// undeliverableIn returns the sequences in [from, to) with an undeliverable dead letter. A
// redrive would put such a message back into its queue, which needs its record. It reads
// the store instead of a snapshot, as the trimmer reads the queues: a commit that is
// applied and not published yet has already moved the message.
func (d *DeadLetters) undeliverableIn(from, to uint64) (map[uint64]bool, error) {
	return d.engine.store.LetterMessages(messaging.Undeliverable, from, to)
}
