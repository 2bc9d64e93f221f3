package persist

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/stayafrica/messaging"
)

// flight is a batch on its way, with the parts it was split into. It holds its
// lanes until all parts are answered, so that splitting keeps their order.
type flight struct {
	size    int
	parts   [][]*item // what is still to be sent; the first is on its way
	lanes   []*lane
	back    map[*lane][]*item // what returns to its lane when the flight ends
	refused []refusal
	began   time.Time
	answer  Answer
}

// refusal is a message that the backend refused while it stood alone.
type refusal struct {
	item   *item
	status int
	reason string
}

// errGone says that retention took a message that was not settled, which it
// must not.
var errGone = errors.New("message is not in the log")

// refusalsMax is how many messages may be refused alone in one flight while
// nothing at all is stored, before that counts as an outage.
const refusalsMax = 8

// dispatch sends batches while there is something to send and room for them. It
// says when to look again, zero if only an event can change anything.
func (r *run) dispatch(ctx context.Context, now time.Time) time.Time {
	for r.flying < r.concurrency() {
		if r.until.After(now) {
			return r.until
		}
		if len(r.lanes.ready) == 0 {
			return time.Time{}
		}
		if due := r.lanes.oldestReady().Add(r.config.Linger); r.lanes.readyItems < r.limits.batch && due.After(now) {
			return due
		}
		f, err := r.batch(now)
		if err != nil {
			if !r.readComplaint {
				r.logger.ErrorContext(ctx, "messages that were to be sent again could not be read; they stay where they are", "error", err)
			}
			r.readComplaint = true
			r.pause(0)
			continue
		}
		r.send(ctx, f)
	}
	return time.Time{}
}

// concurrency is how many flights there may be: one while the backend has yet
// to show that it is back.
func (r *run) concurrency() int {
	if r.outage > 0 {
		return 1
	}
	return r.limits.concurrency
}

// batch makes a flight of what is ready.
func (r *run) batch(now time.Time) (*flight, error) {
	f := &flight{began: now, back: make(map[*lane][]*item)}
	var items []*item
	bytes, alone := 0, false
	fits := func(it *item) bool {
		size := it.bytes
		if len(items) > 0 && (alone || it.alone || len(items) >= r.limits.batch || bytes+size > r.config.BatchBytes) {
			return false
		}
		items = append(items, it)
		alone = it.alone
		bytes += size
		return true
	}
	for len(r.lanes.ready) > 0 {
		taken := r.lanes.take(fits)
		if taken == nil {
			break
		}
		f.lanes = append(f.lanes, taken[0].lane)
	}
	f.size = len(items)
	f.parts = [][]*item{items}
	if err := r.load(items); err != nil {
		f.returnParts()
		r.releaseAll(f)
		return nil, err
	}
	for _, it := range items {
		if it.firstTry.IsZero() {
			it.firstTry = now
		}
	}
	return f, nil
}

// load reads the messages again that were forgotten while they waited.
func (r *run) load(items []*item) error {
	for _, it := range items {
		if it.message != nil {
			continue
		}
		page, _, err := r.config.Source.Read(it.position, 1, 1)
		if err != nil {
			return err
		}
		if len(page) == 0 || page[0].Position != it.position {
			return fmt.Errorf("%w at %d", errGone, it.position.Sequence)
		}
		it.message = &page[0]
		r.readComplaint = false
	}
	return nil
}

// send carries the first part of a flight to the sink.
func (r *run) send(ctx context.Context, f *flight) {
	messages := make([]messaging.Message, len(f.parts[0]))
	for i, it := range f.parts[0] {
		messages[i] = *it.message
	}
	r.flying++
	go func() {
		f.answer = r.config.Sink.Deliver(ctx, messages)
		r.results <- f
	}()
}

// returnParts gives all that was not answered back to its lanes.
func (f *flight) returnParts() {
	for _, part := range f.parts {
		for _, it := range part {
			f.back[it.lane] = append(f.back[it.lane], it)
		}
	}
	f.parts = nil
}

// split halves the part that was just answered.
func (f *flight) split(part []*item) {
	half := len(part) / 2
	f.parts = append([][]*item{part[:half], part[half:]}, f.parts...)
}
