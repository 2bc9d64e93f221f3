package engine_test

import (
	"context"
	"slices"
	"time"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/storage"
)

// take takes messages without a lease, and finishes the delivery as delivered or not.
func (c *client) take() {
	user := c.user()
	c.takeWith(user, messaging.TakeOptions{Limit: 1 + c.random.IntN(4)})
}

// await takes messages without a lease, and waits for one if there is none.
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
				m.doubt() // after a crash it may be delivered again
			}
		}
	})
	h.Finish(on && arrived)
	if arrived {
		c.ledger.note(func() { c.ledger.taken = append(c.ledger.taken, found...) })
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
				deliveries-- // it did not arrive, so it does not count
			}
			m.deliveries, m.due = deliveries, time.Time{}
			if arrived {
				c.held = append(c.held, heldReceipt{m, h.Messages[i].Receipt})
			}
		}
	})
	h.Finish(arrived)
}

// some returns some of the client's receipts, all of one user.
func (c *client) some() (user messaging.UserID, chosen []heldReceipt) {
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

func unzip(chosen []heldReceipt) (messages []*sent, receipts []string) {
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
				c.Errorf("message %q of %s had been removed, and could be acknowledged", m.text, user)
			}
		}
		if !slices.Contains(outcomes, messaging.Acked) {
			r.takes = 0 // nothing was committed
		}
		c.ledger.end(r, func(i int) bool { return outcomes[i] == messaging.Acked })
	})
}

// nack nacks messages, with or without a delay.
func (c *client) nack() {
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
	outcomes, err := c.engine.Nack(user, receipts, delay)
	if err != nil {
		c.complain("reject", err)
		return
	}
	c.ledger.note(func() {
		for i, m := range messages {
			exhausted := c.config.MaxDeliveries > 0 && m.deliveries >= c.config.MaxDeliveries // then it becomes a dead letter
			if outcomes[i] == messaging.Nacked && delay > 0 && !exhausted && m.redrives == redrives[i] {
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

// redrive requeues a dead letter.
func (c *client) redrive() {
	page, err := c.engine.DeadLetters().ListDeadLetters(messaging.DeadLetterFilter{Limit: 5, Kind: messaging.Undeliverable})
	if err != nil {
		c.complain("list dead letters", err)
		return
	}
	if len(page.DeadLetters) == 0 {
		return
	}
	letter := &page.DeadLetters[c.random.IntN(len(page.DeadLetters))]
	recipients, err := c.engine.DeadLetters().DeadRecipients(letter, "", 10)
	if err != nil || len(recipients) == 0 {
		return
	}
	dead := recipients[c.random.IntN(len(recipients))]
	var m *sent
	removals := 0
	if !c.ledger.note(func() {
		if m = c.findOne(&dead.Message); m != nil {
			m.redrives++
			m.gone, m.unsure, m.deliveries, m.due = 0, true, 0, time.Time{}
			if removals = m.removals; m.removing > 0 {
				removals = -1
			}
		}
	}) || m == nil {
		return
	}
	results, err := c.engine.DeadLetters().RequeueDeadLetters([]messaging.DeadRecipient{dead}, messaging.Progress{})
	if err != nil {
		c.complain("redrive", err)
		return
	}
	c.ledger.note(func() {
		if results[0] == (messaging.RequeueResult{}) && m.redrives == 1 && m.removals == removals {
			m.unsure = false
		}
	})
}

// findOne finds a message of a dead letter.
func (c *client) findOne(m *messaging.Message) *sent {
	found := c.ledger.messages[address{m.Receiver.User, texts(c, []messaging.Message{*m})[0]}]
	if found == nil {
		c.Errorf("there is a dead letter of message %d, which was never sent", m.Position.Sequence)
	}
	return found
}

// drain sends a page of the log to the backend, and sometimes makes its position durable.
func (c *client) drain() {
	c.draining <- struct{}{}
	defer func() { <-c.draining }()
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
	if err := c.engine.DeadLetters().SaveProgress(messaging.Progress{Position: &next}); err != nil {
		c.complain("save the position", err)
		return
	}
	c.ledger.note(func() { c.ledger.saved = next })
}

// mark makes the watermark of acknowledged messages durable.
func (c *client) mark() {
	c.draining <- struct{}{}
	defer func() { <-c.draining }()
	mark := storage.Watermark{Sequence: c.log.Durable(), Generation: c.log.Generation()}
	if err := c.store.Control().SaveWatermark(mark); err != nil {
		c.complain("save the watermark", err)
		return
	}
	c.ledger.note(func() { c.ledger.mark = mark })
}

// trimEarly makes one pass of early trim.
func (c *client) trimEarly() {
	if _, err := c.engine.TrimEarly(context.Background(), 1); err != nil {
		c.complain("trim early", err)
	}
}
