package persist

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/stayafrica/messaging"
)

// inFlightBatch is a batch that is being sent. A refused batch is split, and its parts
// are sent one after the other, so that splitting keeps their order.
type inFlightBatch struct {
	size     int
	parts    [][]*item // parts still to be sent; the first is in flight
	held     []heldItem
	began    time.Time
	response Response
	// lanes are the lanes that the batch holds until it ends. requeued holds the
	// messages that return to them at that point. Both are empty for a redrive.
	lanes    []*lane
	requeued map[*lane][]*item
}

// heldItem is a message that was refused in a part of its own and is judged when the
// batch ends.
type heldItem struct {
	refusal

	item *item
}

// ruling is the decision about one message.
type ruling struct {
	disposition

	item *item
}

func newInFlightBatch(items []*item, now time.Time) *inFlightBatch {
	for _, it := range items {
		if it.firstTry.IsZero() {
			it.firstTry = now
		}
	}
	return &inFlightBatch{size: len(items), parts: [][]*item{items}, began: now, requeued: make(map[*lane][]*item)}
}

// messages returns the messages of the first part.
func (b *inFlightBatch) messages() []messaging.Message {
	messages := make([]messaging.Message, len(b.parts[0]))
	for i, it := range b.parts[0] {
		messages[i] = *it.message
	}
	return messages
}

// judge judges the response to the first part. It returns a ruling for each message
// that is decided; the others stay in the batch. If the decision ends the batch, no
// message stays.
func (b *inFlightBatch) judge(stored, now time.Time, maxAttempts int, stopped bool) ([]ruling, decision) {
	part := b.parts[0]
	b.parts = b.parts[1:]
	q := judgeInput{
		response: b.response, now: now, maxAttempts: maxAttempts, stored: stored,
		size: b.size, began: b.began, last: len(b.parts) == 0, stopped: stopped,
		part: make([]attemptInfo, len(part)), held: make([]refusal, len(b.held)),
	}
	for i, it := range part {
		q.part[i] = it.attemptInfo
	}
	for i := range b.held {
		q.held[i] = b.held[i].refusal
	}
	d := judge(q)
	var rulings []ruling
	for i := range d.held {
		rulings = append(rulings, ruling{d.held[i], b.held[i].item})
	}
	if d.halves() {
		half := len(part) / 2
		b.parts = append([][]*item{part[:half], part[half:]}, b.parts...)
		return rulings, d
	}
	for i, it := range part {
		if d.part[i].action == actHold {
			b.held = append(b.held, heldItem{d.part[i].refusal, it})
			continue
		}
		rulings = append(rulings, ruling{d.part[i], it})
	}
	if d.over {
		rulings = append(rulings, b.unsent()...)
	}
	for i := range rulings {
		rulings[i].item.attemptInfo = rulings[i].attemptInfo
	}
	return rulings, d
}

// unsent ends the batch and returns the unsent messages to their lanes.
func (b *inFlightBatch) unsent() (rulings []ruling) {
	for _, part := range b.parts {
		for _, it := range part {
			if it.settled {
				continue // it was trimmed
			}
			rulings = append(rulings, ruling{disposition{refusal{attemptInfo: it.attemptInfo}, actKeep}, it})
		}
	}
	b.parts = nil
	return rulings
}

// errGone reports that the log ends before a message that was read from it earlier.
var errGone = errors.New("the log ends before a message that was read from it")

// dispatch sends batches while there are ready messages and room for batches in flight.
// It returns when to call it again; zero if only an event can change the result.
func (r *run) dispatch(ctx context.Context, now time.Time) time.Time {
	for r.inFlight < r.concurrency() {
		if r.pausedUntil.After(now) {
			return r.pausedUntil
		}
		if len(r.lanes.ready) == 0 {
			return time.Time{}
		}
		if due := r.lanes.oldestReady().Add(r.config.Linger); r.lanes.readyItems < r.limits.batch && due.After(now) {
			return due
		}
		b, err := r.batch(now)
		if err != nil {
			if !r.readReported {
				r.logger.ErrorContext(ctx, "messages to be sent again could not be read from the log; they stay unsettled", "error", err)
			}
			r.readReported = true
			r.pause(0)
			continue
		}
		if b != nil {
			r.send(ctx, b)
		}
	}
	return time.Time{}
}

// concurrency returns how many batches may be in flight: one during an outage.
func (r *run) concurrency() int {
	if r.outageFailures > 0 {
		return 1
	}
	return r.limits.concurrency
}

// batch forms a batch from the ready lanes. It returns nil if retention has trimmed all
// of its messages.
func (r *run) batch(now time.Time) (*inFlightBatch, error) {
	items, held := r.gather()
	present, err := r.load(items)
	if err != nil || len(present) == 0 {
		b := &inFlightBatch{lanes: held, parts: [][]*item{items}, requeued: make(map[*lane][]*item)}
		r.applyRulings(b, b.unsent(), now)
		r.releaseAll(b)
		return nil, err
	}
	b := newInFlightBatch(present, now)
	b.lanes = held
	return b, nil
}

// gather takes from the ready lanes what fits into a batch.
func (r *run) gather() (items []*item, held []*lane) {
	bytes, alone := 0, false
	fits := func(it *item) bool {
		if len(items) > 0 && (alone || it.needsOwnBatch() || len(items) >= r.limits.batch || bytes+it.bytes > r.config.BatchBytes) {
			return false
		}
		items = append(items, it)
		alone = it.needsOwnBatch()
		bytes += it.bytes
		return true
	}
	for len(r.lanes.ready) > 0 {
		taken := r.lanes.take(fits)
		if taken == nil {
			break
		}
		held = append(held, taken[0].lane)
	}
	return items, held
}

// load reads messages again that were dropped from memory while they waited. It returns
// the items that still exist and settles the trimmed ones.
func (r *run) load(items []*item) (present []*item, err error) {
	present = make([]*item, 0, len(items))
	for _, it := range items {
		if it.message == nil {
			found, err := r.readAgain(it)
			if err != nil {
				return nil, err
			}
			if !found {
				it.settled, it.gone = true, 1
				continue
			}
		}
		present = append(present, it)
	}
	return present, nil
}

// readAgain reads a dropped message again. found is false if it was trimmed meanwhile.
// The trimmed range may include later messages, which are then not read again.
func (r *run) readAgain(it *item) (found bool, err error) {
	seq := it.position.Sequence
	if r.trimmed.from <= seq && seq < r.trimmed.to {
		return false, nil
	}
	page, next, err := r.config.Source.Read(it.position, 1, 1)
	if err != nil {
		return false, err
	}
	if len(page) > 0 && page[0].Position == it.position {
		it.message = &page[0]
		r.readReported = false
		return true, nil
	}
	if len(page) > 0 {
		next = page[0].Position
	}
	if next.Sequence <= seq {
		return false, fmt.Errorf("%w at %d", errGone, seq)
	}
	r.trimmed.from, r.trimmed.to = seq, next.Sequence
	return false, nil
}

// send passes the first part of a batch to the sink.
func (r *run) send(ctx context.Context, b *inFlightBatch) {
	messages := b.messages()
	r.inFlight++
	go func() {
		b.response = r.config.Sink.Deliver(ctx, messages)
		r.results <- b
	}()
}
