package engine

import "testing"

func newWaiter() *waiter { return &waiter{ready: make(chan struct{}, 1)} }

func isAwake(w *waiter) bool { return len(w.ready) == 1 }

func TestWakeUpOfAWaiterThatHasLeftPassesToTheNext(t *testing.T) {
	q := &queue{}
	first, second := newWaiter(), newWaiter()
	if !q.join(first, 0, true) || !q.join(second, 0, true) {
		t.Fatal("join returned false")
	}
	q.mu.Lock()
	q.bumpVersionLocked()
	q.mu.Unlock()
	if !isAwake(first) || isAwake(second) {
		t.Fatalf("awake: first %t, second %t; want the first alone", isAwake(first), isAwake(second))
	}
	q.leave(first) // its client has disconnected, and it will not scan
	if !isAwake(second) {
		t.Fatal("the wake-up was lost")
	}
}

func TestWaiterDoesNotWaitAfterANewerArrival(t *testing.T) {
	q := &queue{}
	seen := q.version
	q.mu.Lock()
	q.bumpVersionLocked()
	q.mu.Unlock()
	if w := newWaiter(); q.join(w, seen, true) || q.waiters.Len() != 0 {
		t.Fatal("it waits although a message arrived")
	}
}

func TestWaiterThatFoundNothingIsFirstAgain(t *testing.T) {
	q := &queue{}
	first, second := newWaiter(), newWaiter()
	q.join(first, 0, true)
	q.join(second, 0, true)
	q.mu.Lock()
	q.bumpVersionLocked()
	q.mu.Unlock()
	<-first.ready
	q.scanned(first, q.version, false) // another reader took the message first
	if isAwake(second) {
		t.Fatal("the next waiter was woken without a message")
	}
	q.join(first, q.version, false)
	q.mu.Lock()
	q.bumpVersionLocked()
	q.mu.Unlock()
	if !isAwake(first) || isAwake(second) {
		t.Fatal("it is not the first waiter")
	}
}
