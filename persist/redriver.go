package persist

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/stayafrica/messaging"
)

// requeue returns messages to their queues. Each message leaves its letter and enters
// its queue in one commit.
func (r *redriver) requeue(ctx context.Context, batch []redriven) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	recipients := recipientsOf(batch)
	var results []messaging.RequeueResult
	err := r.commit(r.job, func(rec *record) { rec.advance(batch) }, func(p messaging.Progress) (err error) {
		results, err = r.config.DeadLetters.RequeueDeadLetters(recipients, p)
		return err
	})
	if err != nil {
		return err
	}
	for i := range results {
		if batch[i].failure = results[i].Refusal; results[i] == (messaging.RequeueResult{}) {
			r.redriven.Add(1)
		}
	}
	refusals := failuresOf(batch)
	if len(refusals) == 0 {
		return nil
	}
	return r.commit(r.job, func(rec *record) { rec.addFailures(refusals) }, r.config.Store.SaveProgress)
}

// failuresOf returns the reasons of the messages in a batch that remain dead letters.
func failuresOf(batch []redriven) (failures []string) {
	for i := range batch {
		if batch[i].failure != "" {
			failures = append(failures, batch[i].failure)
		}
	}
	return failures
}

func recipientsOf(batch []redriven) []messaging.DeadRecipient {
	recipients := make([]messaging.DeadRecipient, len(batch))
	for i := range batch {
		recipients[i] = batch[i].DeadRecipient
	}
	return recipients
}

// addFailures records that messages remain dead letters.
func (rec *record) addFailures(reasons []string) {
	if len(reasons) == 0 {
		return
	}
	rec.Failed += uint64(len(reasons))
	last := reasons[len(reasons)-1]
	if len(last) > maxShownReason {
		last = last[:maxShownReason] + "..."
	}
	stay := "1 message stays a dead letter"
	if rec.Failed != 1 {
		stay = fmt.Sprintf("%d messages stay dead letters", rec.Failed)
	}
	rec.Error = stay + "; the last one: " + last
}

// maxShownReason bounds the reason in a job's record, in bytes. The dead letter has the
// full reason.
const maxShownReason = 1024

// outcome is the result of sending a batch.
type outcome struct {
	stored  []messaging.DeadRecipient
	refused []messaging.DeadRefusal
	kept    []messaging.DeadRecipient
}

// deliver sends messages to the backend until each is decided, and then ends the claims
// on them. It skips messages that another job has claimed, that are gone, or that this
// job has redriven already.
func (r *redriver) deliver(ctx context.Context, batch []redriven) error {
	claims, err := r.config.DeadLetters.ClaimDeadLetters(r.job.record.ID, recipientsOf(batch))
	if err != nil {
		return err
	}
	if len(claims) != len(batch) {
		return errClaims
	}
	var out outcome
	var items []*item
	index := make(map[*item]*redriven, len(batch))
	for i := range batch {
		if claims[i] != messaging.Claimed {
			if claims[i] == messaging.ClaimedElsewhere {
				batch[i].failure = "another job redrives it"
			}
			continue
		}
		it := &item{position: batch[i].Message.Position}
		it.setMessage(&batch[i].Message)
		items = append(items, it)
		index[it] = &batch[i]
	}
	err = r.send(ctx, items, index, &out)
	if err != nil {
		out.kept = nil // they stay claimed: the job tries them again after the restart
		if r.cancelled() {
			out.kept = undecidedOf(batch)
		}
		return errors.Join(r.finish(nil, &out), err)
	}
	return r.finish(batch, &out)
}

// cancelled reports whether the job was cancelled, so that it does not continue at the
// next start.
func (r *redriver) cancelled() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.job.stopped
}

// undecidedOf returns the recipients that the backend has neither stored nor refused.
func undecidedOf(batch []redriven) (kept []messaging.DeadRecipient) {
	for i := range batch {
		if !batch[i].settled {
			kept = append(kept, batch[i].DeadRecipient)
		}
	}
	return kept
}

var errClaims = errors.New("the store did not return a claim for every dead letter")

// finish ends the claims on a batch in the commit that records the batch as done. A nil
// batch means that the job stopped while it sent one: the commit then ends only the
// claims of the messages that are in out.
func (r *redriver) finish(batch []redriven, out *outcome) error {
	failures := failuresOf(batch)
	if batch == nil {
		for i := range out.refused {
			failures = append(failures, out.refused[i].Reason)
		}
	}
	err := r.commit(r.job, func(rec *record) {
		rec.advance(batch)
		rec.addFailures(failures)
	}, func(p messaging.Progress) error {
		return r.config.DeadLetters.FinishRedrive(r.job.record.ID, out.stored, out.refused, out.kept, p)
	})
	if err == nil {
		r.redriven.Add(uint64(len(out.stored)))
	}
	return err
}

// send sends messages until each is decided: first in one batch, then alone those that
// need a batch of their own.
func (r *redriver) send(ctx context.Context, items []*item, index map[*item]*redriven, out *outcome) error {
	for len(items) > 0 {
		n := len(items)
		for i, it := range items {
			if it.needsOwnBatch() {
				n = max(1, i)
				break
			}
		}
		again, err := r.sendBatch(ctx, newInFlightBatch(items[:n], time.Now()), index, out)
		items = append(items[n:], again...)
		if err != nil {
			return err
		}
	}
	return ctx.Err()
}

// sendBatch sends a batch and its parts. It returns the messages that must be sent
// again alone. It waits out an outage.
func (r *redriver) sendBatch(ctx context.Context, b *inFlightBatch, index map[*item]*redriven, out *outcome) (again []*item, err error) {
	failures := 0
	for len(b.parts) > 0 {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		b.response = r.config.Sink.Deliver(ctx, b.messages())
		if !b.response.Class.judgesMessages() {
			failures++
			r.pause(ctx, failures, b.response.RetryAfter)
			continue
		}
		failures = 0
		now := time.Now()
		rulings, d := b.judge(r.config.Evidence.last(), now, 1, false)
		if d.evidence == evidenceStored {
			// A repeated refusal of refused messages says nothing about other messages.
			r.config.Evidence.apply(d.evidence, now)
		}
		for i := range rulings {
			if out.take(&rulings[i], index[rulings[i].item], now) {
				again = append(again, rulings[i].item)
			}
		}
	}
	return again, nil
}

// take records the decision about a message. again reports that the message must be
// sent once more, alone. A message that is neither stored nor refused by evidence stays
// unchanged.
func (out *outcome) take(x *ruling, of *redriven, now time.Time) (again bool) {
	switch x.action {
	case actStore:
		of.settled = true
		out.stored = append(out.stored, of.DeadRecipient)
	case actDead:
		of.settled, of.failure = true, refusalReason(x.reason)
		out.refused = append(out.refused, messaging.DeadRefusal{Recipient: of.DeadRecipient, Reason: shorten(x.reason), StatusCode: x.status, FailedAt: now})
	case actAlone, actConfirm:
		return true
	case actBackOff, actKeep, actHold, actHalve:
		of.failure = keptReason(x.reason)
		out.kept = append(out.kept, of.DeadRecipient)
	}
	return false
}

// refusalReason returns the reason of a repeated refusal.
func refusalReason(reason string) string {
	if reason == "" {
		return "the backend refused it without a reason"
	}
	return reason
}

// keptReason returns why a message stays unchanged.
func keptReason(reason string) string {
	if reason == "" {
		return "the backend refused everything in its batch"
	}
	return reason + " (nothing else was stored meanwhile, so the message may not be to blame)"
}

// pause waits during an outage: as long as the backend asked for, or with exponential
// backoff.
func (r *redriver) pause(ctx context.Context, failures int, asked time.Duration) {
	wait := min(asked, maxRetryAfter)
	if wait <= 0 {
		wait = backoff(failures, r.config.MaxBackoff)
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
