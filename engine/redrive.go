package engine

import (
	"errors"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/storage"
	"github.com/stayafrica/messaging/wal"
)

func recipientKeyOf(r *messaging.DeadRecipient) recipientKey {
	k := storage.LetterKey{Kind: r.Kind, Sequence: r.Message.Position.Sequence, Reason: storage.ReasonHash(r.Reason)}
	return recipientKey{k, r.Message.Receiver.User}
}

// loadRecipients starts an edit of recipients of dead letters.
func (d *DeadLetters) loadRecipients(recipients []messaging.DeadRecipient) (*letterEdit, error) {
	edit := d.newEdit()
	for i := range recipients {
		k := recipientKeyOf(&recipients[i])
		if err := edit.load(k.letter, k.user); err != nil {
			return nil, err
		}
	}
	return edit, nil
}

// inChanges splits a list into changes of bounded size.
func inChanges[T any](list []T, limit int, do func(part []T, last bool) error) error {
	for {
		n := min(len(list), limit)
		last := n == len(list)
		if err := do(list[:n], last); err != nil || last {
			return err
		}
		list = list[n:]
	}
}

// ClaimDeadLetters marks recipients as being redriven by a job, durably, and returns the
// outcome for each. A job that already has a recipient gets it again, unless it was
// refused in this job.
func (d *DeadLetters) ClaimDeadLetters(job string, recipients []messaging.DeadRecipient) (claims []messaging.Claim, err error) {
	d.changing.lock()
	defer d.changing.unlock()
	err = inChanges(recipients, maxLetterChange, func(part []messaging.DeadRecipient, _ bool) error {
		edit, err := d.loadRecipients(part)
		if err != nil {
			return err
		}
		for i := range part {
			claims = append(claims, d.claim(edit, recipientKeyOf(&part[i]), job))
		}
		return d.engine.log.CommitUnbounded(&letterChange{store: d, edit: edit})
	})
	return claims, err
}

func (d *DeadLetters) claim(edit *letterEdit, k recipientKey, job string) messaging.Claim {
	r := edit.recipients[k]
	switch {
	case r.now == nil:
		return messaging.ClaimGone
	case r.now.Job == refusedIn(job):
		return messaging.ClaimRefused
	case r.now.Job != "" && r.now.Job != job && d.runs(r.now.Job):
		return messaging.ClaimedElsewhere
	case r.now.Job != job:
		edit.setJob(k, job)
	}
	return messaging.Claimed
}

// refusedIn returns the job name stored for a recipient that was refused in a job. No
// running job has it, so it is no claim. But the job sees which recipients it has
// redriven, in whichever letter they are now.
func refusedIn(job string) string { return "-" + job }

// FinishRedrive ends claims of a job. Stored recipients leave their letters, refused ones
// move to the letter of their new reason with one more attempt, and kept ones stay
// unchanged. It skips recipients that the job no longer has.
func (d *DeadLetters) FinishRedrive(
	job string, stored []messaging.DeadRecipient, refused []messaging.DeadRefusal, kept []messaging.DeadRecipient, p messaging.Progress,
) error {
	d.changing.lock()
	defer d.changing.unlock()
	edit, err := d.loadRecipients(append(append([]messaging.DeadRecipient(nil), stored...), kept...))
	if err != nil {
		return err
	}
	for i := range refused {
		r := &refused[i].Recipient
		k := recipientKeyOf(r)
		again := k.letter
		again.Reason = storage.ReasonHash(refused[i].Reason)
		if err := errors.Join(edit.load(k.letter, k.user), edit.loadAddition(again, &r.Message)); err != nil {
			return err
		}
	}
	holds := func(k recipientKey) bool { r := edit.recipients[k]; return r.now != nil && r.now.Job == job }
	c := &letterChange{store: d, edit: edit}
	if err := c.setProgress(p); err != nil {
		return err
	}
	c.stage = func(*wal.Tx) {
		for i := range stored {
			if k := recipientKeyOf(&stored[i]); holds(k) {
				edit.remove(k)
			}
		}
		for i := range refused {
			if k := recipientKeyOf(&refused[i].Recipient); holds(k) {
				edit.moveTo(k, &refused[i])
				k.letter.Reason = storage.ReasonHash(refused[i].Reason)
				edit.setJob(k, refusedIn(job))
			}
		}
		for i := range kept {
			if k := recipientKeyOf(&kept[i]); holds(k) {
				edit.setJob(k, "")
			}
		}
	}
	return d.engine.log.CommitUnbounded(c)
}

// setJob sets the job that has a recipient.
func (e *letterEdit) setJob(k recipientKey, job string) {
	r := e.recipients[k]
	changed := *r.now
	changed.Job = job
	r.now, r.changed = &changed, true
}

// maxRequeues is how many messages one change requeues. Each may need two point reads.
const maxRequeues = 64

// RequeueDeadLetters puts undeliverable messages back into their queues, at their
// sequences, with a delivery count of 0. Each leaves its letter and is enqueued in one
// commit. The progress is in the last commit.
func (d *DeadLetters) RequeueDeadLetters(recipients []messaging.DeadRecipient, p messaging.Progress) (results []messaging.RequeueResult, err error) {
	err = inChanges(recipients, maxRequeues, func(part []messaging.DeadRecipient, last bool) error {
		c := &requeueChange{letterChange: letterChange{store: d}, recipients: part}
		if last {
			if err := c.setProgress(p); err != nil {
				return err
			}
		}
		if err := c.run(); err != nil {
			return err
		}
		results = append(results, c.results...)
		return nil
	})
	return results, err
}

// requeueChange moves messages from their dead letters to their queues.
type requeueChange struct {
	letterChange

	recipients []messaging.DeadRecipient
	queues     []*queue // pinned
	results    []messaging.RequeueResult
	reentries  []uint64 // registered with the trimmer
}

// goneFromLog is the refusal of a message whose record was trimmed.
const goneFromLog = "the log does not have it any more (MESSAGE_RETENTION_DAYS, or a full disk): send it again, or delete it"

func (c *requeueChange) run() (err error) {
	d, e := c.store, c.store.engine
	users := make([]messaging.UserID, len(c.recipients))
	for i := range c.recipients {
		users[i] = c.recipients[i].Message.Receiver.User
	}
	if c.queues, err = e.queues.pinAll(users, false); err != nil {
		return internal(err)
	}
	defer e.queues.unpinAll(c.queues)
	if err := e.awaitClears(c.queues); err != nil { // before changing is locked: no other change waits for it
		return internal(err)
	}
	d.changing.lock()
	defer d.changing.unlock()
	if c.edit, err = d.loadRecipients(c.recipients); err != nil {
		return internal(err)
	}
	c.results = make([]messaging.RequeueResult, len(c.recipients))
	defer c.endReentries()
	if err := c.readRecords(); err != nil {
		return err
	}
	c.stage = func(tx *wal.Tx) { err = c.stageAll(tx) }
	if commitErr := e.log.CommitUnbounded(c); commitErr != nil {
		return commitErr
	}
	return internal(err)
}

// readRecords finds the messages whose records the log still has. Each is registered with
// the trimmer before its read, so that Stage sees whether it was trimmed since.
func (c *requeueChange) readRecords() error {
	e := c.store.engine
	for i := range c.recipients {
		seq := c.recipients[i].Message.Position.Sequence
		e.trimmer.beginReentry(seq)
		c.reentries = append(c.reentries, seq)
		record, err := e.log.Record(seq)
		if errors.Is(err, storage.ErrNotFound) || (err == nil && record.Trimmed) {
			c.results[i].Refusal = goneFromLog
		} else if err != nil {
			return internal(err)
		}
	}
	return nil
}

func (c *requeueChange) endReentries() {
	for _, seq := range c.reentries {
		c.store.engine.trimmer.endReentry(seq)
	}
}

// stageAll requeues the messages that have no refusal.
func (c *requeueChange) stageAll(tx *wal.Tx) error {
	for i := range c.recipients {
		if c.results[i] != (messaging.RequeueResult{}) {
			continue
		}
		var err error
		if c.results[i], err = c.one(tx, c.queues[i], &c.recipients[i]); err != nil {
			return err
		}
	}
	return nil
}

// one requeues a message. If another redrive or a delete removed it from its letter first,
// it is gone. A full queue refuses it.
func (c *requeueChange) one(tx *wal.Tx, q *queue, r *messaging.DeadRecipient) (messaging.RequeueResult, error) {
	e, m, k := c.store.engine, &r.Message, recipientKeyOf(r)
	now := e.now()
	switch at := c.edit.recipients[k]; {
	case at.now == nil || r.Kind != messaging.Undeliverable:
		return messaging.RequeueResult{Gone: true}, nil
	case !m.ExpiresAt.IsZero() && !m.ExpiresAt.After(now):
		return messaging.RequeueResult{Refusal: "it has expired (expires_at): it is no longer delivered"}, nil
	case !e.trimmer.mayReenterLocked(tx, m.Position.Sequence):
		return messaging.RequeueResult{Refusal: goneFromLog}, nil
	}
	entry := entryOf(m, now)
	entry.Due, entry.Quoted = 0, m.Copy && m.Receiver.Quoted
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.markedLocked(m.Position.Sequence) { // an entry there would count as cleared
		return messaging.RequeueResult{Refusal: "its queue is being cleared: redrive again when that is done"}, nil
	}
	index, before, queued, err := q.lookupLocked(e.store.Reader, tx.Commit-1, m.Priority, m.Position.Sequence)
	if err != nil {
		return messaging.RequeueResult{}, err
	}
	switch exhausted := e.config.MaxDeliveries > 0 && before.Deliveries >= e.config.MaxDeliveries; {
	case !queued && q.state.Total() >= e.config.QueueMax:
		return messaging.RequeueResult{Refusal: "its queue is full (MESSAGE_QUEUE_MAX_SIZE): take from it, or clear it, and redrive again"}, nil
	case !queued:
		e.enqueueLocked(tx, q, m.Priority, m.Position.Sequence, entry, false)
	case exhausted && q.claimed[m.Position.Sequence] == nil: // in format 1 a crash could leave both
		e.moveLocked(tx, q, index, m.Priority, m.Position.Sequence, before, entry)
	}
	c.edit.remove(k)
	return messaging.RequeueResult{}, nil
}
