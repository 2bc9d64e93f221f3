package engine_test

import (
	"context"
	"strconv"
	"sync"
	"testing"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/engine"
)

func TestTakeReturnsHigherPrioritiesFirstAndEachInOrder(t *testing.T) { // invariant 3
	r := newRig(t, engine.Config{})
	for i, p := range []messaging.Priority{messaging.Low, messaging.Normal, messaging.High, messaging.Normal, messaging.High, messaging.Low} {
		r.send("u", strconv.Itoa(i), p)
	}
	r.reopen()
	wantTexts(t, r.take("u", 3), "2", "4", "1")
	wantTexts(t, r.take("u", 10), "3", "0", "5")
	wantTexts(t, r.take("u", 10))
}

func TestUndeliveredMessagesKeepTheirOrder(t *testing.T) { // invariant 4
	r := newRig(t, engine.Config{})
	for i := range 4 {
		r.send("u", strconv.Itoa(i), messaging.Normal)
	}
	first, err := r.engine.Take(context.Background(), "u", messaging.TakeOptions{Limit: 2})
	if err != nil {
		t.Fatal(err)
	}
	wantTexts(t, r.take("u", 1), "2") // no other reader gets 0 and 1 in between
	first.Finish(false)
	wantTexts(t, r.take("u", 10), "0", "1", "3")
}

func TestCrashDuringDeliveryLeavesMessagesQueued(t *testing.T) {
	r := newRig(t, engine.Config{})
	r.send("u", "0", messaging.Normal)
	h, err := r.engine.Take(context.Background(), "u", messaging.TakeOptions{Limit: 1})
	if err != nil {
		t.Fatal(err)
	}
	wantTexts(t, texts(t, h.Messages), "0")
	r.reopen()
	wantTexts(t, r.take("u", 1), "0")
}

func TestConcurrentTakersGetEachMessageOnce(t *testing.T) {
	r := newRig(t, engine.Config{})
	const n = 400
	for i := range n {
		r.send("u", strconv.Itoa(i), messaging.Priority(i%3))
	}
	var mu sync.Mutex
	got := make(map[string]int)
	var wg sync.WaitGroup
	for i := range 6 {
		wg.Go(func() {
			for n := i; ; n++ {
				h, err := r.engine.Take(context.Background(), "u", messaging.TakeOptions{Limit: 7})
				if err != nil {
					t.Error(err)
					return
				}
				if len(h.Messages) == 0 {
					h.Finish(true)
					return
				}
				delivered := n%3 != 0
				if delivered {
					mu.Lock()
					for _, text := range texts(t, h.Messages) {
						got[text]++
					}
					mu.Unlock()
				}
				h.Finish(delivered)
			}
		})
	}
	wg.Wait()
	for _, text := range r.take("u", 1000) {
		got[text]++
	}
	if len(got) != n {
		t.Errorf("%d of %d messages were delivered", len(got), n)
	}
	for text, times := range got {
		if times != 1 {
			t.Errorf("message %s was delivered %d times", text, times)
		}
	}
}
