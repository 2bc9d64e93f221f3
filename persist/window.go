package persist

import (
	"time"

	"github.com/stayafrica/messaging"
)

// maxWindow is how many messages may have been read and not yet fallen behind
// the position: what bounds memory, and what a restart may send again.
const maxWindow = 100_000

// item is a message that was read and is not settled, or that is settled while
// one before it is not.
type item struct {
	position messaging.Position
	created  time.Time
	lane     *lane
	// message is the message while it is about to be sent. What waits for long
	// forgets it and reads it again.
	message *messaging.Message
	// bytes is about what the message takes in a batch.
	bytes    int
	readAt   time.Time
	firstTry time.Time
	// attempts is how many answers refused this message itself; an outage blames
	// none.
	attempts int
	// alone says that it must be tried in a batch of its own.
	alone   bool
	doubted bool // it was refused alone, while others were stored
	settled bool
}

// loaded is how many bytes the item keeps in memory.
func (it *item) loaded() int {
	if it.message == nil {
		return 0
	}
	return it.bytes
}

// window is the items in the order of the log. The position is its front.
type window struct {
	items []*item
	front int
	next  messaging.Position // where reading goes on
}

func (w *window) push(it *item) { w.items = append(w.items, it) }

// len is how many items there are, settled ones behind the front included.
func (w *window) len() int { return len(w.items) - w.front }

func (w *window) full() bool { return w.len() >= maxWindow }

// position gives the lowest place that is not settled.
func (w *window) position() messaging.Position {
	for w.front < len(w.items) && w.items[w.front].settled {
		w.items[w.front] = nil
		w.front++
	}
	if w.front == len(w.items) {
		w.items, w.front = w.items[:0], 0
		return w.next
	}
	if w.front > maxWindow {
		w.items = append([]*item(nil), w.items[w.front:]...)
		w.front = 0
	}
	return w.items[w.front].position
}

// oldest gives when the message at the front was created; zero when there is
// none.
func (w *window) oldest() time.Time {
	if w.len() == 0 {
		return time.Time{}
	}
	return w.items[w.front].created
}

// lane is one conversation on its way: at most one request has messages of it
// at a time, so that they arrive in order.
type lane struct {
	key     string
	waiting []*item
	busy    bool      // a flight has messages of it
	listed  bool      // it is in ready or in sick
	until   time.Time // it is sick until then
}

// lanes sorts items into conversations. ready lists the lanes from which a
// batch can be made, in the order in which they became so.
type lanes struct {
	byKey map[string]*lane
	ready []*lane
	sick  map[*lane]struct{}
	// readyItems and readyBytes count what stands in ready lanes.
	readyItems int
	loaded     int // bytes of messages in memory that no flight has
}

func newLanes() *lanes {
	return &lanes{byKey: make(map[string]*lane), sick: make(map[*lane]struct{})}
}

// add puts an item at the end of its conversation. One that names none is a
// conversation of its own.
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
	ls.loaded += it.loaded()
	switch {
	case ls.isSick(l):
		ls.forget(it)
	case l.listed:
		ls.readyItems++
	default:
		ls.list(l)
	}
}

func (ls *lanes) isSick(l *lane) bool {
	_, sick := ls.sick[l]
	return sick
}

// forget drops an item's message from memory; it is read again when needed.
func (ls *lanes) forget(it *item) {
	ls.loaded -= it.loaded()
	it.message = nil
}

// list puts a lane that has something to send among the ready ones.
func (ls *lanes) list(l *lane) {
	if l.busy || l.listed || len(l.waiting) == 0 {
		return
	}
	l.listed = true
	ls.ready = append(ls.ready, l)
	ls.readyItems += len(l.waiting)
}

// take removes the next items of the first ready lane, as many as fit; the lane
// is busy until release.
func (ls *lanes) take(fits func(it *item) bool) []*item {
	l := ls.ready[0]
	n := 0
	for n < len(l.waiting) && fits(l.waiting[n]) {
		n++
	}
	if n == 0 {
		return nil
	}
	ls.ready = ls.ready[1:]
	ls.readyItems -= len(l.waiting)
	l.listed, l.busy = false, true
	taken := l.waiting[:n:n]
	l.waiting = l.waiting[n:]
	for _, it := range taken {
		ls.loaded -= it.loaded()
	}
	return taken
}

// release ends a flight's hold on a lane. What came back stands in front.
func (ls *lanes) release(l *lane, back []*item) {
	l.busy = false
	if len(back) > 0 {
		l.waiting = append(back, l.waiting...)
		for _, it := range back {
			it.message = nil
		}
	}
	switch {
	case len(l.waiting) == 0:
		if l.key != "" {
			delete(ls.byKey, l.key)
		}
	case !l.until.IsZero():
		ls.setAside(l)
	default:
		ls.list(l)
	}
}

// setAside makes a lane wait by itself. What waits in it is forgotten, so that
// a sick conversation costs places and no bodies.
func (ls *lanes) setAside(l *lane) {
	l.listed = true
	ls.sick[l] = struct{}{}
	for _, it := range l.waiting {
		ls.forget(it)
	}
}

// recover lists the lanes whose time has come, and says when the next one's
// will (zero for none).
func (ls *lanes) recover(now time.Time) (next time.Time) {
	for l := range ls.sick {
		if l.until.After(now) {
			if next.IsZero() || l.until.Before(next) {
				next = l.until
			}
			continue
		}
		delete(ls.sick, l)
		l.until, l.listed = time.Time{}, false
		ls.list(l)
	}
	return next
}

// oldestReady gives when the first ready item was read; zero when there is none.
func (ls *lanes) oldestReady() time.Time {
	if len(ls.ready) == 0 {
		return time.Time{}
	}
	return ls.ready[0].waiting[0].readAt
}
