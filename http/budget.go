package http

import (
	"sync/atomic"
	"time"

	"github.com/stayafrica/messaging"
)

// budget bounds the memory of all requests that are being worked on. Each takes
// its part through a [held].
//
// A reader that is slow to read holds the memory of its answer for as long as it
// may. So answers leave a quarter of the budget to the bodies of requests, and
// the less is left to them, the smaller they get: readers who come after the slow
// ones still get something.
type budget struct {
	limit int64
	used  atomic.Int64
}

// held is what one request holds of a budget; it belongs to one goroutine. It
// begins with nothing, grows as the request does, and is released at its end.
type held struct {
	budget *budget
	bytes  int64
}

func (b *budget) hold() *held { return &held{budget: b} }

// answers is what answers may fill of the budget.
func (b *budget) answers() int64 { return b.limit - b.limit/4 }

// maxAnswer bounds an answer while there is room, answerShare is what one may
// take of what is left to answers.
const (
	maxAnswer   = 8 << 20
	answerShare = 8
)

// answerRoom is how large an answer may be now, but for its first message.
func (b *budget) answerRoom() int {
	return int(min(maxAnswer, max(1, (b.answers()-b.used.Load())/answerShare)))
}

// grow takes n bytes more for the body of a request, or says that there are not
// so many left. One request never counts for more than the whole budget: alone,
// it is let in however small the limit.
func (h *held) grow(n int64) error { return h.growWithin(n, h.budget.limit) }

// growAnswer takes n bytes for an answer.
func (h *held) growAnswer(n int64) error { return h.growWithin(n, h.budget.answers()) }

func (h *held) growWithin(n, limit int64) error {
	b := h.budget
	n = min(n, limit-h.bytes)
	for {
		used := b.used.Load()
		if used+n > limit {
			err := messaging.Errorf(messaging.CodeOverloaded, "too many bytes are being worked on: try again in a second")
			err.RetryAfter = time.Second
			return err
		}
		if b.used.CompareAndSwap(used, used+n) {
			h.bytes += n
			return nil
		}
	}
}

// release gives all of it back.
func (h *held) release() {
	h.budget.used.Add(-h.bytes)
	h.bytes = 0
}
