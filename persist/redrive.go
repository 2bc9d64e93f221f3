package persist

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/stayafrica/messaging"
)

// Redrive starts to send dead letters where they failed to go: those that the
// backend refused to the backend, those that nobody acknowledged to their
// queues. Messages keep their ids and sequences.
func (j *Jobs) Redrive(request messaging.RedriveRequest) (messaging.Job, error) {
	r := record{Redrive: &request}
	r.Kind = messaging.Redrive
	total, err := j.countLetters(&request)
	if err != nil {
		return messaging.Job{}, err
	}
	r.Total = total
	return j.start(r)
}

// countLetters says how many dead letters a request means.
func (j *Jobs) countLetters(q *messaging.RedriveRequest) (n uint64, err error) {
	if len(q.IDs) > 0 {
		for _, id := range q.IDs {
			_, ok, err := j.config.DeadLetters.FindDeadLetter(id)
			if err != nil {
				return 0, err
			}
			if !ok {
				return 0, messaging.FieldErrorf(messaging.CodeNotFound, "ids", "there is no dead letter %s: nothing was redriven", id)
			}
		}
		return uint64(len(q.IDs)), nil
	}
	filter := messaging.DeadLetterFilter{Limit: letterPage, Kind: q.Kind, Reason: q.Reason}
	for {
		page, err := j.config.DeadLetters.ListDeadLetters(filter)
		if err != nil {
			return 0, err
		}
		n += uint64(len(page.DeadLetters))
		if page.Next == "" {
			return n, nil
		}
		filter.After = page.Next
	}
}

// letterPage is how many dead letters are read at a time.
const letterPage = 200

// redriver is a redrive that runs.
type redriver struct {
	*Jobs

	job   *job
	saved time.Time
	batch []messaging.DeadCopy
	bytes int
	tries int // failures of the backend in a row
}

func (j *Jobs) redrive(ctx context.Context, x *job) error {
	r := &redriver{Jobs: j, job: x}
	if ids := x.record.Redrive.IDs; len(ids) > 0 {
		return r.named(ctx, ids)
	}
	filter := messaging.DeadLetterFilter{Limit: letterPage, Kind: x.record.Redrive.Kind, Reason: x.record.Redrive.Reason, After: x.record.Cursor}
	for {
		page, err := j.config.DeadLetters.ListDeadLetters(filter)
		if err != nil {
			return err
		}
		for i := range page.DeadLetters {
			// What failed since, perhaps by this job, is not its own.
			if d := &page.DeadLetters[i]; !r.failedSince(d) {
				if err := r.letter(ctx, d); err != nil {
					return err
				}
			}
		}
		if err := r.flush(ctx); err != nil {
			return err
		}
		if err := r.reached(len(page.DeadLetters), page.Next); err != nil || page.Next == "" {
			return err
		}
		filter.After = page.Next
	}
}

// failedSince says whether a letter failed since the job was started. What is
// dated into the future, by a clock that ran ahead, did not.
func (r *redriver) failedSince(d *messaging.DeadLetter) bool {
	return d.FailedAt.After(r.job.record.CreatedAt) && !d.FailedAt.After(time.Now())
}

// named redrives the letters that were named. It begins anew after a restart:
// those that are done are gone.
func (r *redriver) named(ctx context.Context, ids []string) error {
	for _, id := range ids {
		letter, ok, err := r.config.DeadLetters.FindDeadLetter(id)
		if err != nil {
			return err
		}
		if ok && !r.failedSince(&letter) {
			if err := r.letter(ctx, &letter); err != nil {
				return err
			}
		}
		if err := r.reached(1, ""); err != nil {
			return err
		}
	}
	return r.flush(ctx)
}

// reached notes that so many letters more were worked off.
func (r *redriver) reached(letters int, cursor string) error {
	save := time.Since(r.saved) >= progressInterval
	if save {
		r.saved = time.Now()
	}
	return r.progress(r.job, save, func(rec *record) {
		rec.Done = min(rec.Total, rec.Done+uint64(letters)) //nolint:gosec // not negative
		rec.Cursor = cursor
	})
}

// failed notes that a message stays a dead letter.
func (r *redriver) failed(why string) error {
	return r.progress(r.job, false, func(rec *record) {
		rec.Failed++
		rec.Error = fmt.Sprintf("%d messages stay dead letters; the last one: %s", rec.Failed, why)
	})
}

// letter redrives all recipients of one dead letter.
func (r *redriver) letter(ctx context.Context, d *messaging.DeadLetter) error {
	after := messaging.UserID("")
	for ctx.Err() == nil {
		copies, err := r.config.DeadLetters.DeadCopies(d, after, r.config.BatchSize)
		if err != nil || len(copies) == 0 {
			return err
		}
		for i := range copies {
			if err := r.one(ctx, d.Kind, copies[i]); err != nil {
				return err
			}
		}
		after = copies[len(copies)-1].Message.Receiver.User
		if len(copies) < r.config.BatchSize {
			return nil
		}
	}
	return ctx.Err()
}

// one redrives one recipient's message: to its queue at once, to the backend
// with others.
func (r *redriver) one(ctx context.Context, kind messaging.DeadLetterKind, c messaging.DeadCopy) error {
	if kind == messaging.Undeliverable {
		return r.requeue(c)
	}
	size := len(c.Message.Body) + messaging.JSONOverhead
	if len(r.batch) > 0 && (len(r.batch) >= r.config.BatchSize || r.bytes+size > r.config.BatchBytes) {
		if err := r.flush(ctx); err != nil {
			return err
		}
	}
	r.batch = append(r.batch, c)
	r.bytes += size
	return nil
}

// requeue puts a message back into its queue. The entry is durable before the
// dead letter goes; a crash in between leaves both.
func (r *redriver) requeue(c messaging.DeadCopy) error {
	refusal, err := r.config.Requeue(&c.Message, func() error {
		r.redriven.Add(1)
		return r.config.DeadLetters.SettleDead([]messaging.DeadCopy{c})
	})
	if err != nil || refusal == "" {
		return err
	}
	return r.failed(refusal)
}

var errNoBackend = errors.New("there is no backend to send to: DJANGO_API_URL is off")

// flush sends what was gathered to the backend.
func (r *redriver) flush(ctx context.Context) error {
	batch := r.batch
	r.batch, r.bytes = nil, 0
	if len(batch) == 0 {
		return nil
	}
	if r.config.Sink == nil {
		return errNoBackend
	}
	return r.deliver(ctx, batch)
}

// deliver sends messages until the backend has said of each what became of it.
// An outage is waited for; a batch that is refused as a whole is halved.
func (r *redriver) deliver(ctx context.Context, batch []messaging.DeadCopy) error {
	messages := make([]messaging.Message, len(batch))
	for i := range batch {
		messages[i] = batch[i].Message
	}
	for ctx.Err() == nil {
		a := r.config.Sink.Deliver(ctx, messages)
		switch a.Verdict {
		case Accounted:
			r.tries = 0
			return r.account(batch, a)
		case Mismatched, Rejected:
			r.tries = 0
			return r.doubt(ctx, batch, a)
		default:
			r.tries++
			wait := a.RetryAfter
			if wait == 0 {
				wait = backoff(r.tries, r.config.MaxBackoff)
			}
			pause(ctx, wait)
		}
	}
	return ctx.Err()
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// account settles what is stored; the rest stays dead.
func (r *redriver) account(batch []messaging.DeadCopy, a Answer) error {
	var stored []messaging.DeadCopy
	for i := range batch {
		if a.Results[i].Stored {
			stored = append(stored, batch[i])
			continue
		}
		if err := r.refused(batch[i], a.Results[i].Error, a.Status); err != nil {
			return err
		}
	}
	r.redriven.Add(uint64(len(stored)))
	return r.config.DeadLetters.SettleDead(stored)
}

func (r *redriver) doubt(ctx context.Context, batch []messaging.DeadCopy, a Answer) error {
	if len(batch) == 1 {
		return r.refused(batch[0], a.Reason, a.Status)
	}
	half := len(batch) / 2
	if err := r.deliver(ctx, batch[:half]); err != nil {
		return err
	}
	return r.deliver(ctx, batch[half:])
}

func (r *redriver) refused(c messaging.DeadCopy, reason string, status int) error {
	if err := r.config.DeadLetters.RefuseAgain(c, shorten(reason), status, time.Now()); err != nil {
		return err
	}
	return r.failed(shorten(reason))
}

// shorten keeps a reason within its bound.
func shorten(reason string) string {
	if len(reason) > messaging.MaxReason {
		reason = reason[:messaging.MaxReason]
	}
	return reason
}
