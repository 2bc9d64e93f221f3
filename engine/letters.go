package engine

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/storage"
	"github.com/stayafrica/messaging/wal"
)

// DeadLetters is the store of dead letters, jobs and the drain's position: everything that
// the drain, a redrive or a replay changes. Every change of it is a [wal.Change], in the
// same commit as its cause. Its methods are safe for concurrent use.
type DeadLetters struct {
	engine *Engine
	// changing is held by a change of dead letters until the change is durable. There is
	// one at a time, so Stage reads nothing.
	changing waitLock
	counts   [2]atomic.Int64 // in the order of [storage.LetterKinds]

	mu      sync.Mutex
	running map[string]bool // the jobs that may claim dead letters
}

// waitLock is a lock that is held until a commit is durable. It is a channel, so that a
// testing/synctest bubble counts its waiters as durably blocked.
type waitLock chan struct{}

func newWaitLock() waitLock { return make(waitLock, 1) }

func (l waitLock) lock()   { l <- struct{}{} }
func (l waitLock) unlock() { <-l }

// DeadLetters returns the store of dead letters.
func (e *Engine) DeadLetters() *DeadLetters { return e.letters }

// openLetters loads the in-memory state of the store of dead letters.
func (e *Engine) openLetters() error {
	d := &DeadLetters{engine: e, changing: newWaitLock(), running: make(map[string]bool)}
	for i, kind := range storage.LetterKinds() {
		n, err := e.store.LetterCount(kind)
		if err != nil {
			return err
		}
		d.counts[i].Store(int64(n)) //nolint:gosec // a count of what is on disk
	}
	jobs, err := e.store.Jobs()
	if err != nil {
		return err
	}
	for id := range jobs {
		if !jobs[id].Ended {
			d.running[id] = true
		}
	}
	e.letters = d
	return nil
}

// Count returns the number of dead letters of a kind.
func (d *DeadLetters) Count(kind messaging.DeadLetterKind) uint64 {
	return uint64(max(0, d.counts[slices.Index(storage.LetterKinds(), kind)].Load()))
}

// letterChange changes dead letters, together with the progress that caused it.
type letterChange struct {
	store *DeadLetters
	edit  *letterEdit
	// stage changes the edit and whatever else belongs to the change. It may be nil.
	stage     func(tx *wal.Tx)
	progress  messaging.Progress
	trimmed   uint64 // [wal.Log.TrimmedFrom] of the progress's position
	onDurable func() // may be nil
}

// Records implements [wal.Change]. It returns none.
func (c *letterChange) Records() []wal.Record { return nil }

// Stage implements [wal.Change].
func (c *letterChange) Stage(tx *wal.Tx) {
	if c.stage != nil {
		c.stage(tx)
	}
	if c.edit != nil {
		c.edit.write(tx)
		for i, kind := range storage.LetterKinds() {
			if n := c.edit.counts[kind]; n != 0 {
				tx.PutLetterCount(kind, uint64(max(0, c.store.counts[i].Load()+n)))
			}
		}
	}
	c.putProgress(tx)
}

func (c *letterChange) putProgress(tx *wal.Tx) {
	p := &c.progress
	if p.Position != nil {
		tx.PutPosition(*p.Position, c.trimmed)
	}
	if p.Job != "" {
		tx.PutJob(p.Job, storage.JobRecord{Ended: p.Ended, Record: p.Record})
	}
}

// setProgress adds progress to the change. It may move the drain's position. Only the
// drain moves it, one change at a time.
func (c *letterChange) setProgress(p messaging.Progress) (err error) {
	c.progress = p
	if p.Position != nil {
		c.trimmed, err = c.store.engine.log.TrimmedFrom(p.Position.Sequence)
	}
	return err
}

// OnDurable implements [wal.Change].
func (c *letterChange) OnDurable() {
	if c.edit != nil {
		for i, kind := range storage.LetterKinds() {
			c.store.counts[i].Add(c.edit.counts[kind])
		}
	}
	c.store.noteJob(c.progress)
	if c.onDurable != nil {
		c.onDurable()
	}
}

func (d *DeadLetters) noteJob(p messaging.Progress) {
	if p.Job == "" {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if p.Ended {
		delete(d.running, p.Job)
	} else {
		d.running[p.Job] = true
	}
}

func (d *DeadLetters) runs(job string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.running[job]
}

// FindDeadLetter returns one dead letter; ok is false if there is none.
func (d *DeadLetters) FindDeadLetter(id string) (letter messaging.DeadLetter, ok bool, err error) {
	snapshot := d.engine.log.Snapshot()
	defer snapshot.Release()
	return DeadLetterReader{snapshot.Reader}.FindDeadLetter(id)
}

// ListDeadLetters returns one page of the listing, in the order of ids, or for one reason
// in the order of sequences. A page may end before its limit if it becomes too large. It
// has at least one letter if there is one.
func (d *DeadLetters) ListDeadLetters(f messaging.DeadLetterFilter) (messaging.DeadLetterPage, error) {
	snapshot := d.engine.log.Snapshot()
	defer snapshot.Release()
	return DeadLetterReader{snapshot.Reader}.ListDeadLetters(f)
}

// DeadRecipients returns up to limit recipients of a dead letter after a user, in the
// order of their keys. The user need not be a recipient any more.
func (d *DeadLetters) DeadRecipients(letter *messaging.DeadLetter, after messaging.UserID, limit int) ([]messaging.DeadRecipient, error) {
	snapshot := d.engine.log.Snapshot()
	defer snapshot.Release()
	return DeadLetterReader{snapshot.Reader}.DeadRecipients(letter, after, limit)
}

// Position returns the drain's position: the lowest position in the log that is not
// settled, or zero if nothing has been drained.
func (d *DeadLetters) Position() (messaging.Position, error) { return d.engine.store.Position() }

// Jobs returns the stored jobs, by id.
func (d *DeadLetters) Jobs() (map[string][]byte, error) {
	kept, err := d.engine.store.Jobs()
	jobs := make(map[string][]byte, len(kept))
	for id := range kept {
		jobs[id] = kept[id].Record
	}
	return jobs, err
}

// SaveProgress makes progress durable. While the disk is full it accepts no new job;
// running jobs continue.
func (d *DeadLetters) SaveProgress(p messaging.Progress) error {
	if p.Job != "" && !p.Ended && !d.runs(p.Job) {
		if err := d.engine.admit(); err != nil {
			return err
		}
	}
	c := &letterChange{store: d}
	if err := c.setProgress(p); err != nil {
		return err
	}
	return d.engine.log.CommitUnbounded(c)
}

// SavePosition makes the drain's position durable in a log without an engine.
func SavePosition(log *wal.Log, p messaging.Position) error {
	trimmed, err := log.TrimmedFrom(p.Sequence)
	if err != nil {
		return err
	}
	return log.CommitUnbounded(positionChange{p, trimmed})
}

type positionChange struct {
	position messaging.Position
	trimmed  uint64 // [wal.Log.TrimmedFrom] of the position
}

// Records implements [wal.Change]. It returns none.
func (positionChange) Records() []wal.Record { return nil }

// Stage implements [wal.Change].
func (c positionChange) Stage(tx *wal.Tx) { tx.PutPosition(c.position, c.trimmed) }

// OnDurable implements [wal.Change].
func (positionChange) OnDurable() {}

// ForgetJob removes a job. The job must have no claim on a dead letter.
func (d *DeadLetters) ForgetJob(id string) error {
	c := &letterChange{store: d, stage: func(tx *wal.Tx) { tx.DeleteJob(id) }}
	c.onDurable = func() { d.noteJob(messaging.Progress{Job: id, Ended: true}) }
	return d.engine.log.CommitUnbounded(c)
}

// Bounds of one change of dead letters.
const (
	letterChangeBytes = 4 << 20
	maxLetterChange   = 1000
)

// AddDeadLetters makes dead letters durable, and the progress in the same commit as the
// last of them. A message that is a dead letter already stays unchanged. If the disk is so
// full that only operations that free space may write, it returns
// [messaging.CodeDiskFull].
func (d *DeadLetters) AddDeadLetters(letters []messaging.DeadLetter, p messaging.Progress) error {
	if err := d.engine.admitLetters(); err != nil {
		return err
	}
	d.changing.lock()
	defer d.changing.unlock()
	for {
		n, bytes := 0, 0
		for n < len(letters) && n < maxLetterChange && (n == 0 || bytes+len(letters[n].Message.Body) <= letterChangeBytes) {
			bytes += len(letters[n].Message.Body) + messaging.JSONOverhead
			n++
		}
		last := n == len(letters)
		c := &letterChange{store: d, edit: d.newEdit()}
		if last {
			if err := c.setProgress(p); err != nil {
				return err
			}
		}
		if err := c.addAll(letters[:n]); err != nil || last {
			return err
		}
		letters = letters[n:]
	}
}

func (c *letterChange) addAll(letters []messaging.DeadLetter) error {
	failures := make([]failure, len(letters))
	for i := range letters {
		failures[i] = failureOf(&letters[i])
		if err := c.edit.loadAddition(failures[i].key(), failures[i].message); err != nil {
			return err
		}
	}
	c.stage = func(*wal.Tx) {
		for i := range failures {
			c.edit.add(failures[i])
		}
	}
	return c.store.engine.log.CommitUnbounded(c)
}

// DropDeadLetter removes a dead letter; ok is false if there is none.
func (d *DeadLetters) DropDeadLetter(id string) (ok bool, err error) {
	letterID, ok := parseLetterID(id)
	if !ok {
		return false, nil
	}
	d.changing.lock()
	defer d.changing.unlock()
	k, ok, err := d.engine.store.LetterByID(letterID)
	if err != nil || !ok {
		return false, err
	}
	return true, d.dropLocked([]storage.LetterKey{k})
}

// dropLocked removes dead letters in one change.
func (d *DeadLetters) dropLocked(keys []storage.LetterKey) error {
	c := &letterChange{store: d, edit: d.newEdit()}
	for _, k := range keys {
		if err := c.edit.loadMessage(k.Message()); err != nil {
			return err
		}
	}
	c.stage = func(*wal.Tx) {
		for _, k := range keys {
			if c.edit.letters[k] != nil {
				c.edit.drop(k)
			}
		}
	}
	return d.engine.log.CommitUnbounded(c)
}

// expireDeadLetters removes the dead letters whose last failure is before a time, and
// returns their number.
func (d *DeadLetters) expireDeadLetters(before time.Time) (n int, err error) {
	for after := (storage.LetterID{}); ; {
		var old []storage.LetterKey
		scanned := 0
		if err := d.engine.store.LetterIDs(after, func(id storage.LetterID, k storage.LetterKey) bool {
			old = append(old, k)
			after = id
			scanned++
			return scanned < expirePage
		}); err != nil {
			return n, err
		}
		dropped, err := d.dropOld(old, before)
		n += dropped
		if err != nil || scanned < expirePage {
			return n, err
		}
	}
}

// expirePage is how many dead letters are checked for one change.
const expirePage = 256

// dropOld removes the letters among keys whose last failure is before a time.
func (d *DeadLetters) dropOld(keys []storage.LetterKey, before time.Time) (int, error) {
	d.changing.lock()
	defer d.changing.unlock()
	old := keys[:0]
	for _, k := range keys {
		l, ok, err := d.engine.store.Letter(k)
		if err != nil {
			return 0, err
		}
		if ok && l.LastFailedAt.Before(before) {
			old = append(old, k)
		}
	}
	if len(old) == 0 {
		return 0, nil
	}
	return len(old), d.dropLocked(old)
}
