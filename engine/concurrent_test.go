package engine_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/engine"
)

// TestConcurrentMovesLoseNothing makes all moves concurrently on a few queues. Then it
// looks for every sent message: each was taken or acknowledged once, was cleared, or is in
// its queue.
func TestConcurrentMovesLoseNothing(t *testing.T) {
	s := &serving{rig: newRig(t, engine.Config{})}
	s.start()
	defer s.Close()
	w := &workers{t: t, e: s.engine, state: make(map[string]string)}
	var wg sync.WaitGroup
	for i := range 3 {
		wg.Go(func() { w.sender(i) })
		wg.Go(func() { w.taker(i) })
		wg.Go(func() { w.leaser(i) })
	}
	wg.Go(w.peeker)
	wg.Wait()
	w.judge()
}

// workers is a group of goroutines that use an engine, and the state of each message:
// "sent", "gone" or, if it may be either, "cleared".
type workers struct {
	t *testing.T
	e *engine.Engine

	mu    sync.Mutex
	state map[string]string
}

const (
	workerUsers  = 3
	workerRounds = 150
)

func workerUser(n int) messaging.UserID { return messaging.UserID("u" + strconv.Itoa(n%workerUsers)) }

func (w *workers) note(messages []messaging.Message, state string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, text := range texts(w.t, messages) {
		if state == "gone" && w.state[text] == "gone" {
			w.t.Errorf("message %s was taken twice", text)
		}
		w.state[text] = state
	}
}

// sender sends immediate messages, delayed ones, and large broadcasts.
func (w *workers) sender(n int) {
	for i := range workerRounds {
		text := fmt.Sprintf("%d.%d", n, i)
		fields := ""
		if i%3 == 0 {
			fields = `,"delay_seconds":0.01`
		}
		d, err := messaging.ParseDraft(fmt.Appendf(nil, `{"conversation_id":1,"sender_id":2,"receiver_id":%q,"text":%q,"priority":%q%s}`,
			workerUser(i), text, messaging.Priority(i%3), fields))
		if err != nil {
			w.t.Error(err)
			return
		}
		w.mu.Lock()
		w.state[text] = "sent"
		w.mu.Unlock()
		if _, err := w.e.Send(d, messaging.IdempotencyKey{}); err != nil {
			w.t.Errorf("send: %v", err)
			return
		}
	}
}

func (w *workers) taker(n int) {
	random := rand.New(rand.NewPCG(uint64(n), 1))
	for i := range workerRounds {
		h, err := w.e.Take(context.Background(), workerUser(n+i), messaging.TakeOptions{Limit: 1 + i%4, Wait: time.Duration(i%3) * time.Millisecond})
		if err != nil {
			w.t.Errorf("take: %v", err)
			return
		}
		if random.IntN(3) == 0 {
			h.Finish(false)
			continue
		}
		w.note(h.Messages, "gone")
		h.Finish(true)
	}
}

func (w *workers) leaser(n int) {
	random := rand.New(rand.NewPCG(uint64(n), 2))
	for i := range workerRounds {
		user := workerUser(n + i)
		h, err := w.e.Take(context.Background(), user, messaging.TakeOptions{Limit: 1 + i%5, Lease: time.Duration(1+random.IntN(20)) * time.Millisecond})
		if err != nil {
			w.t.Errorf("lease: %v", err)
			return
		}
		h.Finish(random.IntN(5) > 0)
		if len(h.Messages) == 0 {
			continue
		}
		list := make([]string, len(h.Messages))
		for j := range h.Messages {
			list[j] = h.Messages[j].Receipt
		}
		switch random.IntN(4) {
		case 0: // it expires
		case 1:
			_, err = w.e.Nack(user, list, 0)
		case 2:
			_, err = w.e.Nack(user, list, time.Millisecond)
		default:
			var outcomes []messaging.Outcome
			outcomes, err = w.e.Acknowledge(user, list)
			for j, o := range outcomes {
				if o == messaging.Acked {
					w.note(h.Messages[j:j+1], "gone")
				}
			}
		}
		if err != nil {
			w.t.Errorf("receipts: %v", err)
			return
		}
	}
}

func (w *workers) peeker() {
	for i := range workerRounds {
		messages, err := w.e.Peek(workerUser(i), 100)
		if err != nil {
			w.t.Errorf("peek: %v", err)
			return
		}
		for j := 1; j < len(messages); j++ {
			a, b := &messages[j-1], &messages[j]
			if a.Priority > b.Priority || (a.Priority == b.Priority && a.Position.Sequence >= b.Position.Sequence) {
				w.t.Errorf("out of order: %d (%s) before %d (%s)", a.Position.Sequence, a.Priority, b.Position.Sequence, b.Priority)
			}
		}
		if _, err := w.e.Size(workerUser(i)); err != nil {
			w.t.Errorf("size: %v", err)
		}
	}
}

// judge takes the remaining messages when all leases have ended and all messages are due.
func (w *workers) judge() {
	deadline := time.Now().Add(10 * time.Second)
	for {
		left := uint64(0)
		for n := range workerUsers {
			h, err := w.e.Take(context.Background(), workerUser(n), messaging.TakeOptions{Limit: 1000})
			if err != nil {
				w.t.Fatal(err)
			}
			w.note(h.Messages, "gone")
			h.Finish(true)
			counts, err := w.e.Size(workerUser(n))
			if err != nil {
				w.t.Fatal(err)
			}
			left += counts.Total()
		}
		if left == 0 {
			break
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("%d messages are counted and cannot be taken", left)
		}
		time.Sleep(time.Millisecond)
	}
	for text, state := range w.state {
		if state != "gone" {
			w.t.Errorf("message %s is lost", text)
		}
	}
}

// TestClearBesideReadersAndSenders clears queues while others use them. Afterwards counts
// equal entries (invariant 9), which the rig checks. A take that begins after a clear has
// ended returns nothing that was sent before that clear.
func TestClearBesideReadersAndSenders(t *testing.T) {
	s := &serving{rig: newRig(t, engine.Config{})}
	s.start()
	defer s.Close()
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for n := range 2 {
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				s.send("u", strconv.Itoa(i), messaging.Priority(i%3))
				h, err := s.engine.Take(context.Background(), "u", messaging.TakeOptions{Limit: 3, Lease: time.Duration(n) * time.Second})
				if err != nil {
					t.Error(err)
					return
				}
				h.Finish(i%2 == 0)
			}
		})
	}
	for i := range 200 {
		before := s.send("u", "before", messaging.Normal).Sequence
		if _, err := s.engine.Clear("u"); err != nil {
			t.Fatal(err)
		}
		messages, err := s.engine.Peek("u", 1000)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range messages {
			if m.Position.Sequence <= before {
				t.Fatalf("round %d: message %d is there after a clear of all up to %d", i, m.Position.Sequence, before)
			}
		}
	}
	close(stop)
	wg.Wait()
}
