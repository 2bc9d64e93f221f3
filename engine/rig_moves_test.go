package engine_test

import (
	"context"
	"slices"
	"time"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/storage"
)

// take takes messages for good, or gives them back because they did not arrive.
func (c *client) take() {
	user := c.user()
	c.takeWith(user, messaging.TakeOptions{Limit: 1 + c.random.IntN(4)})
}

// await takes messages for good, and waits for one where there is none.
func (c *client) await() {
	c.takeWith(c.user(), messaging.TakeOptions{Limit: 1 + c.random.IntN(4), Wait: 2 * time.Second})
}

func (c *client) takeWith(user messaging.UserID, o messaging.TakeOptions) {
	began := c.ledger.now()
	h, err := c.engine.Take(context.Background(), user, o)
	if err != nil {
		c.complain("take", err)
		return
	}
	arrived := c.random.IntN(4) > 0
	var found []*sent
	on := c.ledger.note(func() {
		found = c.find(user, began, h.Messages)
		for _, m := range found {
			if arrived {
				m.doubt() // a crash right after may repeat it
			}
		}
	})
	h.Settle(on && arrived)
	if arrived {
		c.ledger.note(func() { c.ledger.settled = append(c.ledger.settled, found...) })
	}
}

// lease takes messages under a lease.
func (c *client) lease() {
	user := c.user()
	term := time.Duration(1+c.random.IntN(30)) * time.Second
	began := c.ledger.now()
	h, err := c.engine.Take(context.Background(), user, messaging.TakeOptions{Limit: 1 + c.random.IntN(4), Lease: term})
	if err != nil {
		c.complain("lease", err)
		return
	}
	arrived := c.random.IntN(8) > 0
	c.ledger.note(func() {
		for i, m := range c.find(user, began, h.Messages) {
			deliveries := h.Messages[i].Deliveries
			if deliveries <= m.deliveries && m.redrives == 0 {
				c.Errorf("message %q of %s was delivered %d times and then %d times", m.text, user, m.deliveries, deliveries)
			}
			if !arrived {
				deliveries-- // it was no delivery
			}
			m.deliveries, m.due = deliveries, time.Time{}
			if arrived {
				c.held = append(c.held, lent{m, h.Messages[i].Receipt})
			}
		}
	})
	h.Settle(arrived)
}

// some gives a few of the receipts that the client has, all of one user.
func (c *client) some() (user messaging.UserID, chosen []lent) {
	if len(c.held) == 0 {
		return "", nil
	}
	user = c.held[c.random.IntN(len(c.held))].message.user
	for _, l := range c.held {
		if l.message.user == user && len(chosen) < 3 && c.random.IntN(3) > 0 {
			chosen = append(chosen, l)
		}
	}
	return user, chosen
}

func unzip(chosen []lent) (messages []*sent, receipts []string) {
	for _, l := range chosen {
		messages, receipts = append(messages, l.message), append(receipts, l.receipt)
	}
	return messages, receipts
}

func (c *client) acknowledge() {
	user, chosen := c.some()
	if len(chosen) == 0 {
		return
	}
	messages, receipts := unzip(chosen)
	var r removal
	if !c.ledger.note(func() { r = c.ledger.remove(messages) }) {
		return
	}
	outcomes, err := c.engine.Acknowledge(user, receipts)
	if err != nil {
		c.complain("acknowledge", err)
		return
	}
	c.ledger.note(func() {
		for i, m := range messages {
			if outcomes[i] == messaging.Acked && m.had(r.began) {
				c.Errorf("message %q of %s had gone, and could be acknowledged", m.text, user)
			}
		}
		if !slices.Contains(outcomes, messaging.Acked) {
			r.takes = 0 // nothing was committed
		}
		c.ledger.end(r, func(i int) bool { return outcomes[i] == messaging.Acked })
	})
}

// reject gives messages back, at once or later.
func (c *client) reject() {
	user, chosen := c.some()
	if len(chosen) == 0 {
		return
	}
	messages, receipts := unzip(chosen)
	delay := time.Duration(c.random.IntN(3)) * 10 * time.Second
	began, redrives := time.Now(), make([]int, len(messages))
	if !c.ledger.note(func() {
		for i, m := range messages {
			redrives[i] = m.redrives
		}
	}) {
		return
	}
	outcomes, err := c.engine.Reject(user, receipts, delay)
	if err != nil {
		c.complain("reject", err)
		return
	}
	c.ledger.note(func() {
		for i, m := range messages {
			spent := c.config.MaxDeliveries > 0 && m.deliveries >= c.config.MaxDeliveries // then it becomes a dead letter
			if outcomes[i] == messaging.Nacked && delay > 0 && !spent && m.redrives == redrives[i] {
				m.due = began.Add(delay)
			}
		}
	})
}

func (c *client) extend() {
	user, chosen := c.some()
	if len(chosen) == 0 {
		return
	}
	_, receipts := unzip(chosen)
	if _, err := c.engine.Extend(user, receipts, time.Duration(1+c.random.IntN(60))*time.Second); err != nil {
		c.complain("extend", err)
	}
}

func (c *client) clear() {
	user := c.user()
	var r removal
	if !c.ledger.note(func() {
		c.ledger.clearing[user]++
		r = c.ledger.remove(c.ledger.of(user))
	}) {
		return
	}
	if _, err := c.engine.Clear(user); err != nil {
		c.complain("clear", err)
		return
	}
	c.ledger.note(func() {
		c.ledger.clearing[user]--
		c.ledger.end(r, func(int) bool { return true })
	})
}

// redrive puts a dead letter back into its queue, and lets go of it.
func (c *client) redrive() {
	page, err := c.store.Control().ListDeadLetters(messaging.DeadLetterFilter{Limit: 5, Kind: messaging.Undeliverable})
	if err != nil {
		c.complain("list dead letters", err)
		return
	}
	if len(page.DeadLetters) == 0 {
		return
	}
	letter := &page.DeadLetters[c.random.IntN(len(page.DeadLetters))]
	copies, err := c.store.Control().DeadCopies(letter, "", 10)
	if err != nil || len(copies) == 0 {
		return
	}
	dead := copies[c.random.IntN(len(copies))]
	var m *sent
	removals := 0
	if !c.ledger.note(func() {
		if m = c.find1(&dead.Message); m != nil {
			m.redrives++
			m.gone, m.unsure, m.deliveries, m.due = 0, true, 0, time.Time{}
			if removals = m.removals; m.removing > 0 {
				removals = -1
			}
		}
	}) || m == nil {
		return
	}
	refusal, err := c.engine.Requeue(&dead.Message, func() error {
		return c.store.Control().SettleDead([]messaging.DeadCopy{dead})
	})
	if err != nil {
		c.complain("requeue", err)
		return
	}
	c.ledger.note(func() {
		if refusal == "" && m.redrives == 1 && m.removals == removals {
			m.unsure = false
		}
	})
}

// find1 finds a message of a dead letter.
func (c *client) find1(m *messaging.Message) *sent {
	found := c.ledger.messages[address{m.Receiver.User, texts(c, []messaging.Message{*m})[0]}]
	if found == nil {
		c.Errorf("there is a dead letter of message %d, which nobody sent", m.Position.Sequence)
	}
	return found
}

// drain gives a page of the log to the backend, and now and then makes the
// position durable that it reached.
func (c *client) drain() {
	c.draining.Lock()
	defer c.draining.Unlock()
	var from messaging.Position
	if !c.ledger.note(func() { from = c.ledger.position }) {
		return
	}
	page, next, err := c.log.Read(from, 1+c.random.IntN(20), 1<<20)
	if err != nil {
		c.complain("read the log", err)
		return
	}
	if !c.ledger.note(func() {
		for i := range page {
			c.ledger.persisted[page[i].Position.Sequence] = page[i].Origin
		}
		c.ledger.position = next
	}) || c.random.IntN(3) > 0 {
		return
	}
	if err := c.store.Control().SavePosition(next); err != nil {
		c.complain("save the position", err)
		return
	}
	c.ledger.note(func() { c.ledger.saved = next })
}

// mark makes durable how far the log is acknowledged.
func (c *client) mark() {
	c.draining.Lock()
	defer c.draining.Unlock()
	mark := storage.Watermark{Sequence: c.log.Durable(), Generation: c.log.Generation()}
	if err := c.store.Control().SaveWatermark(mark); err != nil {
		c.complain("save the watermark", err)
		return
	}
	c.ledger.note(func() { c.ledger.mark = mark })
}
