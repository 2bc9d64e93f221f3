package engine

import (
	"container/list"
	"context"
	"time"

	"github.com/stayafrica/messaging"
)

// waiter is a reader that waits for a message. At most one waiter is awake: it scans and
// then wakes the next if there may be more. So one message wakes one waiter, however many
// there are.
type waiter struct {
	ready   chan struct{}
	element *list.Element // in waiters; nil while it is not there
}

// scanOrWait scans for messages and, if there are none, waits for one for at most o.Wait.
func (e *Engine) scanOrWait(ctx context.Context, q *queue, o messaging.TakeOptions) ([]claimedMessage, error) {
	found, seen, err := e.scan(q, o.Limit, o.Bytes, true)
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
		found, seen, err = e.scan(q, o.Limit, o.Bytes, true)
		q.scanned(w, seen, len(found) > 0)
		if err != nil || len(found) > 0 {
			return found, err
		}
	}
}

// join adds a waiter to waiters: at the end, or at the front if it was there before. It
// returns false if something arrived since its scan.
func (q *queue) join(w *waiter, seen uint64, first bool) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.version != seen {
		return false
	}
	if first {
		w.element = q.waiters.PushBack(w)
	} else {
		w.element = q.waiters.PushFront(w)
	}
	return true
}

// bumpVersionLocked records an arrival and wakes a waiter.
func (q *queue) bumpVersionLocked() {
	q.version++
	q.wakeLocked()
}

// wakeLocked wakes the first waiter, unless one is awake already.
func (q *queue) wakeLocked() {
	front := q.waiters.Front()
	if q.woken != nil || front == nil {
		return
	}
	w, _ := q.waiters.Remove(front).(*waiter)
	w.element = nil
	q.woken = w
	w.ready <- struct{}{}
}

// scanned is called by a waiter after its scan. The waiter is no longer the woken one, and
// the next is woken if there may be a message for it.
func (q *queue) scanned(w *waiter, seen uint64, found bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.woken == w {
		q.woken = nil
	}
	if q.version != seen || (found && q.anyLocked()) {
		q.wakeLocked()
	}
}

// leave removes a waiter that stops waiting. If it was woken and has not scanned, the next
// one is woken instead.
func (q *queue) leave(w *waiter) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if w.element != nil {
		q.waiters.Remove(w.element)
		w.element = nil
	}
	if q.woken == w {
		q.woken = nil
		q.wakeLocked()
	}
}

// StopWaiting ends the waits of all readers, now and from now on. They get an empty
// response.
func (e *Engine) StopWaiting() { e.stopWaiting() }
