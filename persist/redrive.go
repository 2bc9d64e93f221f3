package persist

import (
	"context"
	"slices"
	"time"

	"github.com/stayafrica/messaging"
)

// Redrive starts a job that redrives dead letters: refused messages go to the backend,
// undeliverable ones to their queues. Messages keep their ids and sequences.
func (j *Jobs) Redrive(request messaging.RedriveRequest) (messaging.Job, error) {
	r := record{Redrive: &request, Claims: true, ByID: len(request.IDs) > 0}
	r.Kind = messaging.Redrive
	refused, err := j.countLetters(&r)
	if err != nil {
		return messaging.Job{}, err
	}
	if refused && j.config.Sink == nil {
		return messaging.Job{}, messaging.Errorf(messaging.CodeInvalidField,
			"there is no backend to redrive refused messages to: DJANGO_API_URL is off; nothing was redriven")
	}
	return j.start(r)
}

// countLetters finds the dead letters that a request selects. It sets their number in
// the record and reports whether refused ones are among them. From then on, letters
// that were named by id are known by their keys.
func (j *Jobs) countLetters(r *record) (refused bool, err error) {
	q := r.Redrive
	if r.ByID {
		for _, id := range q.IDs {
			k, ok, err := j.letterKey(id)
			if err != nil {
				return false, err
			}
			if !ok {
				return false, messaging.FieldErrorf(messaging.CodeNotFound, "ids", "there is no dead letter %s: nothing was redriven", id)
			}
			refused = refused || k.Kind == messaging.Refused
			r.Named = append(r.Named, k)
		}
		q.IDs, r.Named = nil, distinct(r.Named)
		r.Total = uint64(len(r.Named))
		return refused, nil
	}
	filter := messaging.DeadLetterFilter{Limit: letterPage, Kind: q.Kind, Reason: q.Reason}
	for {
		page, err := j.config.DeadLetters.ListDeadLetters(filter)
		if err != nil {
			return false, err
		}
		r.Total += uint64(len(page.DeadLetters))
		refused = refused || slices.ContainsFunc(page.DeadLetters, func(d messaging.DeadLetter) bool { return d.Kind == messaging.Refused })
		if page.Next == "" {
			return refused, nil
		}
		filter.After = page.Next
	}
}

// letterKey returns the key of the letter that currently has an id.
func (j *Jobs) letterKey(id string) (messaging.DeadLetterKey, bool, error) {
	d, ok, err := j.config.DeadLetters.FindDeadLetter(id)
	return d.Key(), ok, err
}

// distinct removes repeated keys and keeps the order.
func distinct(keys []messaging.DeadLetterKey) (list []messaging.DeadLetterKey) {
	seen := make(map[messaging.DeadLetterKey]bool, len(keys))
	for _, k := range keys {
		if !seen[k] {
			seen[k] = true
			list = append(list, k)
		}
	}
	return list
}

// letterPage is how many dead letters are read at a time.
const letterPage = 200

// redriver runs one redrive. It visits the letters in the order of their keys, which do
// not change while recipients and ids move from letter to letter, and gathers their
// recipients into batches. A batch is finished before the next one is gathered, in one
// commit with the job's record. So a crash repeats at most one batch.
type redriver struct {
	*Jobs

	job *job
	// batch holds the gathered messages, all of one kind.
	batch []redriven
	bytes int
}

// redriven is the message of one recipient in a batch.
type redriven struct {
	messaging.DeadRecipient

	letter  messaging.DeadLetterKey
	last    bool   // the last recipient of its letter
	settled bool   // it was stored or refused
	failure string // why it remains a dead letter; "" if it does not
}

func (j *Jobs) redrive(ctx context.Context, x *job) error {
	r := &redriver{Jobs: j, job: x}
	if err := r.upgrade(); err != nil {
		return err
	}
	walk := r.scan
	if x.record.ByID {
		walk = r.scanNamed
	}
	if err := walk(ctx); err != nil {
		return err
	}
	if err := r.flush(ctx); err != nil {
		return err
	}
	// A letter that no longer exists was handled by another caller, and counts as done.
	r.update(x, func(rec *record) { rec.Done = rec.Total })
	return nil
}

// upgrade finds the letters of a job that an older version started, which named them by
// id. An id that no longer exists is done.
func (r *redriver) upgrade() error {
	rec := &r.job.record
	if rec.ByID || len(rec.Redrive.IDs) == 0 {
		return nil
	}
	var keys []messaging.DeadLetterKey
	for _, id := range rec.Redrive.IDs[min(rec.Done, uint64(len(rec.Redrive.IDs))):] {
		k, ok, err := r.letterKey(id)
		if err != nil {
			return err
		}
		if ok {
			keys = append(keys, k)
		}
	}
	r.update(r.job, func(rec *record) { rec.ByID, rec.Named = true, distinct(keys) })
	return nil
}

// scan visits the letters that a filter selects, from the record's cursor on.
func (r *redriver) scan(ctx context.Context) error {
	rec := &r.job.record
	if rec.Cursor.After != "" {
		if err := r.redriveLetter(ctx, rec.Cursor.Letter); err != nil {
			return err
		}
	}
	scan := messaging.DeadLetterScan{Limit: letterPage, Kind: rec.Redrive.Kind, Reason: rec.Redrive.Reason, After: rec.Cursor.Letter}
	for {
		page, err := r.config.DeadLetters.NextDeadLetters(scan)
		if err != nil || len(page) == 0 {
			return err
		}
		for i := range page {
			if err := r.gatherRecipients(ctx, &page[i], ""); err != nil {
				return err
			}
			scan.After = page[i].Key()
		}
	}
}

// scanNamed visits the named letters that are left.
func (r *redriver) scanNamed(ctx context.Context) error {
	for _, k := range r.job.record.Named {
		if err := r.redriveLetter(ctx, k); err != nil {
			return err
		}
	}
	return nil
}

// redriveLetter redrives the remaining recipients of one letter.
func (r *redriver) redriveLetter(ctx context.Context, k messaging.DeadLetterKey) error {
	var after messaging.UserID
	if cursor := r.job.record.Cursor; cursor.Letter == k {
		after = cursor.After
	}
	d, ok, err := r.config.DeadLetters.DeadLetterAt(k)
	if err != nil {
		return err
	}
	if !ok {
		return r.finishEmpty(ctx, k) // the letter is gone and counts as done
	}
	return r.gatherRecipients(ctx, &d, after)
}

// failedSince reports whether a letter failed after the job was started, possibly by
// this job. The job does not redrive such a letter. A time in the future, from a clock
// that ran ahead, does not count.
func (r *redriver) failedSince(d *messaging.DeadLetter) bool {
	return d.FailedAt.After(r.job.record.CreatedAt) && !d.FailedAt.After(time.Now())
}

// gatherRecipients gathers the recipients of a dead letter after a user.
func (r *redriver) gatherRecipients(ctx context.Context, d *messaging.DeadLetter, after messaging.UserID) error {
	key := d.Key()
	if after == "" && r.failedSince(d) {
		return r.finishEmpty(ctx, key)
	}
	for ctx.Err() == nil {
		recipients, err := r.config.DeadLetters.DeadRecipients(d, after, r.config.BatchSize)
		if err != nil {
			return err
		}
		more := len(recipients) == r.config.BatchSize
		for i := range recipients {
			if err := r.gather(ctx, redriven{DeadRecipient: recipients[i], letter: key, last: !more && i == len(recipients)-1}); err != nil {
				return err
			}
			after = recipients[i].Message.Receiver.User
		}
		if !more {
			if len(recipients) == 0 {
				return r.finishEmpty(ctx, key)
			}
			return nil
		}
	}
	return ctx.Err()
}

// finishEmpty finishes a letter that has no recipients left.
func (r *redriver) finishEmpty(ctx context.Context, letter messaging.DeadLetterKey) error {
	if n := len(r.batch); n > 0 && r.batch[n-1].letter == letter {
		r.batch[n-1].last = true
		return nil
	}
	if err := r.flush(ctx); err != nil {
		return err
	}
	r.update(r.job, func(rec *record) { rec.advanceLetter(letter) })
	return nil
}

// gather adds a recipient to the batch. If it does not fit, gather flushes the batch
// first.
func (r *redriver) gather(ctx context.Context, x redriven) error {
	size := len(x.Message.Body) + messaging.JSONOverhead
	if n := len(r.batch); n > 0 && (n >= r.config.BatchSize || r.bytes+size > r.config.BatchBytes || r.batch[0].Kind != x.Kind) {
		if err := r.flush(ctx); err != nil {
			return err
		}
	}
	r.batch = append(r.batch, x)
	r.bytes += size
	return nil
}

// flush redrives the batch: undeliverable messages go to their queues, refused ones to
// the backend.
func (r *redriver) flush(ctx context.Context) error {
	batch := r.batch
	r.batch, r.bytes = nil, 0
	switch {
	case len(batch) == 0:
		return ctx.Err()
	case batch[0].Kind == messaging.Undeliverable:
		return r.requeue(ctx, batch)
	case r.config.Sink == nil:
		return r.waitForBackend(ctx, r.job)
	}
	return r.deliver(ctx, batch)
}

// advanceLetter records that all recipients of a letter are done.
func (rec *record) advanceLetter(letter messaging.DeadLetterKey) {
	rec.Done = min(rec.Total, rec.Done+1)
	rec.Cursor.Letter, rec.Cursor.After = letter, ""
	if rec.ByID {
		rec.Named = rec.Named[1:]
	}
}

// advance records that a batch is done.
func (rec *record) advance(batch []redriven) {
	for i := range batch {
		if x := &batch[i]; x.last {
			rec.advanceLetter(x.letter)
		} else {
			rec.Cursor.Letter, rec.Cursor.After = x.letter, x.Message.Receiver.User
		}
	}
}
