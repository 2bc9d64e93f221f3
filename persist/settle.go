package persist

import (
	"context"
	"log/slog"
	"slices"
	"strconv"
	"time"

	"github.com/stayafrica/messaging"
)

// arrived takes the answer for the first part of a flight, and sends the next
// part or ends the flight.
func (r *run) arrived(ctx context.Context, f *flight) error {
	part, answer, now := f.parts[0], f.answer, time.Now()
	f.parts = f.parts[1:]
	r.count(answer)
	switch answer.Verdict {
	case Accounted:
		r.account(f, part, answer, now)
	case Mismatched, Rejected:
		r.doubt(f, part, answer, now)
	default:
		f.parts = append([][]*item{part}, f.parts...)
		f.returnParts()
		r.outageBegan(answer)
	}
	if r.landing || r.asked.After(now) {
		f.returnParts()
	}
	if len(f.parts) > 0 {
		r.send(ctx, f)
		return nil
	}
	r.conclude(f, now)
	r.releaseAll(f)
	return nil
}

func (r *run) count(a Answer) {
	if a.Verdict == Accounted {
		return
	}
	r.counters.failures[a.Verdict].Add(1)
	if a.Verdict.answered() {
		r.counters.refused.Add(1)
	} else {
		r.counters.unreached.Add(1)
	}
}

// releaseAll ends a flight. Its messages came back as they were judged, some
// only at the end, and go to their lanes in the order of the log.
func (r *run) releaseAll(f *flight) {
	for _, l := range f.lanes {
		back := f.back[l]
		slices.SortFunc(back, func(a, b *item) int {
			if a.position.Before(b.position) {
				return -1
			}
			return 1
		})
		r.lanes.release(l, back)
	}
}

// account settles a part by what the backend said of each message.
func (r *run) account(f *flight, part []*item, a Answer, now time.Time) {
	stored, hinted := 0, false
	for i := range part {
		if a.Results[i].Stored {
			stored++
		}
		hinted = hinted || a.Results[i].Hopeless || a.Results[i].Permanent
	}
	outage := stored == 0 && len(part) > 1 && !hinted
	switch {
	case stored > 0:
		if !a.Old { // what it had before says nothing of what it takes now
			r.evidence.sawStored(now)
		}
		r.counters.persisted.Add(uint64(stored))
	case outage:
		r.evidence.void()
	}
	errors := uint64(len(part) - stored)
	r.counters.refused.Add(errors)
	r.counters.failures[Accounted].Add(errors)
	var dead []refusal
	for i, it := range part {
		switch {
		case a.Results[i].Stored:
			it.settled = true
		case outage:
			f.back[it.lane] = append(f.back[it.lane], it)
		case r.isDead(it, a.Results[i], len(part) == 1):
			dead = append(dead, refusal{it, a.Status, a.Results[i].Error})
		default:
			r.retry(f, it, a.Results[i], now)
		}
	}
	r.bury(f, dead, now)
	switch {
	case outage:
		f.returnParts()
		r.outageBegan(Answer{Verdict: Unavailable, Status: a.Status, Reason: "it answered every message of a batch with an error, as it does when its database is down"})
	case stored == 0 && len(dead) == 0 && !r.evidence.speaksAgainst(part[0].firstTry):
		r.outageBegan(Answer{Verdict: Accounted, Status: a.Status, Reason: "it has errors for all that it gets, and nothing was stored that would show that the messages are to blame"})
	default:
		r.outageEnded(now)
	}
}

// isDead applies the evidence rule to one message that is not stored. What reads
// as hopeless is judged by its second try, which it had in a batch of its own.
func (r *run) isDead(it *item, res Result, alone bool) bool {
	it.attempts++
	switch {
	case res.Permanent:
		return true
	case res.Hopeless:
		return alone && it.alone && r.evidence.speaksAgainst(it.firstTry)
	}
	return it.attempts >= r.config.MaxAttempts && r.evidence.speaksAgainst(it.firstTry)
}

// retry gives a message back to its lane. What reads as hopeless is tried once
// more alone and at once; all else waits, and its conversation with it.
func (r *run) retry(f *flight, it *item, res Result, now time.Time) {
	if res.Hopeless && !it.alone {
		it.alone = true
		f.back[it.lane] = append(f.back[it.lane], it)
		return
	}
	r.setAside(f, it, now)
}

// setAside returns a message to its lane, which then waits by itself.
func (r *run) setAside(f *flight, it *item, now time.Time) {
	f.back[it.lane] = append(f.back[it.lane], it)
	it.lane.until = now.Add(backoff(it.attempts, r.config.MaxBackoff))
}

// doubt splits a part that was not taken as it was, or notes the message that
// was refused alone.
func (r *run) doubt(f *flight, part []*item, a Answer, now time.Time) {
	if len(part) > 1 {
		f.split(part)
		return
	}
	it := part[0]
	it.attempts++
	if a.Verdict == Mismatched && it.attempts < r.config.MaxAttempts {
		r.setAside(f, it, now)
		return
	}
	f.refused = append(f.refused, refusal{it, a.Status, a.Reason})
	if len(f.refused) >= refusalsMax && !r.evidence.since(f.began) {
		f.returnParts()
	}
}

// conclude judges what a flight had refused while it stood alone. Of several
// messages that went together some must have been stored meanwhile; where none
// was, the backend refuses everything, and that is an outage. Where some was, the
// refused ones are tried once more: an outage may have ended in their midst.
func (r *run) conclude(f *flight, now time.Time) {
	if len(f.refused) == 0 {
		return
	}
	var dead []refusal
	again := 0
	for _, refused := range f.refused {
		it := refused.item
		poison := (f.size == 1 && r.evidence.speaksAgainst(it.firstTry)) || (f.size > 1 && r.evidence.since(f.began))
		if poison && it.doubted {
			dead = append(dead, refused)
			continue
		}
		if poison {
			it.doubted, it.alone = true, true
			again++
		}
		r.setAside(f, it, now)
	}
	r.bury(f, dead, now)
	if len(dead)+again == 0 {
		if len(f.refused) > 1 {
			r.evidence.void()
		}
		r.outageBegan(Answer{Verdict: Rejected, Status: f.refused[0].status, Reason: "it refuses every message"})
	}
}

// bury makes dead letters of messages, before the position can pass them. Where
// that fails they are tried again later.
func (r *run) bury(f *flight, dead []refusal, now time.Time) {
	if len(dead) == 0 {
		return
	}
	letters := make([]messaging.DeadLetter, len(dead))
	for i, d := range dead {
		letters[i] = deadLetter(d, now)
	}
	if err := r.config.Ledger.AddDeadLetters(letters); err != nil {
		if !r.buryComplaint {
			r.logger.Error("dead letters could not be written; their messages are kept and tried again", "error", err)
		}
		r.buryComplaint = true
		for _, d := range dead {
			r.setAside(f, d.item, now)
		}
		return
	}
	r.buryComplaint = false
	for i, d := range dead {
		d.item.settled = true
		r.logger.Warn("a message became a dead letter", "id", letters[i].ID, "status", letters[i].StatusCode, "attempts", letters[i].Attempts)
	}
	r.counters.deadLetters.Add(uint64(len(dead)))
}

func deadLetter(d refusal, now time.Time) messaging.DeadLetter {
	m := d.item.message
	return messaging.DeadLetter{
		ID: messaging.DeadLetterID(messaging.Refused, m.ID), Kind: messaging.Refused,
		Reason: shorten(d.reason), StatusCode: d.status, Attempts: max(1, d.item.attempts), FailedAt: now,
		Recipients: 1, Message: *m,
	}
}

// outageBegan makes the whole drain wait: the backend is out of order, and no
// message is to blame.
func (r *run) outageBegan(a Answer) {
	if a.Verdict == TimedOut {
		r.limits.shrink()
	}
	if a.Verdict == Throttled {
		r.limits.fill()
	}
	r.pause(a.RetryAfter)
	r.waiting.Store(true)
	complaint := a.Verdict.String() + strconv.Itoa(a.Status) + a.Reason
	if complaint == r.complaint {
		return
	}
	r.complaint = complaint
	r.logger.Warn("the backend does not take messages: they are kept and tried again until it does",
		slog.String("kind", a.Verdict.String()), slog.Int("status", a.Status), slog.String("reason", a.Reason))
}

// outageEnded lets the drain go on, but for a pause that the backend asked for:
// what was on its way before may succeed during it and says nothing about it.
func (r *run) outageEnded(now time.Time) {
	r.limits.grow()
	r.until = r.asked
	if r.asked.After(now) {
		return
	}
	r.outage = 0
	r.waiting.Store(false)
	if r.complaint != "" {
		r.complaint = ""
		r.logger.Info("the backend takes messages again")
	}
}

// pause makes everything wait: as long as the backend asked for, else longer
// each time.
func (r *run) pause(retryAfter time.Duration) {
	r.outage++
	now := time.Now()
	wait := backoff(r.outage, r.config.MaxBackoff)
	if retryAfter > 0 {
		wait = min(retryAfter, maxRetryAfter)
		r.asked = later(r.asked, now.Add(wait))
	}
	r.until = later(r.until, now.Add(wait))
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
