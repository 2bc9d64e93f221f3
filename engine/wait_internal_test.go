package engine

import "testing"

func newWaiter() *waiter { return &waiter{ready: make(chan struct{}, 1)} }

func isAwake(w *waiter) bool { return len(w.ready) == 1 }

func TestWakeUpOfAWaiterThatHasLeftPassesToTheNext(t *testing.T) {
	q := &queue{}
	first, second := newWaiter(), newWaiter()
	if !q.join(first, 0, true) || !q.join(second, 0, true) {
		t.Fatal("they could not join")
	}
	q.mu.Lock()
	q.newsLocked()
	q.mu.Unlock()
	if !isAwake(first) || isAwake(second) {
		t.Fatalf("awake: first %t, second %t; want the first alone", isAwake(first), isAwake(second))
	}
	q.leave(first) // its client has gone, and it will not look
	if !isAwake(second) {
		t.Fatal("the wake-up was lost")
	}
}

func TestWaiterDoesNotWaitForWhatCameSinceItLooked(t *testing.T) {
	q := &queue{}
	seen := q.news
	q.mu.Lock()
	q.newsLocked()
	q.mu.Unlock()
	if w := newWaiter(); q.join(w, seen, true) || q.line.Len() != 0 {
		t.Fatal("it stands in line though something came in")
	}
}

func TestWaiterThatFoundNothingStandsInFrontAgain(t *testing.T) {
	q := &queue{}
	first, second := newWaiter(), newWaiter()
	q.join(first, 0, true)
	q.join(second, 0, true)
	q.mu.Lock()
	q.newsLocked()
	q.mu.Unlock()
	<-first.ready
	q.looked(first, q.news, false) // someone who did not wait was faster
	if isAwake(second) {
		t.Fatal("the next one was woken for nothing")
	}
	q.join(first, q.news, false)
	q.mu.Lock()
	q.newsLocked()
	q.mu.Unlock()
	if !isAwake(first) || isAwake(second) {
		t.Fatal("it lost its place")
	}
}
