package faultinjection_test

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
	fullMinFree   = 64 << 20               // the DISK_MIN_FREE of this test
	refusedWithin = 100 * time.Millisecond // how soon sends are refused
	startWithin   = 30 * time.Second       // how soon a start serves or fails
)

// TestRigFullDisk fills the disk of the real program in seven ways: at once by another
// file, to the last byte or slightly below the watermark, by messages alone, before a
// start, during recovery, during compaction, and including the ballast. The service
// must refuse sends at once, continue takes and the drain, and either serve or exit
// with the disk's status at a start. It must recover without a restart when there is
// space again, whether another process freed it or early trimming of delivered messages
// did. A ledger outside the service detects losses.
//
// An ordinary run has five rounds, a long run 20.
func TestRigFullDisk(t *testing.T) {
	needSmallDisk(t)
	s := new(slowestRefusal)
	defer func() { t.Log(s) }()
	torture.Run(t, 5, func(r *torture.Round) {
		fullRound(r, fullWays[r.Seed%uint64(len(fullWays))], s)
	})
}

// TestRigFullDiskCatchesNoWatermark runs without a watermark: sends are accepted until
// writes fail. It leaves some space free, because a failed write releases the ballast,
// and then sends are refused without a watermark too.
func TestRigFullDiskCatchesNoWatermark(t *testing.T) {
	needSmallDisk(t)
	torture.Control(t, 3, func(r *torture.Round) {
		fullRound(r, fillMethod{"below the watermark", (*fullDiskHarness).filledBelowTheWatermark}, new(slowestRefusal), "DISK_MIN_FREE=0")
	})
}

// TestRigFullDiskCatchesALoss adds a message to the ledger that was never sent.
func TestRigFullDiskCatchesALoss(t *testing.T) {
	needSmallDisk(t)
	torture.Control(t, 1, func(r *torture.Round) {
		fullRound(r, fillMethod{"a loss", func(w *fullDiskHarness) {
			w.drainTimeout = time.Second
			w.ledger.note("never-sent", func(o *outcome) { o.status = http.StatusOK })
			w.fullAtStart()
		}}, new(slowestRefusal))
	})
}

// fillMethod is a way in which a disk fills up.
type fillMethod struct {
	name string
	run  func(w *fullDiskHarness)
}

var fullWays = []fillMethod{
	{"at once", (*fullDiskHarness).filledAtOnce},
	{"below the watermark", (*fullDiskHarness).filledBelowTheWatermark},
	{"by load", (*fullDiskHarness).filledByLoad},
	{"at the start", (*fullDiskHarness).fullAtStart},
	{"in recovery", (*fullDiskHarness).fullInRecovery},
	{"in compaction", (*fullDiskHarness).fullInCompaction},
	{"to the last byte", (*fullDiskHarness).filledWithBallast},
}

// fullDiskHarness is one round: a small disk, the service on it, a backend and clients.
type fullDiskHarness struct {
	*torture.Round

	disk    *smallDisk
	ledger  *fullDiskLedger
	env     []string
	service *program.Program
	client  *fullClient
	lives   int
	slowest *slowestRefusal

	drainTimeout time.Duration // how long the drain may take
}

func fullRound(r *torture.Round, way fillMethod, s *slowestRefusal, env ...string) {
	w := &fullDiskHarness{
		Round: r, disk: newSmallDisk(r), ledger: &fullDiskLedger{messages: make(map[string]*outcome)}, slowest: s,
		drainTimeout: 30 * time.Second,
	}
	backend, stop, err := fullSink(w.ledger)
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(stop)
	w.env = append([]string{
		"DJANGO_API_URL=" + backend, "DISK_MIN_FREE=" + strconv.Itoa(fullMinFree), "LOG_LEVEL=info", "LOG_FORMAT=json",
		"QUEUE_RETRY_BACKOFF=0",
	}, env...)
	r.Logf("round %d: the disk is filled, %s", r.Number, way.name)
	way.run(w)
	if w.Failed() {
		w.Log(w.service.Log())
		return
	}
	w.finish()
}

// start starts the service and waits until it serves, or until it exits as it should.
// On a full disk the service is not ready. ok is false if it exited.
func (w *fullDiskHarness) start() (ok bool) {
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
				w.Fatalf("the start exited with status %d:\n%s", status, w.service.Log())
			}
			w.Count("starts that exited", 1)
			return false
		default:
		}
		if status, _ := w.client.call(http.MethodGet, "/api/stats", ""); status == http.StatusOK {
			return true
		}
	}
	w.Fatalf("the start neither serves nor exits:\n%s", w.service.Log())
	return false
}

// startOnFullDisk starts the service. If there is too little space, it frees some,
// starts again and fills the disk again.
func (w *fullDiskHarness) startOnFullDisk() {
	if w.start() {
		w.Count("starts on a full disk", 1)
		return
	}
	w.disk.empty()
	if !w.start() {
		w.Fatalf("the start exited although there is space:\n%s", w.service.Log())
	}
	w.disk.fill(0)
}

func (w *fullDiskHarness) filledAtOnce()            { w.filledTo(0, 8<<10) }
func (w *fullDiskHarness) filledBelowTheWatermark() { w.filledTo(fullMinFree/2, 256) }

// filledTo leaves that many bytes free, under a load of messages of a size.
func (w *fullDiskHarness) filledTo(leave int64, size int) {
	w.start()
	stop := w.client.load(4, size, w.Rand.Uint64())
	defer stop()
	w.pause(200*time.Millisecond, time.Second)
	w.disk.fill(leave)
	full := time.Now()
	w.keepFull()
	w.refused(full)
	w.worksWhileFull()
	w.freeSpace()
}

// filledByLoad frees no space: early trimming of delivered and drained messages does.
func (w *fullDiskHarness) filledByLoad() {
	w.start()
	stop := w.client.load(6, 48<<10, w.Rand.Uint64())
	defer stop()
	w.refused(w.waitUntilFull())
	w.worksWhileFull()
	if err := w.client.takeAll(fullUsers); err != nil { // the last user never reads
		w.Error(err)
	}
	w.sendsAgain(20 * time.Second)
	if !strings.Contains(w.service.Log(), "trimmed before MESSAGE_RETENTION_DAYS") {
		w.Error("nothing was trimmed early")
	}
}

func (w *fullDiskHarness) fullAtStart() {
	w.start()
	stop := w.client.load(4, 16<<10, w.Rand.Uint64())
	w.pause(200*time.Millisecond, time.Second)
	if w.Rand.IntN(2) == 0 { // the disk is full before the restart too
		w.disk.fill(0)
		w.pause(0, 500*time.Millisecond)
	}
	stop()
	if w.Rand.IntN(2) == 0 {
		w.service.Kill()
	} else if status, err := w.service.Stop(30 * time.Second); status != 0 || err != nil {
		w.Errorf("the stop returned %d, %v", status, err)
	}
	if w.Rand.IntN(3) == 0 { // the previous run released the ballast
		_ = os.Remove(filepath.Join(w.disk.dir, "data", "reserve"))
		w.disk.fill(w.Rand.Int64N(160 << 20))
	} else {
		w.disk.fill(0)
	}
	w.startOnFullDisk()
	w.keepFull()
	w.notReady()
	w.worksWhileFull()
	w.freeSpace()
}

func (w *fullDiskHarness) fullInRecovery() {
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
	w.keepFull()
	w.notReady()
	w.worksWhileFull()
	w.freeSpace()
}

func (w *fullDiskHarness) fullInCompaction() {
	w.start()
	stop := w.client.load(4, 32<<10, w.Rand.Uint64())
	defer stop()
	for until := time.Now().Add(1500 * time.Millisecond); time.Now().Before(until); {
		if err := w.client.takeAll(fullUsers / 2); err != nil { // their tombstones are compacted
			w.Error(err)
		}
	}
	w.disk.fill(w.Rand.Int64N(fullMinFree / 2))
	full := time.Now()
	w.keepFull()
	w.refused(full)
	w.worksWhileFull()
	w.pause(0, time.Second)
	w.freeSpace()
}

// filledWithBallast also fills the space of the ballast: writes then wait, and continue
// when there is space, or end with the service.
func (w *fullDiskHarness) filledWithBallast() {
	w.env = append(w.env, "DISK_MIN_FREE=0") // otherwise sends would be refused long before
	w.start()
	w.client.http.Timeout = 2 * time.Second
	stop := w.client.load(6, 48<<10, w.Rand.Uint64())
	w.pause(0, 400*time.Millisecond)
	for full := time.Now(); time.Since(full) < time.Second; {
		w.disk.fill(0)
	}
	stop()
	for range 3 { // leased messages whose response was lost are not counted as read
		w.disk.fill(0)
		_ = w.client.nack(w.Rand.IntN(fullUsers))
	}
	if strings.Contains(w.service.Log(), "writes wait for room") {
		w.Count("times writes waited", 1)
	}
	if w.Rand.IntN(3) == 0 {
		if status, err := w.service.Stop(30 * time.Second); (status != 0 && status != 5) || err != nil {
			w.Errorf("the stop on a full disk returned %d, %v", status, err)
		}
		w.disk.empty()
		if !w.start() {
			w.Errorf("the start exited although there is space:\n%s", w.service.Log())
		}
		return
	}
	w.pause(0, 3*time.Second)
	w.freeSpace()
	w.client.http.Timeout = 20 * time.Second
	w.releaseLeases()
}

// refused checks that no send was accepted later than allowed.
func (w *fullDiskHarness) refused(full time.Time) {
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
		w.Errorf("no send was refused, or one was accepted that began %s after the disk was full", last)
		return
	}
	w.slowest.note(last, first.Sub(full))
}

func (w *fullDiskHarness) notReady() {
	w.Helper()
	if full, responseBody := w.reportsFull(); !full {
		w.Errorf("readiness on a full disk: %s", responseBody)
	}
}

// worksWhileFull takes, acknowledges, nacks, and waits for the drain.
func (w *fullDiskHarness) worksWhileFull() {
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

// drained waits until the backend has everything that was acknowledged by now.
func (w *fullDiskHarness) drained() {
	w.Helper()
	missing := func() int {
		return w.ledger.count(func(o *outcome) bool { return o.status == http.StatusOK && o.stored == 0 })
	}
	for deadline := time.Now().Add(w.drainTimeout); missing() > 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			w.Errorf("the drain has not delivered %d messages", missing())
			return
		}
	}
}

// freeSpace frees space on the disk.
func (w *fullDiskHarness) freeSpace() {
	w.Helper()
	w.disk.empty()
	w.sendsAgain(5 * time.Second)
}

func (w *fullDiskHarness) sendsAgain(within time.Duration) {
	w.Helper()
	text := padding(1)
	for deadline := time.Now().Add(within); w.client.send(0, 100, text) != http.StatusOK; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			w.Errorf("sends are not accepted again after %s (%d MiB are free)", within, w.disk.free()>>20)
			return
		}
	}
}

// finish reads the remaining messages and checks the ledger.
func (w *fullDiskHarness) finish() {
	if err := w.client.takeAll(fullUsers + 1); err != nil {
		w.Error(err)
	}
	w.drained()
	if status, err := w.service.Stop(30 * time.Second); status != 0 || err != nil {
		w.Errorf("the stop returned %d, %v", status, err)
	}
	w.verify()
	lost, refusedButPresent := w.ledger.lost()
	if len(lost)+len(refusedButPresent) > 0 {
		w.Errorf("%d messages are lost, %d refused ones are present: %.300v %.300v", len(lost), len(refusedButPresent), lost, refusedButPresent)
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
