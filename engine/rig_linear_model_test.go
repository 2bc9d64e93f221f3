package engine_test

import (
	"fmt"
	"hash/maphash"
	"slices"
	"strings"

	"github.com/anishathalye/porcupine"

	"github.com/stayafrica/messaging"
)

// itemState is the state of a message of the model.
type itemState byte

const (
	ready      itemState = iota
	delivering           // a response with it is being written
	leased
	later
)

// item is a message in the model of a queue, which is in the order of sends.
type item struct {
	text     string
	priority messaging.Priority
	state    itemState
	receipt  string
}

// queueModel is a queue of strict priority, then first in, first out. Each user's queue is
// checked separately.
var queueModel = porcupine.Model{
	Partition: partitionByUser,
	Init:      func() any { return []item(nil) },
	Step:      stepQueue,
	Equal:     func(a, b any) bool { return slices.Equal(asItems(a), asItems(b)) },
	Hash:      hashQueue,
}

var hashSeed = maphash.MakeSeed()

func hashQueue(state any) uint64 {
	var h maphash.Hash
	h.SetSeed(hashSeed)
	for _, i := range asItems(state) {
		maphash.WriteComparable(&h, i)
	}
	return h.Sum64()
}

func asItems(state any) []item { items, _ := state.([]item); return items }

// call is a call of a client with its result.
type call struct {
	user    messaging.UserID
	kind    string
	sent    []item // by send
	limit   int    // of take, lease and peek
	texts   []string
	receipt string   // of ack, nack, nack later and extend
	given   []string // receipts, by lease
	outcome messaging.Outcome
	count   int
	// slack is by how much a count may exceed the model's: concurrent sends that are not
	// durable count, and concurrent removals may.
	slack int
}

// String implements [fmt.Stringer].
func (c *call) String() string {
	return fmt.Sprintf("%s %s %v limit %d: %v %v %s %s %d", c.user, c.kind, c.sent, c.limit, c.texts, c.given, c.receipt, c.outcome, c.count)
}

func partitionByUser(history []porcupine.Operation) [][]porcupine.Operation {
	byUser := make(map[messaging.UserID][]porcupine.Operation)
	for _, op := range history {
		if c, ok := op.Input.(*call); ok {
			byUser[c.user] = append(byUser[c.user], op)
		}
	}
	parts := make([][]porcupine.Operation, 0, len(byUser))
	for _, part := range byUser {
		parts = append(parts, part)
	}
	return parts
}

func stepQueue(state, input, _ any) (bool, any) {
	c, _ := input.(*call)
	queue := slices.Clone(asItems(state))
	switch c.kind {
	case "send":
		return true, append(queue, c.sent...)
	case "take", "lease", "peek":
		return stepDelivery(queue, c)
	case "arrived":
		return true, slices.DeleteFunc(queue, func(i item) bool { return i.state == delivering && slices.Contains(c.texts, i.text) })
	case "undelivered":
		for i := range queue {
			if queue[i].state == delivering && slices.Contains(c.texts, queue[i].text) {
				queue[i].state = ready
			}
		}
		return true, queue
	case "size":
		return len(queue) <= c.count && c.count <= len(queue)+c.slack, queue
	case "clear":
		return len(queue) <= c.count && c.count <= len(queue)+c.slack, []item(nil)
	}
	return stepReceipt(queue, c)
}

// stepDelivery expects the first ready messages, all of them up to the limit.
func stepDelivery(queue []item, c *call) (bool, any) {
	var first []int
	for p := messaging.High; p <= messaging.Low; p++ {
		for i := range queue {
			if queue[i].state == ready && queue[i].priority == p && len(first) < c.limit {
				first = append(first, i)
			}
		}
	}
	if len(first) != len(c.texts) {
		return false, queue
	}
	for n, i := range first {
		if queue[i].text != c.texts[n] {
			return false, queue
		}
		switch c.kind {
		case "take":
			queue[i].state = delivering
		case "lease":
			queue[i].state, queue[i].receipt = leased, c.given[n]
		}
	}
	return true, queue
}

// stepReceipt expects a receipt to be valid exactly while its lease is in force.
func stepReceipt(queue []item, c *call) (bool, any) {
	at := slices.IndexFunc(queue, func(i item) bool { return i.state == leased && i.receipt == c.receipt })
	if at < 0 {
		queued := slices.ContainsFunc(queue, func(i item) bool { return i.text == c.texts[0] })
		return queued && c.outcome == messaging.Expired || !queued && c.outcome == messaging.Unknown, queue
	}
	switch c.kind {
	case "ack":
		return c.outcome == messaging.Acked, slices.Delete(queue, at, at+1)
	case "extend":
		return c.outcome == messaging.Extended, queue
	case "nack":
		queue[at].state, queue[at].receipt = ready, ""
	case "nack later":
		queue[at].state, queue[at].receipt = later, ""
	}
	return c.outcome == messaging.Nacked, queue
}

// describe prints a history in the order in which its calls began.
func describe(history []porcupine.Operation) string {
	sorted := slices.Clone(history)
	slices.SortFunc(sorted, func(a, b porcupine.Operation) int { return int(a.Call - b.Call) })
	var b strings.Builder
	for _, op := range sorted {
		fmt.Fprintf(&b, "\n%4d to %4d, client %d: %v", op.Call, op.Return, op.ClientId, op.Input)
	}
	return b.String()
}
