package http

import (
	"sync/atomic"
	"time"

	"github.com/stayafrica/messaging"
)

// budget bounds the memory of all requests that are being worked on. Each takes
// its part through a [held].
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

// grow takes n bytes more, or says that there are not so many left. One request
// never counts for more than the whole budget: alone, it is let in however
// small the limit.
func (h *held) grow(n int64) error {
	b := h.budget
	n = min(n, b.limit-h.bytes)
	for {
		used := b.used.Load()
		if used+n > b.limit {
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
