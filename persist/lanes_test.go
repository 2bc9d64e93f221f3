package persist

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stayafrica/messaging"
)

func TestLaneTransitions(t *testing.T) {
	moves := map[string]bool{
		"idle ready": true, "ready in flight": true, "backing off ready": true,
		"in flight idle": true, "in flight ready": true, "in flight backing off": true,
	}
	for from := laneIdle; from <= laneBackingOff; from++ {
		for to := laneIdle; to <= laneBackingOff; to++ {
			if got, want := canMove(from, to), moves[from.String()+" "+to.String()]; got != want {
				t.Errorf("from %s to %s: %t, want %t", from, to, got, want)
			}
		}
	}
	defer func() {
		if recover() == nil {
			t.Error("an idle lane became in flight")
		}
	}()
	newLanes().move(new(lane), laneInFlight)
}

// TestLaneCountersMatchTheirItems performs random operations of a drain and compares
// the counters of the lanes with their items.
func TestLaneCountersMatchTheirItems(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	ls, now := newLanes(), time.Now()
	all := make(map[*lane]bool)
	inFlight := make(map[*lane][]*item)
	for step := range 20_000 {
		switch random.IntN(4) {
		case 0, 1:
			m := &messaging.Message{Body: make([]byte, random.IntN(100))}
			it := &item{message: m, bytes: len(m.Body) + 1}
			ls.add(it, []string{"", "a", "b", "c", "d"}[random.IntN(5)])
			all[it.lane] = true
		case 2:
			if len(ls.ready) > 0 {
				l, left := ls.ready[0], random.IntN(4)
				if taken := ls.take(func(*item) bool { left--; return left >= 0 }); taken != nil {
					inFlight[l] = taken
				}
			}
		case 3:
			for l, taken := range inFlight {
				if random.IntN(3) == 0 {
					l.until = now.Add(time.Duration(random.IntN(50)) * time.Second)
				}
				ls.release(l, taken[random.IntN(len(taken)+1):])
				delete(inFlight, l)
				break
			}
			now = now.Add(time.Second)
			ls.wake(now)
		}
		if why := laneMismatch(ls, all, inFlight); why != "" {
			t.Fatalf("after %d steps: %s", step, why)
		}
	}
}

// laneMismatch returns the first violated invariant of the lanes; "" for none.
func laneMismatch(ls *lanes, all map[*lane]bool, inFlight map[*lane][]*item) string {
	states := make(map[laneState]int)
	readyItems, loaded := 0, 0
	for l := range all {
		states[l.state]++
		for _, it := range l.waiting {
			loaded += it.loadedBytes()
			if l.state == laneBackingOff && it.message != nil {
				return "a lane that backs off holds a message in memory"
			}
		}
		switch _, in := inFlight[l]; {
		case in != (l.state == laneInFlight):
			return fmt.Sprintf("a lane is %s, and in flight is %t", l.state, in)
		case l.state == laneReady:
			readyItems += len(l.waiting)
			if len(l.waiting) == 0 {
				return "a lane is ready with nothing to send"
			}
		case l.state == laneIdle && len(l.waiting) > 0:
			return "a lane is idle with something to send"
		case l.key != "" && (ls.byKey[l.key] == l) == (l.state == laneIdle):
			return "a lane that is not idle is missing in byKey, or an idle one is in it"
		}
	}
	if states[laneReady] != len(ls.ready) || states[laneBackingOff] != len(ls.backingOff) || readyItems != ls.readyItems || loaded != ls.loadedBytes {
		return fmt.Sprintf("%d ready, %d backing off, %d items, %d bytes; the counters are %d, %d, %d, %d", states[laneReady], states[laneBackingOff], readyItems,
			loaded, len(ls.ready), len(ls.backingOff), ls.readyItems, ls.loadedBytes)
	}
	return ""
}
