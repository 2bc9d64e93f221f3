package persist

import (
	"context"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/stayafrica/messaging"
)

// handleResponse handles the response to the first part of a batch. It then sends the
// next part, or ends the batch.
func (r *run) handleResponse(ctx context.Context, b *inFlightBatch) {
	now := time.Now()
	r.countResponse(&b.response)
	rulings, d := b.judge(r.evidence.last(), now, r.config.MaxAttempts, r.stopping || r.requestedUntil.After(now))
	r.evidence.apply(d.evidence, now)
	r.applyRulings(b, rulings, now)
	switch {
	case d.outage != nil:
		r.outageBegan(d.outage)
	case d.ended:
		r.outageEnded(now)
	}
	if len(b.parts) > 0 {
		r.send(ctx, b)
		return
	}
	r.releaseAll(b)
}

// countResponse adds a response to the statistics.
func (r *run) countResponse(resp *Response) {
	if resp.Class != Accounted {
		r.counters.failures[resp.Class].Add(1)
		if resp.Class.responded() {
			r.counters.refused.Add(1)
		} else {
			r.counters.unreached.Add(1)
		}
		return
	}
	stored := 0
	for i := range resp.Results {
		if resp.Results[i].Stored {
			stored++
		}
	}
	errors := uint64(len(resp.Results) - stored)
	r.counters.persisted.Add(uint64(stored))
	r.counters.refused.Add(errors)
	r.counters.failures[Accounted].Add(errors)
}

// releaseAll ends a batch. Messages were requeued in the order of their rulings;
// releaseAll returns them to their lanes in the order of the log.
func (r *run) releaseAll(b *inFlightBatch) {
	for _, l := range b.lanes {
		requeued := b.requeued[l]
		slices.SortFunc(requeued, func(a, b *item) int {
			if a.position.Before(b.position) {
				return -1
			}
			return 1
		})
		r.lanes.release(l, requeued)
	}
}

// applyRulings applies the decisions about messages.
func (r *run) applyRulings(b *inFlightBatch, rulings []ruling, now time.Time) {
	var dead []ruling
	for i := range rulings {
		x := &rulings[i]
		switch x.action {
		case actStore:
			x.item.settled = true
		case actDead:
			dead = append(dead, *x)
		case actConfirm, actBackOff:
			r.backOff(b, x.item, now)
		case actAlone, actKeep, actHold, actHalve:
			b.requeue(x.item)
		}
	}
	r.writeDeadLetters(b, dead, now)
}

// requeue returns a message to its lane when the batch ends.
func (b *inFlightBatch) requeue(it *item) { b.requeued[it.lane] = append(b.requeued[it.lane], it) }

// backOff returns a message to its lane, which then waits before it is ready again.
func (r *run) backOff(b *inFlightBatch, it *item, now time.Time) {
	b.requeue(it)
	it.lane.until = now.Add(backoff(it.attempts, r.config.MaxBackoff))
}

// writeDeadLetters makes messages dead letters before the position can pass them. If
// the write fails, the messages are tried again later.
func (r *run) writeDeadLetters(b *inFlightBatch, dead []ruling, now time.Time) {
	if len(dead) == 0 {
		return
	}
	letters := make([]messaging.DeadLetter, len(dead))
	for i := range dead {
		letters[i] = deadLetter(&dead[i], now)
	}
	if err := r.config.Store.AddDeadLetters(letters, r.progress()); err != nil {
		if !r.deadReported {
			r.logger.Error("dead letters could not be written; their messages are kept and tried again", "error", err)
		}
		r.deadReported = true
		for i := range dead {
			r.backOff(b, dead[i].item, now)
		}
		return
	}
	r.deadReported = false
	r.saved = r.window.position()
	for i := range dead {
		dead[i].item.settled = true
	}
	r.counters.deadLetters.Add(uint64(len(dead)))
	r.letterLog.add(letters)
	r.letterLog.flush(r.logger, now, false)
}

func deadLetter(x *ruling, now time.Time) messaging.DeadLetter {
	m := x.item.message
	return messaging.DeadLetter{
		ID: messaging.DeadLetterID(messaging.Refused, m.ID), Kind: messaging.Refused,
		Reason: shorten(x.reason), StatusCode: x.status, Attempts: max(1, x.attempts), FailedAt: now,
		Recipients: 1, Message: *m,
	}
}

// shorten limits a reason to its maximum length. The copy frees the memory of the rest.
func shorten(reason string) string {
	if len(reason) > messaging.MaxReason {
		reason = strings.Clone(reason[:messaging.MaxReason])
	}
	return reason
}

// outageBegan pauses the whole drain: the backend is out of order, and no message is to
// blame.
func (r *run) outageBegan(resp *Response) {
	if resp.Class == TimedOut {
		r.limits.shrink()
	}
	if resp.Class == Throttled {
		r.limits.fill()
	}
	r.pause(resp.RetryAfter)
	r.waiting.Store(true)
	report := resp.Class.String() + strconv.Itoa(resp.Status) + resp.Reason
	if report == r.lastReported {
		return
	}
	r.lastReported = report
	r.logger.Warn("the backend does not take messages: they are kept and tried again until it does",
		slog.String("kind", resp.Class.String()), slog.Int("status", resp.Status), slog.String("reason", resp.Reason))
}

// outageEnded resumes the drain, except during a pause that the backend asked for: a
// batch that was in flight before the pause may succeed during it, which does not end
// the pause.
func (r *run) outageEnded(now time.Time) {
	r.limits.grow()
	r.pausedUntil = r.requestedUntil
	if r.requestedUntil.After(now) {
		return
	}
	r.outageFailures = 0
	r.waiting.Store(false)
	if r.lastReported != "" {
		r.lastReported = ""
		r.logger.Info("the backend takes messages again")
	}
}

// pause pauses the drain: as long as the backend asked for, or with exponential
// backoff.
func (r *run) pause(retryAfter time.Duration) {
	r.outageFailures++
	now := time.Now()
	wait := backoff(r.outageFailures, r.config.MaxBackoff)
	if retryAfter > 0 {
		wait = min(retryAfter, maxRetryAfter)
		r.requestedUntil = later(r.requestedUntil, now.Add(wait))
	}
	r.pausedUntil = later(r.pausedUntil, now.Add(wait))
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
