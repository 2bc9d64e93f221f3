package engine_test

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/stayafrica/messaging"
)

// users are the users whose queues the clients use.
var users = []messaging.UserID{"u0", "u1", "u2"}

// client makes random calls, one after the other, and keeps the ledger.
type client struct {
	*boot

	number int
	random *rand.Rand
	texts  int
	held   []heldReceipt
}

// heldReceipt is a leased message with its receipt.
type heldReceipt struct {
	message *sent
	receipt string
}

func newClient(b *boot, number int) *client {
	return &client{boot: b, number: number, random: rand.New(rand.NewPCG(b.Rand.Uint64(), uint64(number)))}
}

// move is a call that clients make, and its relative frequency.
type move struct {
	weight int
	do     func(c *client)
}

var everyMove = []move{
	{20, (*client).send},
	{6, (*client).sendAll},
	{5, (*client).broadcast},
	{6, (*client).sendWithKey},
	{11, (*client).take},
	{3, (*client).await},
	{12, (*client).lease},
	{10, (*client).acknowledge},
	{6, (*client).nack},
	{3, (*client).extend},
	{2, (*client).clear},
	{4, (*client).query},
	{5, (*client).redrive},
	{8, (*client).drain},
	{4, (*client).mark},
	{5, (*client).pause},
	{2, (*client).broadcastToMany},
	{3, (*client).trimEarly},
}

// work makes so many moves, or as many as are possible before the power is cut.
func (c *client) work(moves int) {
	total := 0
	for _, m := range c.moves {
		total += m.weight
	}
	for range moves {
		if !c.ledger.note(func() {}) {
			return
		}
		n := c.random.IntN(total)
		for _, m := range c.moves {
			if n -= m.weight; n < 0 {
				m.do(c)
				break
			}
		}
	}
}

func (c *client) user() messaging.UserID { return users[c.random.IntN(len(users))] }

func (c *client) text() string {
	c.texts++
	return fmt.Sprintf("%d.%d.%d", c.boots, c.number, c.texts)
}

// compose returns a message for a user, and the JSON fields for its due and expiry times.
func (c *client) compose(user messaging.UserID, text string) (m *sent, fields string) {
	m = &sent{address: address{user, text}, priority: messaging.Priority(c.random.IntN(messaging.Priorities))}
	delay := 0
	if c.config.Retention > time.Hour && c.random.IntN(5) == 0 {
		delay = 1 + c.random.IntN(20)
		m.due = time.Now().Add(time.Duration(delay) * time.Second)
		fields += fmt.Sprintf(`,"delay_seconds":%d`, delay)
	}
	if c.random.IntN(5) == 0 {
		ttl := delay + 1 + c.random.IntN(30)
		m.expires = time.Now().Add(time.Duration(ttl) * time.Second)
		fields += fmt.Sprintf(`,"ttl_seconds":%d`, ttl)
	}
	return m, fields
}

// parse returns the draft of a message.
func (c *client) parse(m *sent, fields string) (messaging.Draft, bool) {
	d, err := messaging.ParseDraft(fmt.Appendf(nil, `{"conversation_id":1,"sender_id":2,"receiver_id":%q,"text":%q,"priority":%q%s}`,
		m.user, m.text, m.priority, fields))
	if err != nil {
		c.Errorf("parse a message: %v", err)
	}
	return d, err == nil
}

func (c *client) send() {
	m, fields := c.compose(c.user(), c.text())
	d, ok := c.parse(m, fields)
	if !ok {
		return
	}
	c.storeOne(messaging.IdempotencyKey{}, []*sent{m}, func(o messaging.IdempotencyKey) (messaging.SendResult, error) { return c.engine.Send(d, o) })
}

// storeOne makes one call that stores messages.
func (c *client) storeOne(
	o messaging.IdempotencyKey, messages []*sent, call func(o messaging.IdempotencyKey) (messaging.SendResult, error),
) (receipt messaging.SendResult, ok bool) {
	takes, ok := c.ledger.begin(messages...)
	if !ok {
		return receipt, false
	}
	receipt, err := call(o)
	if err != nil {
		c.complain("send", err)
		return receipt, false
	}
	if receipt.Duplicate {
		takes = 0 // nothing was committed
	}
	c.ledger.answered(takes, receipt, messages)
	if receipt.Duplicate {
		c.ledger.note(func() { c.ledger.forgotten(messages) })
	}
	return receipt, true
}

func (c *client) sendAll() {
	n := 2 + c.random.IntN(6)
	g := &group{size: n}
	messages, drafts := make([]*sent, n), make([]messaging.Draft, n)
	for i := range messages {
		m, fields := c.compose(c.user(), c.text())
		d, ok := c.parse(m, fields)
		if !ok {
			return
		}
		m.group = g
		messages[i], drafts[i] = m, d
	}
	c.storeOne(messaging.IdempotencyKey{}, messages, func(o messaging.IdempotencyKey) (messaging.SendResult, error) { return c.engine.SendAll(drafts, o) })
}

func (c *client) broadcast() {
	some := slices.Clone(users)[:1+c.random.IntN(len(users))]
	template, fields := c.compose("", c.text())
	messages := make([]*sent, len(some))
	for i, user := range some {
		m := *template
		m.user = user
		messages[i] = &m
	}
	b, ok := c.parseBroadcast(template, fields, some)
	if !ok {
		return
	}
	c.storeOne(messaging.IdempotencyKey{}, messages, func(o messaging.IdempotencyKey) (messaging.SendResult, error) { return c.engine.Broadcast(b, o) })
}

func (c *client) parseBroadcast(m *sent, fields string, to []messaging.UserID) (messaging.Broadcast, bool) {
	names := make([]string, len(to))
	for i := range to {
		names[i] = string(to[i])
	}
	b, err := messaging.ParseBroadcast(fmt.Appendf(nil, `{"message":{"sender_id":1,"text":%q,"priority":%q%s},"user_ids":["%s"]}`,
		m.text, m.priority, fields, strings.Join(names, `","`)))
	if err != nil {
		c.Errorf("parse a broadcast: %v", err)
	}
	return b, err == nil
}

// broadcastToMany sends to more users than fit one commit. No client takes from their
// queues.
func (c *client) broadcastToMany() {
	many := make([]messaging.UserID, messaging.ReceiversPerChunk+1+c.random.IntN(50))
	for i := range many {
		many[i] = messaging.UserID(fmt.Sprintf("b%d", i))
	}
	text, takes := "large "+c.text(), 0
	large := &largeSent{recipients: len(many)}
	due := false
	ok := c.ledger.note(func() {
		if due = c.budget > 0; due {
			c.budget--
			takes = len(c.ledger.taken)
			c.ledger.large[text] = large
		}
	})
	if !ok || !due {
		return
	}
	b, ok := c.parseBroadcast(&sent{address: address{text: text}, priority: messaging.Normal}, "", many)
	if !ok {
		return
	}
	receipt, err := c.engine.Broadcast(b, messaging.IdempotencyKey{})
	if err != nil {
		c.complain("broadcast", err)
		return
	}
	c.ledger.note(func() {
		c.ledger.committed(takes)
		large.acknowledged, large.sequence = true, receipt.Sequence
	})
	c.Count("large broadcasts", 1)
}

// idempotencyKeys is the number of idempotency keys.
const idempotencyKeys = 9

// sendWithKey makes a call with an idempotency key. It is always the same call for the same
// key.
func (c *client) sendWithKey() { c.repeat(c.random.IntN(idempotencyKeys)) }

// repeat makes the call of an idempotency key, and compares its result with the first one.
func (c *client) repeat(key int) {
	name := fmt.Sprintf("k%d", key)
	messages := []*sent{{address: address{users[key%len(users)], name}}}
	var call func(o messaging.IdempotencyKey) (messaging.SendResult, error)
	var kind string
	switch key % 3 {
	case 0:
		kind = "send"
		d, _ := c.parse(messages[0], "")
		call = func(o messaging.IdempotencyKey) (messaging.SendResult, error) { return c.engine.Send(d, o) }
	case 1:
		kind = "batch"
		messages = append(messages, &sent{address: address{users[0], name + " again"}})
		messages[0].group = &group{size: 2}
		messages[1].group = messages[0].group
		first, _ := c.parse(messages[0], "")
		second, _ := c.parse(messages[1], "")
		call = func(o messaging.IdempotencyKey) (messaging.SendResult, error) {
			return c.engine.SendAll([]messaging.Draft{first, second}, o)
		}
	case 2:
		kind = "broadcast"
		messages = append(messages, &sent{address: address{users[0], name}})
		b, _ := c.parseBroadcast(messages[0], "", []messaging.UserID{messages[0].user, users[0]})
		call = func(o messaging.IdempotencyKey) (messaging.SendResult, error) { return c.engine.Broadcast(b, o) }
	}
	receipt, ok := c.storeOne(messaging.NewIdempotencyKey("", kind, name, [32]byte{byte(key)}), messages, call)
	if ok {
		c.ledger.note(func() { c.compareWithFirst(key, receipt) })
	}
}

// compareWithFirst compares a result with the first one of its key.
func (c *client) compareWithFirst(key int, receipt messaging.SendResult) {
	first := c.ledger.keys[key]
	if first == nil {
		first = &keyed{}
		c.ledger.keys[key] = first
	}
	again := receipt
	again.Duplicate = false
	switch {
	case !first.answered:
		first.answered, first.receipt = true, again
	case first.receipt != again:
		c.Errorf("idempotency key %d returned %+v and then %+v", key, first.receipt, receipt)
	}
}

// find returns the ledger's entries of messages that a call delivered. began is when the
// call began, by the ledger's clock. Each message must be one that may be there, and they
// must be in order.
func (c *client) find(user messaging.UserID, began int, messages []messaging.Message) []*sent {
	found := make([]*sent, 0, len(messages))
	texts := texts(c, messages)
	for i := range messages {
		m := c.ledger.messages[address{user, texts[i]}]
		switch {
		case m == nil:
			c.Errorf("user %s got message %q, which was never sent", user, texts[i])
			continue
		case m.had(began):
			c.Errorf("user %s got message %q, which had been removed", user, texts[i])
		case i > 0 && cmp.Or(cmp.Compare(messages[i-1].Priority, messages[i].Priority),
			cmp.Compare(messages[i-1].Position.Sequence, messages[i].Position.Sequence)) >= 0:
			c.Errorf("user %s got message %q out of order", user, texts[i])
		}
		found = append(found, m)
	}
	return found
}

// pause lets some time pass.
func (c *client) pause() { time.Sleep(time.Duration(c.random.IntN(30_000)) * time.Millisecond) }

// query makes calls that change nothing.
func (c *client) query() {
	user := c.user()
	if _, err := c.engine.Size(user); err != nil {
		c.complain("size", err)
	}
	var messages []messaging.Message
	ok := c.ledger.note(func() {})
	messages, err := c.engine.Peek(user, 5)
	if err != nil {
		c.complain("peek", err)
	}
	if ok {
		c.ledger.note(func() { c.findShown(user, messages) })
	}
}

// findShown is find for messages that may have been removed since they were returned.
func (c *client) findShown(user messaging.UserID, messages []messaging.Message) {
	for _, text := range texts(c, messages) {
		if c.ledger.messages[address{user, text}] == nil {
			c.Errorf("user %s peeked message %q, which was never sent", user, text)
		}
	}
}
