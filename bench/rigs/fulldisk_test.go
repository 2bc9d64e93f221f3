package rigs_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stayafrica/messaging/bench/program"
	"github.com/stayafrica/messaging/bench/torture"
)

const (
	fullMinFree   = 64 << 20               // the rig's DISK_MIN_FREE
	refusedWithin = 100 * time.Millisecond // how soon sends are refused
	startWithin   = 30 * time.Second       // how soon a start serves, or gives up
)

// TestRigFullDisk fills the disk of the real program in each of seven ways: by
// something else at once, to the last byte or a little below the watermark, by
// messages alone, before a start, while it recovers, while it compacts, and with
// the reserve. Sends must be refused at once, takes and the drain go on, a start
// serve or exit with the disk's status, and all be well again without a restart
// when there is room: because somebody made it, or because what was taken and
// drained was trimmed early. A ledger outside says what was lost.
//
// Five of them in an ordinary run; 20 rounds on demand.
func TestRigFullDisk(t *testing.T) {
	needSmallDisk(t)
	s := new(slowestRefusal)
	defer func() { t.Log(s) }()
	torture.Run(t, 5, func(r *torture.Round) {
		fullRound(r, fullWays[r.Seed%uint64(len(fullWays))], s)
	})
}

// TestRigFullDiskCatchesNoWatermark runs without a watermark: sends are taken
// until nothing can be written. Room is left for them, because a write that finds
// none gives the reserve free, and sends are refused without a watermark, too.
func TestRigFullDiskCatchesNoWatermark(t *testing.T) {
	needSmallDisk(t)
	torture.Control(t, 3, func(r *torture.Round) {
		fullRound(r, fullWay{"below the watermark", (*fullWorld).filledBelowTheWatermark}, new(slowestRefusal), "DISK_MIN_FREE=0")
	})
}

// TestRigFullDiskCatchesALoss tells the ledger of a message that nobody stored.
func TestRigFullDiskCatchesALoss(t *testing.T) {
	needSmallDisk(t)
	torture.Control(t, 1, func(r *torture.Round) {
		fullRound(r, fullWay{"a loss", func(w *fullWorld) {
			w.patience = time.Second
			w.ledger.note("never-sent", func(o *outcome) { o.status = http.StatusOK })
			w.fullAtStart()
		}}, new(slowestRefusal))
	})
}

// fullWay is a way in which a disk runs full.
type fullWay struct {
	name string
	run  func(w *fullWorld)
}

var fullWays = []fullWay{
	{"at once", (*fullWorld).filledAtOnce},
	{"below the watermark", (*fullWorld).filledBelowTheWatermark},
	{"by load", (*fullWorld).filledByLoad},
	{"at the start", (*fullWorld).fullAtStart},
	{"in recovery", (*fullWorld).fullInRecovery},
	{"in compaction", (*fullWorld).fullInCompaction},
	{"to the last byte", (*fullWorld).filledWithReserve},
}

// fullWorld is one round: a small disk, the service on it, a backend, clients.
type fullWorld struct {
	*torture.Round

	disk    *smallDisk
	ledger  *fullLedger
	env     []string
	service *program.Program
	client  *fullClient
	lives   int
	slowest *slowestRefusal

	patience time.Duration // how long the drain may take
}

func fullRound(r *torture.Round, way fullWay, s *slowestRefusal, env ...string) {
	w := &fullWorld{Round: r, disk: newSmallDisk(r), ledger: &fullLedger{messages: make(map[string]*outcome)}, slowest: s, patience: 30 * time.Second}
	backend, stop, err := fullSink(w.ledger)
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(stop)
	w.env = append([]string{"DJANGO_API_URL=" + backend, "DISK_MIN_FREE=" + strconv.Itoa(fullMinFree), "LOG_LEVEL=info", "LOG_FORMAT=json"}, env...)
	r.Logf("round %d: the disk is filled, %s", r.Number, way.name)
	way.run(w)
	if w.Failed() {
		w.Log(w.service.Log())
		return
	}
	w.finish()
}

// start starts the service and waits until it serves (ready it is not, on a full
// disk), or gives up as it should; ok is false then.
func (w *fullWorld) start() (ok bool) {
	w.Helper()
	var err error
	if w.service, err = program.Start(program.Config{Dir: filepath.Join(w.disk.dir, "data"), Env: w.env}); err != nil {
		w.Fatal(err)
	}
	w.Cleanup(w.service.Kill)
	w.lives++
	w.client = newFullClient(w.service.URL, fmt.Sprintf("r%d-%d-", w.Number, w.lives), w.ledger)
	w.Cleanup(w.client.http.CloseIdleConnections)
	for deadline := time.Now().Add(startWithin); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		select {
		case <-w.service.Done():
			if status := w.service.ExitStatus(); status != 5 || !strings.Contains(w.service.Log(), "free some space") {
				w.Fatalf("the start ended with status %d:\n%s", status, w.service.Log())
			}
			w.Count("starts given up", 1)
			return false
		default:
		}
		if status, _ := w.client.call(http.MethodGet, "/api/stats", ""); status == http.StatusOK {
			return true
		}
	}
	w.Fatalf("the start hangs:\n%s", w.service.Log())
	return false
}

// startOnFullDisk starts; where there is not enough room it makes some, starts
// again and fills the disk anew.
func (w *fullWorld) startOnFullDisk() {
	if w.start() {
		w.Count("starts on a full disk", 1)
		return
	}
	w.disk.empty()
	if !w.start() {
		w.Fatalf("the start was given up though there is room:\n%s", w.service.Log())
	}
	w.disk.fill(0)
}

func (w *fullWorld) filledAtOnce()            { w.filledTo(0, 8<<10) }
func (w *fullWorld) filledBelowTheWatermark() { w.filledTo(fullMinFree/2, 256) }

// filledTo leaves so many bytes free, beside a load of messages of a size.
func (w *fullWorld) filledTo(leave int64, size int) {
	w.start()
	stop := w.client.load(4, size, w.Rand.Uint64())
	defer stop()
	w.pause(200*time.Millisecond, time.Second)
	w.disk.fill(leave)
	full := time.Now()
	w.staysFull()
	w.refused(full)
	w.worksWhileFull()
	w.heals()
}

// filledByLoad has nobody make room: what was taken and drained is trimmed.
func (w *fullWorld) filledByLoad() {
	w.start()
	stop := w.client.load(6, 48<<10, w.Rand.Uint64())
	defer stop()
	w.refused(w.staysFullByItself())
	w.worksWhileFull()
	if err := w.client.takeAll(fullUsers); err != nil { // the last user never reads
		w.Error(err)
	}
	w.sendsAgain(20 * time.Second)
	if !strings.Contains(w.service.Log(), "trimmed before MESSAGE_RETENTION_DAYS") {
		w.Error("nothing was trimmed early")
	}
}

func (w *fullWorld) fullAtStart() {
	w.start()
	stop := w.client.load(4, 16<<10, w.Rand.Uint64())
	w.pause(200*time.Millisecond, time.Second)
	if w.Rand.IntN(2) == 0 { // it is full before the restart, too
		w.disk.fill(0)
		w.pause(0, 500*time.Millisecond)
	}
	stop()
	if w.Rand.IntN(2) == 0 {
		w.service.Kill()
	} else if status, err := w.service.Stop(30 * time.Second); status != 0 || err != nil {
		w.Errorf("the stop gave %d, %v", status, err)
	}
	if w.Rand.IntN(3) == 0 { // it was given free by the last run
		_ = os.Remove(filepath.Join(w.disk.dir, "data", "reserve"))
		w.disk.fill(w.Rand.Int64N(160 << 20))
	} else {
		w.disk.fill(0)
	}
	w.startOnFullDisk()
	w.staysFull()
	w.notReady()
	w.worksWhileFull()
	w.heals()
}

func (w *fullWorld) fullInRecovery() {
	w.start()
	stop := w.client.load(6, 48<<10, w.Rand.Uint64())
	w.pause(500*time.Millisecond, 1500*time.Millisecond)
	w.service.Kill()
	stop()
	filled := make(chan struct{})
	delay := time.Duration(w.Rand.Int64N(int64(150 * time.Millisecond)))
	go func() {
		defer close(filled)
		time.Sleep(delay)
		w.disk.fill(0)
	}()
	ok := w.start()
	<-filled
	if !ok {
		w.startOnFullDisk()
	}
	w.staysFull()
	w.notReady()
	w.worksWhileFull()
	w.heals()
}

func (w *fullWorld) fullInCompaction() {
	w.start()
	stop := w.client.load(4, 32<<10, w.Rand.Uint64())
	defer stop()
	for until := time.Now().Add(1500 * time.Millisecond); time.Now().Before(until); {
		if err := w.client.takeAll(fullUsers / 2); err != nil { // its tombstones are compacted
			w.Error(err)
		}
	}
	w.disk.fill(w.Rand.Int64N(fullMinFree / 2))
	full := time.Now()
	w.staysFull()
	w.refused(full)
	w.worksWhileFull()
	w.pause(0, time.Second)
	w.heals()
}

// filledWithReserve takes what the reserve gave free, too: writes wait, and go on
// when there is room, or end with the service.
func (w *fullWorld) filledWithReserve() {
	w.env = append(w.env, "DISK_MIN_FREE=0") // or sends would be refused long before
	w.start()
	w.client.http.Timeout = 2 * time.Second
	stop := w.client.load(6, 48<<10, w.Rand.Uint64())
	w.pause(0, 400*time.Millisecond)
	for full := time.Now(); time.Since(full) < time.Second; {
		w.disk.fill(0)
	}
	stop()
	for range 3 { // leases that nobody gets are not counted as read
		w.disk.fill(0)
		_ = w.client.nack(w.Rand.IntN(fullUsers))
	}
	if strings.Contains(w.service.Log(), "writes wait for room") {
		w.Count("times writes were held", 1)
	}
	if w.Rand.IntN(3) == 0 {
		if status, err := w.service.Stop(30 * time.Second); (status != 0 && status != 5) || err != nil {
			w.Errorf("the stop on a full disk gave %d, %v", status, err)
		}
		w.disk.empty()
		if !w.start() {
			w.Errorf("the start was given up though there is room:\n%s", w.service.Log())
		}
		return
	}
	w.pause(0, 3*time.Second)
	w.heals()
	w.client.http.Timeout = 20 * time.Second
	w.releaseLeases()
}

// refused checks that nothing that was sent later than it may be was taken.
func (w *fullWorld) refused(full time.Time) {
	w.Helper()
	w.notReady()
	var first time.Time
	var last time.Duration
	w.ledger.each(func(_ string, o *outcome) {
		switch {
		case o.status == http.StatusInsufficientStorage && o.ended.After(full) && (first.IsZero() || o.ended.Before(first)):
			first = o.ended
		case o.status == http.StatusOK:
			last = max(last, o.began.Sub(full))
		}
	})
	if first.IsZero() || last > refusedWithin {
		w.Errorf("no send was refused, or one was taken that began %s after the disk was full", last)
		return
	}
	w.slowest.note(last, first.Sub(full))
}

func (w *fullWorld) notReady() {
	w.Helper()
	if full, answer := w.saysFull(); !full {
		w.Errorf("readiness on a full disk: %s", answer)
	}
}

// worksWhileFull takes, acknowledges, gives back, and waits for the drain.
func (w *fullWorld) worksWhileFull() {
	w.Helper()
	began := time.Now()
	for user := range fullUsers {
		if err := w.client.nack(user); err != nil {
			w.Error(err)
		}
		if _, err := w.client.take(user, 1+w.Rand.IntN(20), user%2 == 0); err != nil {
			w.Error(err)
		}
	}
	if took := time.Since(began); took > 10*time.Second {
		w.Errorf("the takes on a full disk took %s", took)
	}
	w.drained()
}

// drained waits until the backend has all that was answered by now.
func (w *fullWorld) drained() {
	w.Helper()
	missing := func() int {
		return w.ledger.count(func(o *outcome) bool { return o.status == http.StatusOK && o.stored == 0 })
	}
	for deadline := time.Now().Add(w.patience); missing() > 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			w.Errorf("the drain has not brought %d messages", missing())
			return
		}
	}
}

// heals makes room.
func (w *fullWorld) heals() {
	w.Helper()
	w.disk.empty()
	w.sendsAgain(5 * time.Second)
}

func (w *fullWorld) sendsAgain(within time.Duration) {
	w.Helper()
	text := padding(1)
	for deadline := time.Now().Add(within); w.client.send(0, 100, text) != http.StatusOK; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			w.Errorf("sends are not taken again after %s (%d MiB are free)", within, w.disk.free()>>20)
			return
		}
	}
}

// finish reads what is left, and judges.
func (w *fullWorld) finish() {
	if err := w.client.takeAll(fullUsers + 1); err != nil {
		w.Error(err)
	}
	w.drained()
	if status, err := w.service.Stop(30 * time.Second); status != 0 || err != nil {
		w.Errorf("the stop gave %d, %v", status, err)
	}
	w.verify()
	lost, ghosts := w.ledger.lost()
	if len(lost)+len(ghosts) > 0 {
		w.Errorf("%d messages are lost, %d that were refused are there: %.300v %.300v", len(lost), len(ghosts), lost, ghosts)
	}
	if log := w.service.Log(); strings.Count(log, `"level":"ERROR"`) > 12 {
		w.Errorf("the log repeats itself:\n%s", log)
	}
	if w.Failed() {
		w.Log(w.service.Log())
	}
	w.Count("messages", w.ledger.count(func(o *outcome) bool { return o.status == http.StatusOK }))
	w.Count("refused", w.ledger.count(func(o *outcome) bool { return o.status == http.StatusInsufficientStorage }))
	w.Count("losses", len(lost))
}
