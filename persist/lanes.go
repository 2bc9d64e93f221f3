package persist

import (
	"fmt"
	"slices"
	"time"
)

// laneState is the state of a lane. At most one request at a time contains messages of
// a lane, so that a conversation arrives in order:
//
//	idle ──add──▶ ready ──take──▶ in flight ──release──▶ idle, ready or backing off
//	                ▲                                              │
//	                └──────────────────── wake ◀───────────────────┘
type laneState int

const (
	// laneIdle has no messages to send.
	laneIdle laneState = iota
	// laneReady is in the list of lanes that the next batch takes from.
	laneReady
	// laneInFlight has messages in a batch in flight.
	laneInFlight
	// laneBackingOff waits until its time. Its messages are not in memory.
	laneBackingOff
)

var laneStateNames = [...]string{"idle", "ready", "in flight", "backing off"}

func (s laneState) String() string { return laneStateNames[s] }

// laneTransitions lists the allowed transitions by state.
var laneTransitions = [len(laneStateNames)][]laneState{
	laneIdle:       {laneReady},
	laneReady:      {laneInFlight},
	laneInFlight:   {laneIdle, laneReady, laneBackingOff},
	laneBackingOff: {laneReady},
}

// lane holds the waiting messages of one conversation.
type lane struct {
	key     string
	state   laneState
	waiting []*item
	// until is when a lane that backs off becomes ready again.
	until time.Time
}

// lanes sorts items into conversations.
type lanes struct {
	byKey map[string]*lane
	// ready lists the ready lanes in the order in which they became ready. backingOff
	// is the set of the lanes that back off.
	ready       []*lane
	backingOff  map[*lane]struct{}
	readyItems  int // items in ready lanes
	loadedBytes int // bytes of messages in memory that are in no batch
}

func newLanes() *lanes {
	return &lanes{byKey: make(map[string]*lane), backingOff: make(map[*lane]struct{})}
}

// move changes the state of a lane. Only move changes states and the lists that depend
// on them.
func (ls *lanes) move(l *lane, to laneState) {
	if !canMove(l.state, to) {
		panic(fmt.Sprintf("a lane that is %s cannot become %s", l.state, to)) //nolint:forbidigo // a fault of this package
	}
	ls.leave(l)
	l.state = to
	switch to {
	case laneReady:
		l.until = time.Time{}
		ls.ready = append(ls.ready, l)
		ls.readyItems += len(l.waiting)
	case laneBackingOff:
		ls.backingOff[l] = struct{}{}
		for _, it := range l.waiting {
			ls.unload(it)
		}
	case laneIdle:
		l.until = time.Time{}
		delete(ls.byKey, l.key)
	case laneInFlight:
	}
}

func canMove(from, to laneState) bool {
	return slices.Contains(laneTransitions[from], to)
}

// leave removes a lane from the list of its state. A ready lane that leaves is always
// the first of the list.
func (ls *lanes) leave(l *lane) {
	switch l.state {
	case laneReady:
		ls.ready = ls.ready[1:]
		ls.readyItems -= len(l.waiting)
	case laneBackingOff:
		delete(ls.backingOff, l)
	case laneIdle, laneInFlight:
	}
}

// add appends an item to its conversation. An item without a conversation gets a lane
// of its own.
func (ls *lanes) add(it *item, key string) {
	l := ls.byKey[key]
	if key == "" || l == nil {
		l = &lane{key: key}
		if key != "" {
			ls.byKey[key] = l
		}
	}
	it.lane = l
	l.waiting = append(l.waiting, it)
	ls.loadedBytes += it.loadedBytes()
	switch l.state {
	case laneIdle:
		ls.move(l, laneReady)
	case laneReady:
		ls.readyItems++
	case laneBackingOff:
		ls.unload(it)
	case laneInFlight:
	}
}

// unload drops an item's message from memory; the message is read again when needed.
func (ls *lanes) unload(it *item) {
	ls.loadedBytes -= it.loadedBytes()
	it.message = nil
}

// take removes as many items of the first ready lane as fit. The lane is in flight
// until release.
func (ls *lanes) take(fits func(it *item) bool) []*item {
	l := ls.ready[0]
	n := 0
	for n < len(l.waiting) && fits(l.waiting[n]) {
		n++
	}
	if n == 0 {
		return nil
	}
	ls.move(l, laneInFlight)
	taken := l.waiting[:n:n]
	l.waiting = l.waiting[n:]
	for _, it := range taken {
		ls.loadedBytes -= it.loadedBytes()
	}
	return taken
}

// release ends a batch's hold on a lane. Requeued items go to the front of the lane.
func (ls *lanes) release(l *lane, requeued []*item) {
	if len(requeued) > 0 {
		l.waiting = append(requeued, l.waiting...)
		for _, it := range requeued {
			it.message = nil
		}
	}
	switch {
	case len(l.waiting) == 0:
		ls.move(l, laneIdle)
	case !l.until.IsZero():
		ls.move(l, laneBackingOff)
	default:
		ls.move(l, laneReady)
	}
}

// wake makes the lanes ready whose time has come. It returns when the next lane becomes
// ready; zero for none.
func (ls *lanes) wake(now time.Time) (next time.Time) {
	for l := range ls.backingOff {
		if l.until.After(now) {
			next = earliest(next, l.until)
			continue
		}
		ls.move(l, laneReady)
	}
	return next
}

// oldestReady returns when the first ready item was read; zero if no lane is ready.
func (ls *lanes) oldestReady() time.Time {
	if len(ls.ready) == 0 {
		return time.Time{}
	}
	return ls.ready[0].waiting[0].readAt
}
