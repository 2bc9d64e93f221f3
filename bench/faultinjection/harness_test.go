package faultinjection_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/stayafrica/messaging/bench/ledger/ledger"
	"github.com/stayafrica/messaging/bench/program"
	"github.com/stayafrica/messaging/bench/torture"
	"github.com/stayafrica/messaging/storage/fsck"
	"github.com/stayafrica/messaging/wal"
)

// harness is a service, a flaky Django, and clients whose ledger is outside the
// service's directory.
type harness struct {
	*torture.Round

	config  program.Config
	service *program.Program
	sink    *ledger.Sink
	file    *ledger.File
	load    *ledger.Load
	paths   ledger.Evidence
	slowest *slowest
	faulty  bool // the service breaks its promise on purpose

	endLoad context.CancelFunc
	loaded  chan struct{} // closed when the load has ended; loadErr is then set
	loadErr error
}

const (
	// persistTimeout is the service's timeout for the sink, which hangs for longer.
	persistTimeout = 300 * time.Millisecond
	// readyWithin is the promised time to be ready. readyAtAll is when the test stops
	// waiting.
	readyWithin = 5 * time.Second
	readyAtAll  = 30 * time.Second
	// drainWithin is how long the drain may take to deliver everything to a sink
	// without faults.
	drainWithin = 90 * time.Second
	// mostMessages bounds the load of a round.
	mostMessages = 400_000
)

// slowest is the longest time to become ready. Only one goroutine updates it.
type slowest struct{ atomic.Int64 }

func (s *slowest) note(d time.Duration) {
	s.Store(max(s.Load(), int64(d)))
}

func (s *slowest) String() string {
	return "slowest to be ready: " + time.Duration(s.Load()).Round(time.Millisecond).String()
}

// newHarness prepares everything except the service. A fault makes the service break
// its promise.
func newHarness(r *torture.Round, data, fault string, s *slowest) *harness {
	r.Helper()
	tags := ""
	if fault != "" {
		tags = "faults"
	}
	path, err := program.Build(tags)
	if err != nil {
		r.Fatal(err)
	}
	outside := r.TempDir()
	w := &harness{Round: r, slowest: s, faulty: fault != "", paths: ledger.Evidence{
		Ledger: filepath.Join(outside, "ledger"),
		Sink:   filepath.Join(outside, "sink"),
	}}
	if w.sink, err = ledger.NewSink(context.Background(), 0, w.paths.Sink, r.Seed, ledger.Flaky(4*persistTimeout/3)); err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() { _ = w.sink.Close() }) // a second close if the round ended normally
	if w.file, err = ledger.Create(w.paths.Ledger); err != nil {
		r.Fatal(err)
	}
	r.Cleanup(w.abortLoad)
	port := portOutsideEphemeralRange(r)
	w.paths.URL = "http://127.0.0.1:" + strconv.Itoa(port)
	w.config = program.Config{Path: path, Dir: data, Port: port, Env: []string{
		"DJANGO_API_URL=" + w.sink.URL, "PERSIST_TIMEOUT=" + persistTimeout.String(), "PERSIST_LINGER=20ms",
		"PERSIST_MAX_BACKOFF=200ms", "MESSAGE_QUEUE_MAX_SIZE=1000000", "MESSAGING_FAULT=" + fault,
		// The judge expects nacked messages back in their places at once, and reads
		// whole queues under leases.
		"QUEUE_RETRY_BACKOFF=0", "QUEUE_MAX_LEASED=1000000",
	}}
	return w
}

// portOutsideEphemeralRange finds a free port that the kernel does not assign to
// clients. Otherwise a client that tries to reach the stopped service could be assigned
// its port.
func portOutsideEphemeralRange(r *torture.Round) int {
	r.Helper()
	for range 100 {
		port := 12_000 + r.Rand.IntN(16_000)
		l, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(port))
		if err == nil {
			_ = l.Close()
			return port
		}
	}
	r.Fatal("there is no free port")
	return 0
}

// start starts the service without waiting for it.
func (w *harness) start() {
	w.Helper()
	var err error
	if w.service, err = program.Start(w.config); err != nil {
		w.Fatal(err)
	}
	w.Cleanup(w.service.Kill)
}

// startReady starts the service, which must be ready in time.
func (w *harness) startReady() {
	w.Helper()
	began := time.Now()
	w.start()
	if _, err := w.service.Ready(readyAtAll); err != nil {
		w.Fatal(err)
	}
	took := time.Since(began)
	w.slowest.note(took)
	if took > readyWithin {
		w.Errorf("the service was ready after %s, not within %s", took, readyWithin)
	}
}

// beginLoad starts the clients, which run until finish.
func (w *harness) beginLoad(connections int) {
	w.Helper()
	text := 1000
	if w.Number%2 == 1 {
		text = 16_000 // memtables fill within a second: flushes, new logs, compactions
	}
	var err error
	w.load, err = ledger.NewLoad(ledger.Config{
		URL: w.paths.URL, File: w.file, Plan: ledger.Plan{Seed: w.Seed, Users: 60, Conversations: 60, Text: text},
		Connections: connections, Readers: 4, MaxMessages: mostMessages,
	})
	if err != nil {
		w.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	w.endLoad, w.loaded = cancel, make(chan struct{})
	go func() {
		defer close(w.loaded)
		w.loadErr = w.load.Run(ctx)
	}()
}

// abortLoad ends the load of a round that failed. The service has ended, so nothing
// waits for a response.
func (w *harness) abortLoad() {
	if w.loaded != nil {
		w.load.Abort()
		w.endLoad()
		<-w.loaded
	}
	_ = w.file.Close() // a second close if the round ended normally
}

// finish ends the load, waits for the drain, restarts the service as an operator does,
// which ends the leases, and judges.
func (w *harness) finish() *ledger.Verdict {
	w.Helper()
	w.endLoad()
	if <-w.loaded; w.loadErr != nil {
		w.Fatal(w.loadErr)
	}
	w.sink.SetMisbehaviour(ledger.Misbehaviour{})
	w.drained()
	if status, err := w.service.Stop(readyAtAll); status != 0 || err != nil {
		w.Errorf("the service stopped with status %d (%v)\n%s", status, err, w.service.Log())
	}
	w.verify("stopped")
	w.load.Restarted()
	if err := w.file.Close(); err != nil {
		w.Fatal(err)
	}
	w.startReady()
	w.drained()
	if err := w.sink.Close(); err != nil {
		w.Fatal(err)
	}
	v, err := ledger.Judge(w.paths)
	if err != nil {
		w.Fatal(err)
	}
	return v
}

// verify checks the store of a stopped service: its files, its records, and the
// consistency of its tables. The controls skip it, because the ledger must detect their
// faults alone.
func (w *harness) verify(when string) {
	w.Helper()
	if w.faulty {
		return
	}
	report, err := fsck.Verify(fsck.Config{Dir: w.config.Dir, Codec: wal.Codec()})
	if err != nil {
		w.Fatalf("verify the store, %s: %v", when, err)
	}
	w.Count("verified", 1)
	if report.Found > 0 {
		w.Errorf("%s, the store has %d problems; the first: %+v", when, report.Found, report.Problems[0])
	}
}

// drained waits until the service reports that Django has everything.
func (w *harness) drained() {
	w.Helper()
	deadline := time.Now().Add(drainWithin)
	for {
		lag, err := w.lag()
		if err == nil && lag == 0 {
			return
		}
		if time.Now().After(deadline) {
			w.Fatalf("not drained within %s: %v messages are left (%v)\n%s", drainWithin, lag, err, w.service.Log())
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func (w *harness) lag() (float64, error) {
	client := http.Client{Timeout: 5 * time.Second}
	response, err := client.Get(w.paths.URL + "/metrics")
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return 0, err
	}
	_, rest, found := strings.Cut(string(text), "\nmessaging_drain_lag_messages ")
	value, _, ended := strings.Cut(rest, "\n")
	if !found || !ended {
		return 0, fmt.Errorf("no drain lag in the metrics: %.200q", text)
	}
	return strconv.ParseFloat(value, 64)
}

// report counts a verdict, and fails the round for its findings.
func (w *harness) report(v *ledger.Verdict) {
	w.Helper()
	w.Count("answered", v.Answered)
	w.Count("of unknown outcome found", v.Open)
	w.Count("taken or acknowledged", v.Taken+v.Acknowledged)
	w.Count("excused", v.Excused)
	w.Count("stored", v.Stored)
	w.Count("dead letters", v.Dead)
	for _, k := range []ledger.Kind{ledger.Lost, ledger.Duplicated, ledger.Reordered} {
		w.Count(string(k), v.Count(k))
	}
	if v.Answered == 0 {
		w.Error("no call was answered: the rig tests nothing")
	}
	if len(v.Findings) > 0 {
		w.Errorf("%s\n%s", v, w.service.Log())
	}
}
