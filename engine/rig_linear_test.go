package engine_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/bench/torture"
	"github.com/stayafrica/messaging/engine"
	"github.com/stayafrica/messaging/engine/enginetest"
)

// TestRigLinearizable records the calls of several clients to two queues, and looks for a
// linearization: an order in which a simple queue would have returned the same, with each
// call between its begin and its end.
func TestRigLinearizable(t *testing.T) {
	torture.Run(t, 200/slower, func(r *torture.Round) { linearizable(r, func(e enginetest.Engine) enginetest.Engine { return e }) })
}

func TestRigLinearizableCatchesWrongQueues(t *testing.T) {
	for name, wrong := range wrongQueues {
		t.Run(name, func(t *testing.T) {
			torture.Control(t, 50, func(r *torture.Round) { linearizable(r, wrong) })
		})
	}
}

const (
	linearClients = 4
	linearCalls   = 12
)

// linearizable records one history and checks it.
func linearizable(r *torture.Round, wrap func(e enginetest.Engine) enginetest.Engine) {
	h := &history{Round: r}
	h.engine = wrap(newSlowBoot(r, slowLog(r.Rand.Uint64())).engine)
	var clients sync.WaitGroup
	for n := range linearClients {
		c := &recorder{history: h, number: n, random: rand.New(rand.NewPCG(r.Rand.Uint64(), uint64(n)))}
		clients.Go(func() {
			for range linearCalls {
				c.call()
			}
		})
	}
	clients.Wait()
	h.giveSlack()
	switch porcupine.CheckOperationsTimeout(queueModel, h.operations, 20*time.Second) {
	case porcupine.Ok:
		r.Count("calls", len(h.operations))
	case porcupine.Unknown:
		r.Count("histories too hard to judge", 1)
	case porcupine.Illegal:
		for _, part := range partitionByUser(h.operations) {
			if !porcupine.CheckOperations(queueModel, part) {
				r.Errorf("the history is not linearizable:%s", describe(part))
				return
			}
		}
	}
}

// newSlowBoot opens an engine on a file system with a slow write-ahead log, so that calls
// overlap.
func newSlowBoot(r *torture.Round, delay func(op errorfs.Op) error) *boot {
	l := &life{Round: r, Rand: r.Rand, disk: newDisk(), ledger: newLedger(), memTable: 1 << 20, config: engine.Config{}}
	b, err := l.start(faults{at: delay})
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() {
		if err := b.close(); err != nil {
			r.Errorf("close: %v", err)
		}
	})
	return b
}

func slowLog(seed uint64) func(op errorfs.Op) error {
	var mu sync.Mutex
	random := rand.New(rand.NewPCG(seed, 4))
	return func(op errorfs.Op) error {
		if op.Kind.ReadOrWrite() == errorfs.OpIsWrite && strings.HasSuffix(op.Path, ".log") {
			mu.Lock()
			wait := random.IntN(100)
			mu.Unlock()
			time.Sleep(time.Duration(wait) * time.Microsecond)
		}
		return nil
	}
}

// history is the calls of several clients. Its clock increments at each begin and end.
type history struct {
	*torture.Round

	engine     enginetest.Engine
	clock      atomic.Int64
	texts      atomic.Int64
	mu         sync.Mutex
	operations []porcupine.Operation
	// leasing keeps clears apart from leases that are being granted. A concurrent clear
	// removes messages that neither another reader gets nor this lease, which is not
	// atomic in the model.
	leasing sync.RWMutex
}

// recorder is a client that records its calls.
type recorder struct {
	*history

	number int
	random *rand.Rand
	held   []holding
}

type holding struct {
	user          messaging.UserID
	text, receipt string
}

// record records one call. A call that concerns several users is recorded for each.
func (c *recorder) record(do func() ([]*call, error)) {
	began := c.clock.Add(1)
	calls, err := do()
	ended := c.clock.Add(1)
	if err != nil {
		c.Errorf("a call failed: %v", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, one := range calls {
		c.operations = append(c.operations, porcupine.Operation{ClientId: c.number, Input: one, Call: began, Return: ended})
	}
}

// giveSlack sets the slack of each call that counts messages, from the concurrent calls.
func (h *history) giveSlack() {
	for _, op := range h.operations {
		counting, _ := op.Input.(*call)
		for _, other := range h.operations {
			c, _ := other.Input.(*call)
			if c.user != counting.user || other.Call > op.Return || other.Return < op.Call {
				continue
			}
			switch {
			case counting.kind == "size" && c.kind == "send":
				counting.slack += len(c.sent)
			case counting.kind == "clear" && c.kind == "arrived":
				counting.slack += len(c.texts)
			}
		}
	}
}

func (c *recorder) call() {
	user := users[c.random.IntN(2)]
	switch n := c.random.IntN(20); {
	case n < 6:
		c.send(user, 1+c.random.IntN(2))
	case n < 7:
		c.broadcast()
	case n < 11:
		c.take(user)
	case n < 14:
		c.lease(user)
	case n < 17:
		c.receipt([]string{"ack", "ack", "nack", "nack later", "extend"}[c.random.IntN(5)])
	case n < 18:
		c.record(func() ([]*call, error) {
			limit := 1 + c.random.IntN(5)
			messages, err := c.engine.Peek(user, limit)
			return []*call{{user: user, kind: "peek", limit: limit, texts: texts(c, messages)}}, err
		})
	case n < 19:
		c.record(func() ([]*call, error) {
			counts, err := c.engine.Size(user)
			return []*call{{user: user, kind: "size", count: int(counts.Total())}}, err
		})
	case c.random.IntN(3) == 0:
		c.leasing.Lock()
		defer c.leasing.Unlock()
		c.record(func() ([]*call, error) {
			n, err := c.engine.Clear(user)
			return []*call{{user: user, kind: "clear", count: int(n)}}, err
		})
	}
}

func (c *recorder) text() string { return fmt.Sprint("m", c.texts.Add(1)) }

func (c *recorder) send(user messaging.UserID, n int) {
	sent := &call{user: user, kind: "send"}
	drafts := make([]messaging.Draft, n)
	for i := range drafts {
		m := item{text: c.text(), priority: messaging.Priority(c.random.IntN(messaging.Priorities))}
		sent.sent = append(sent.sent, m)
		drafts[i] = draft(c, string(user), m.text, m.priority)
	}
	c.record(func() ([]*call, error) {
		_, err := c.engine.SendAll(drafts, messaging.IdempotencyKey{})
		return []*call{sent}, err
	})
}

func (c *recorder) broadcast() {
	text := c.text()
	b, err := messaging.ParseBroadcast(fmt.Appendf(nil, `{"message":{"sender_id":1,"text":%q},"user_ids":[%q,%q]}`, text, users[0], users[1]))
	if err != nil {
		c.Errorf("parse a broadcast: %v", err)
		return
	}
	sent := []item{{text: text, priority: messaging.Normal}}
	c.record(func() ([]*call, error) {
		_, err := c.engine.Broadcast(b, messaging.IdempotencyKey{})
		return []*call{{user: users[0], kind: "send", sent: sent}, {user: users[1], kind: "send", sent: sent}}, err
	})
}

// take is two calls: messages are delivered, and then the delivery has arrived or not.
func (c *recorder) take(user messaging.UserID) {
	var h messaging.Delivery
	limit := 1 + c.random.IntN(3)
	c.record(func() (_ []*call, err error) {
		h, err = c.engine.Take(context.Background(), user, messaging.TakeOptions{Limit: limit})
		return []*call{{user: user, kind: "take", limit: limit, texts: texts(c, h.Messages)}}, err
	})
	end := &call{user: user, kind: "arrived", texts: texts(c, h.Messages)}
	arrived := c.random.IntN(4) > 0
	if !arrived {
		end.kind = "undelivered"
	}
	c.record(func() ([]*call, error) {
		h.Finish(arrived)
		return []*call{end}, nil
	})
}

func (c *recorder) lease(user messaging.UserID) {
	limit := 1 + c.random.IntN(3)
	c.leasing.RLock()
	defer c.leasing.RUnlock()
	c.record(func() ([]*call, error) {
		h, err := c.engine.Take(context.Background(), user, messaging.TakeOptions{Limit: limit, Lease: time.Hour})
		h.Finish(true)
		leased := &call{user: user, kind: "lease", limit: limit, texts: texts(c, h.Messages)}
		for i := range h.Messages {
			leased.given = append(leased.given, h.Messages[i].Receipt)
			c.held = append(c.held, holding{user, leased.texts[i], h.Messages[i].Receipt})
		}
		return []*call{leased}, err
	})
}

// receipt makes a call with a receipt, which may be an old one.
func (c *recorder) receipt(kind string) {
	if len(c.held) == 0 {
		return
	}
	held := c.held[c.random.IntN(len(c.held))]
	list := []string{held.receipt}
	c.record(func() ([]*call, error) {
		var outcomes []messaging.Outcome
		var err error
		switch kind {
		case "ack":
			outcomes, err = c.engine.Acknowledge(held.user, list)
		case "nack":
			outcomes, err = c.engine.Nack(held.user, list, 0)
		case "nack later":
			outcomes, err = c.engine.Nack(held.user, list, time.Hour)
		default:
			outcomes, err = c.engine.Extend(held.user, list, time.Hour)
		}
		done := &call{user: held.user, kind: kind, receipt: held.receipt, texts: []string{held.text}}
		if len(outcomes) == 1 {
			done.outcome = outcomes[0]
		}
		return []*call{done}, err
	})
}
