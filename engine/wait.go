package engine

import (
	"container/list"
	"context"
	"time"

	"github.com/stayafrica/messaging"
)

// waiter is a reader that waits for a message. One at a time is awake: it looks
// and then wakes the next if there may be more, so that one message wakes one
// waiter, however many there are.
type waiter struct {
	ready chan struct{}
	place *list.Element // in the line; nil while it is not in it
}

// lookOrWait looks for messages and, where there are none, waits for one as
// long as asked.
func (e *Engine) lookOrWait(ctx context.Context, q *queue, o messaging.TakeOptions) ([]handed, error) {
	found, seen, err := e.look(q, o.Limit, o.Bytes, true)
	if err != nil || len(found) > 0 || o.Wait <= 0 {
		return found, err
	}
	e.waiting.Add(1)
	defer e.waiting.Add(-1)
	timeout := time.NewTimer(o.Wait)
	defer timeout.Stop()
	w := &waiter{ready: make(chan struct{}, 1)}
	defer q.leave(w)
	for first := true; ; first = false {
		if q.join(w, seen, first) {
			select {
			case <-w.ready:
			case <-timeout.C:
				return nil, nil
			case <-ctx.Done():
				return nil, nil
			case <-e.closing:
				return nil, nil
			}
		}
		found, seen, err = e.look(q, o.Limit, o.Bytes, true)
		q.looked(w, seen, len(found) > 0)
		if err != nil || len(found) > 0 {
			return found, err
		}
	}
}

// join puts a waiter into the line: at its end, or in front when it has stood
// there before. false says that something came in since it looked.
func (q *queue) join(w *waiter, seen uint64, first bool) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.news != seen {
		return false
	}
	if first {
		w.place = q.line.PushBack(w)
	} else {
		w.place = q.line.PushFront(w)
	}
	return true
}

// newsLocked tells the line that something came in.
func (q *queue) newsLocked() {
	q.news++
	q.wakeLocked()
}

// wakeLocked wakes the first waiter, unless one is awake already.
func (q *queue) wakeLocked() {
	front := q.line.Front()
	if q.awake != nil || front == nil {
		return
	}
	w, _ := q.line.Remove(front).(*waiter)
	w.place = nil
	q.awake = w
	w.ready <- struct{}{}
}

// looked is called by a waiter that has looked: it is no longer the one that is
// awake, and the next is woken if there may be something for it.
func (q *queue) looked(w *waiter, seen uint64, found bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.awake == w {
		q.awake = nil
	}
	if q.news != seen || (found && q.anyLocked()) {
		q.wakeLocked()
	}
}

// leave is called by a waiter that goes. If it was woken and has not looked,
// the next one is woken in its place.
func (q *queue) leave(w *waiter) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if w.place != nil {
		q.line.Remove(w.place)
		w.place = nil
	}
	if q.awake == w {
		q.awake = nil
		q.wakeLocked()
	}
}

// StopWaiting ends the wait of all readers, now and from now on: they get an
// empty answer.
func (e *Engine) StopWaiting() { e.stopWaiting() }
