package limits

import (
	"sync/atomic"
	"time"

	"github.com/stayafrica/messaging"
)

// Budget bounds the memory of all requests in progress. Each request reserves memory
// through a [Reservation]. The methods of Budget are safe for concurrent use.
//
// A slow reader holds the memory of its response until it has read it or times out.
// Therefore responses use at most three quarters of the budget, and the rest is for the
// bodies of requests. The size of a response shrinks with the remaining memory, so
// later readers still get messages while slow readers hold theirs.
type Budget struct {
	limit int64
	used  atomic.Int64
}

// NewBudget returns a budget of limit bytes.
func NewBudget(limit int64) *Budget { return &Budget{limit: limit} }

// Used returns the number of reserved bytes.
func (b *Budget) Used() int64 { return b.used.Load() }

// Reservation is the memory that one request has reserved of a budget. It is not safe
// for concurrent use. It begins empty, grows with the request, and must be released at
// the end of the request.
type Reservation struct {
	budget *Budget
	own    *Budget // of the caller; nil for none
	bytes  int64
}

// Hold returns an empty reservation. own is a budget of the caller, which the reservation
// uses too, or nil.
func (b *Budget) Hold(own *Budget) *Reservation { return &Reservation{budget: b, own: own} }

// responseLimit returns the part of the budget that responses may use.
func (b *Budget) responseLimit() int64 { return b.limit - b.limit/4 }

// MaxResponse is the largest response while the budget has enough memory. One response
// uses at most 1/responseShare of the memory that is left for responses.
const (
	MaxResponse   = 8 << 20
	responseShare = 8
)

// ResponseRoom returns the largest size of a response at this time. Its first message may
// exceed it.
func (b *Budget) ResponseRoom() int {
	return int(min(MaxResponse, max(1, (b.responseLimit()-b.used.Load())/responseShare)))
}

// Grow reserves n more bytes for the body of a request. It returns an overloaded error
// if the budget has too few bytes left, and a too_many_requests error if the caller's own
// budget has. One request never counts for more than the whole budget, so a single request
// is accepted however small the limit is.
func (r *Reservation) Grow(n int64) error { return r.growWithin(n, r.budget.limit) }

// GrowResponse reserves n bytes for a response, like [Reservation.Grow].
func (r *Reservation) GrowResponse(n int64) error { return r.growWithin(n, r.budget.responseLimit()) }

func (r *Reservation) growWithin(n, limit int64) error {
	n = min(n, limit-r.bytes)
	if r.own != nil {
		n = min(n, r.own.limit-r.bytes)
		if !r.own.take(n, r.own.limit) {
			return over("bytes of requests in progress", time.Second)
		}
	}
	if r.budget.take(n, limit) {
		r.bytes += n
		return nil
	}
	if r.own != nil {
		r.own.used.Add(-n)
	}
	err := messaging.Errorf(messaging.CodeOverloaded, "requests in progress use all memory for requests: try again in a second")
	err.RetryAfter = time.Second
	return err
}

// take reserves n bytes unless the budget would exceed limit.
func (b *Budget) take(n, limit int64) bool {
	for {
		used := b.used.Load()
		if used+n > limit {
			return false
		}
		if b.used.CompareAndSwap(used, used+n) {
			return true
		}
	}
}

// Release returns all reserved bytes to the budget. It may be called again.
func (r *Reservation) Release() {
	r.budget.used.Add(-r.bytes)
	if r.own != nil {
		r.own.used.Add(-r.bytes)
	}
	r.bytes = 0
}

// Bytes returns the number of reserved bytes.
func (r *Reservation) Bytes() int64 { return r.bytes }
