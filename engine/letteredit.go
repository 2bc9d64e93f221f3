package engine

import (
	"time"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/storage"
	"github.com/stayafrica/messaging/wal"
)

// letterEdit is a change of dead letters in progress. The load methods read what it needs
// from the store before its commit. The methods that change it read nothing, so a change
// may call them in Stage. write adds the result to the commit.
//
// [DeadLetters.changing] is held from the first load until the commit is durable, so what
// was read is still true in Stage.
type letterEdit struct {
	store      storage.Reader
	letters    map[storage.LetterKey]*editedLetter
	recipients map[recipientKey]*editedRecipient
	messages   map[storage.LetterMessageKey]*editedMessage
	// ids maps each id that was looked up or assigned to its letter. The zero key means
	// that no letter has it.
	ids map[storage.LetterID]storage.LetterKey
	// The same values in load order, which is the order of the writes.
	letterOrder    []*editedLetter
	recipientOrder []*editedRecipient
	messageOrder   []*editedMessage
	counts         map[messaging.DeadLetterKind]int64 // the change of the number of letters
	runs           func(job string) bool
}

type recipientKey struct {
	letter storage.LetterKey
	user   messaging.UserID
}

// editedLetter is a dead letter. A letter without recipients does not exist.
type editedLetter struct {
	key     storage.LetterKey
	before  storage.Letter
	now     storage.Letter
	changed bool
	emptied bool // all recipients are removed at once, by a range delete
	// others are recipients whose ids the letter can take if another letter needs its id.
	others []namesake
}

// namesake is a recipient with the id of its message.
type namesake struct {
	receiver messaging.Receiver
	number   uint32
	id       messaging.MessageID
}

type editedRecipient struct {
	key     recipientKey
	existed bool
	now     *storage.LetterRecipient // nil if there is none
	changed bool
}

// editedMessage is a message with the dead letters that refer to it.
type editedMessage struct {
	key     storage.LetterMessageKey
	existed bool
	letters []storage.LetterKey
	message *messaging.Message
}

// count returns how many of its letters have a recipient.
func (m *editedMessage) count(e *letterEdit) (n int) {
	for _, k := range m.letters {
		if e.letters[k].now.Recipients > 0 {
			n++
		}
	}
	return n
}

func (d *DeadLetters) newEdit() *letterEdit {
	return &letterEdit{
		store: d.engine.store.Reader, runs: d.runs, letters: make(map[storage.LetterKey]*editedLetter), recipients: make(map[recipientKey]*editedRecipient),
		messages: make(map[storage.LetterMessageKey]*editedMessage), ids: make(map[storage.LetterID]storage.LetterKey),
		counts: make(map[messaging.DeadLetterKind]int64),
	}
}

// load reads what is needed to change one recipient of a dead letter.
func (e *letterEdit) load(k storage.LetterKey, user messaging.UserID) error {
	if err := e.loadMessage(k.Message()); err != nil {
		return err
	}
	if err := e.loadLetter(k); err != nil {
		return err
	}
	return e.loadRecipient(recipientKey{k, user})
}

// loadAddition reads what is needed to add a message to a dead letter, including the
// message's other letters and the letter that has its id.
func (e *letterEdit) loadAddition(k storage.LetterKey, m *messaging.Message) error {
	if err := e.load(k, m.Receiver.User); err != nil {
		return err
	}
	for _, other := range e.messages[k.Message()].letters {
		if err := e.loadRecipient(recipientKey{other, m.Receiver.User}); err != nil {
			return err
		}
	}
	holder, err := e.loadID(storage.LetterID{Kind: k.Kind, Message: m.ID})
	if err != nil || holder == k || holder == (storage.LetterKey{}) {
		return err
	}
	return e.loadOthers(holder, m)
}

func (e *letterEdit) loadMessage(k storage.LetterMessageKey) error {
	if e.messages[k] != nil {
		return nil
	}
	letters, err := e.store.LettersOf(k)
	if err != nil {
		return err
	}
	m := &editedMessage{key: k, existed: len(letters) > 0}
	e.messages[k], e.messageOrder = m, append(e.messageOrder, m)
	for _, letter := range letters {
		if err := e.loadLetter(letter); err != nil {
			return err
		}
	}
	return nil
}

// loadLetter reads a letter whose message is loaded.
func (e *letterEdit) loadLetter(k storage.LetterKey) error {
	if e.letters[k] != nil {
		return nil
	}
	l, _, err := e.store.Letter(k)
	if err != nil {
		return err
	}
	x := &editedLetter{key: k, before: l, now: l}
	e.letters[k], e.letterOrder = x, append(e.letterOrder, x)
	m := e.messages[k.Message()]
	m.letters = append(m.letters, k)
	return nil
}

func (e *letterEdit) loadRecipient(k recipientKey) error {
	if e.recipients[k] != nil {
		return nil
	}
	r, ok, err := e.store.LetterRecipient(k.letter, k.user)
	if err != nil {
		return err
	}
	x := &editedRecipient{key: k, existed: ok}
	if ok {
		x.now = &r
	}
	e.recipients[k], e.recipientOrder = x, append(e.recipientOrder, x)
	return nil
}

func (e *letterEdit) loadID(id storage.LetterID) (storage.LetterKey, error) {
	if holder, loaded := e.ids[id]; loaded {
		return holder, nil
	}
	holder, _, err := e.store.LetterByID(id)
	if err == nil {
		e.ids[id] = holder
	}
	return holder, err
}

// maxOthers is how many recipients are considered for a new id of a letter.
const maxOthers = 16

// loadOthers loads other ids for the letter that has the id of m. Its message is a copy of
// the same broadcast.
func (e *letterEdit) loadOthers(k storage.LetterKey, m *messaging.Message) error {
	if err := e.loadMessage(k.Message()); err != nil {
		return err
	}
	x := e.letters[k]
	if x == nil || x.others != nil {
		return nil
	}
	x.others = make([]namesake, 0, maxOthers)
	err := e.store.LetterRecipients(k, "", func(user messaging.UserID, r storage.LetterRecipient) bool {
		if user != m.Receiver.User {
			x.others = append(x.others, namesake{messaging.Receiver{User: user, Quoted: r.Quoted}, r.Number, messaging.CopyID(m.Origin, user)})
		}
		return len(x.others) < maxOthers
	})
	for _, o := range x.others {
		if _, idErr := e.loadID(storage.LetterID{Kind: k.Kind, Message: o.id}); idErr != nil {
			return idErr
		}
	}
	return err
}

// failure is a message that becomes a dead letter, or fails again.
type failure struct {
	kind       messaging.DeadLetterKind
	reason     string
	statusCode int
	attempts   int
	at         time.Time
	message    *messaging.Message
}

func (f *failure) key() storage.LetterKey {
	return storage.LetterKey{Kind: f.kind, Sequence: f.message.Position.Sequence, Reason: storage.ReasonHash(f.reason)}
}

func failureOf(d *messaging.DeadLetter) failure {
	return failure{d.Kind, d.Reason, d.StatusCode, d.Attempts, d.FailedAt, &d.Message}
}

// add makes a message a dead letter, or adds it to the letter of its reason. A recipient
// that is already in that letter stays unchanged. One that is in the letter of another
// reason moves, unless a running job has claimed it; then the job decides.
func (e *letterEdit) add(f failure) {
	k, user := f.key(), f.message.Receiver.User
	for _, other := range e.messages[k.Message()].letters {
		r := e.recipients[recipientKey{other, user}]
		switch {
		case r == nil || r.now == nil:
		case other == k || (r.now.Job != "" && e.runs(r.now.Job)):
			return
		default:
			e.remove(r.key)
		}
	}
	e.put(k, f)
}

func (e *letterEdit) put(k storage.LetterKey, f failure) {
	m, x := f.message, e.letters[k]
	if x.now.Recipients == 0 {
		x.now = storage.Letter{
			ID: m.ID, Named: m.Receiver, Number: m.Position.Receiver, StatusCode: f.statusCode,
			FailedAt: f.at, LastFailedAt: f.at, Reason: f.reason,
		}
		e.takeID(x)
		e.counts[k.Kind]++
	}
	x.changed = true
	x.now.Recipients++
	x.now.Attempts = max(x.now.Attempts, f.attempts)
	if f.at.After(x.now.LastFailedAt) {
		x.now.LastFailedAt = f.at
	}
	r := e.recipients[recipientKey{k, m.Receiver.User}]
	r.now = &storage.LetterRecipient{Number: m.Position.Receiver, Quoted: m.Receiver.Quoted, Attempts: uint32(f.attempts)} //nolint:gosec // not negative
	r.changed = true
	if about := e.messages[k.Message()]; about.message == nil {
		about.message = m
	}
}

// takeID gives a letter its id. A letter that already has the id takes another one,
// because the recipient with that id has left it.
func (e *letterEdit) takeID(x *editedLetter) {
	id := storage.LetterID{Kind: x.key.Kind, Message: x.now.ID}
	if holder := e.letters[e.ids[id]]; holder != nil && holder != x && holder.now.Recipients > 0 && holder.now.ID == x.now.ID {
		e.rename(holder)
	}
	e.ids[id] = x.key
}

func (e *letterEdit) rename(x *editedLetter) {
	x.changed = true
	for _, o := range x.others {
		id := storage.LetterID{Kind: x.key.Kind, Message: o.id}
		r := e.recipients[recipientKey{x.key, o.receiver.User}]
		if left := r != nil && r.now == nil; !left && e.ids[id] == (storage.LetterKey{}) {
			x.now.ID, x.now.Named, x.now.Number = o.id, o.receiver, o.number
			e.ids[id] = x.key
			return
		}
	}
	x.now.ID = storage.DerivedLetterID(x.key)
	e.ids[storage.LetterID{Kind: x.key.Kind, Message: x.now.ID}] = x.key
}

// remove removes a recipient from its letter, and the letter with its last recipient.
func (e *letterEdit) remove(k recipientKey) {
	r, x := e.recipients[k], e.letters[k.letter]
	if r.now == nil || x.now.Recipients == 0 {
		return
	}
	r.now, r.changed = nil, true
	x.changed = true
	if x.now.Recipients--; x.now.Recipients == 0 {
		e.counts[k.letter.Kind]--
	}
}

// drop removes a whole letter.
func (e *letterEdit) drop(k storage.LetterKey) {
	if x := e.letters[k]; x.now.Recipients > 0 {
		x.now.Recipients, x.changed, x.emptied = 0, true, true
		e.counts[k.Kind]--
	}
}

// moveTo moves a redriven message to the letter of its new failure, whose reason may be
// the same, with one more attempt. Recipients of one letter may come in several changes;
// each counts its own attempts.
func (e *letterEdit) moveTo(k recipientKey, refusal *messaging.DeadRefusal) {
	attempts := int(e.recipients[k].now.Attempts) + 1
	e.remove(k)
	f := failure{k.letter.Kind, refusal.Reason, refusal.StatusCode, attempts, refusal.FailedAt, &refusal.Recipient.Message}
	e.put(f.key(), f)
}

// write adds the result to a commit. Deletes come first, because an id may have moved from
// one letter to another.
func (e *letterEdit) write(tx *wal.Tx) {
	for _, x := range e.letterOrder {
		if x.changed {
			e.deleteLetter(tx, x)
		}
	}
	for _, m := range e.messageOrder {
		if n := m.count(e); n == 0 && m.existed {
			tx.DeleteLetterMessage(m.key)
		} else if n > 0 && !m.existed {
			tx.PutLetterMessage(m.key, m.message)
		}
	}
	for _, x := range e.letterOrder {
		if x.changed && x.now.Recipients > 0 {
			tx.PutLetter(x.key, &x.now)
		}
	}
	for _, r := range e.recipientOrder {
		switch {
		case !r.changed:
		case r.now != nil:
			tx.PutLetterRecipient(r.key.letter, r.key.user, r.now)
		case r.existed:
			tx.DeleteLetterRecipient(r.key.letter, r.key.user)
		}
	}
}

func (e *letterEdit) deleteLetter(tx *wal.Tx, x *editedLetter) {
	if x.before.Recipients == 0 {
		return
	}
	if x.now.Recipients == 0 {
		tx.DeleteLetter(x.key)
		if x.emptied {
			tx.DeleteLetterRecipients(x.key)
		}
	}
	if x.now.Recipients == 0 || x.now.ID != x.before.ID {
		tx.DeleteLetterID(storage.LetterID{Kind: x.key.Kind, Message: x.before.ID})
	}
}
