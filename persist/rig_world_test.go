package persist_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/persist"
)

// Settings of the drain in the rig: all times are short.
const (
	rigTimeout  = 300 * time.Millisecond
	rigBackoff  = 40 * time.Millisecond
	rigAttempts = 3
	rigBatch    = 10
	rigSecret   = "s3cr3t-and-hushed"
)

// world is a drain, a backend, and the network between them.
type world struct {
	testing.TB

	log      *rigStore
	django   *django
	proxy    *toxiproxy.Proxy
	sink     *switchableSink
	journal  *logChecker
	strict   *strictStore
	progress persist.ProgressStore // strictStore, or a store over it that breaks the promise
	drain    *persist.Drain
	halt     func()
	attempts int // MaxAttempts
	restarts int
	extras   int
}

func newWorld(tb testing.TB) *world {
	tb.Helper()
	w := &world{TB: tb, log: newRigStore(tb), django: newDjango(tb), journal: &logChecker{tb: tb}, attempts: rigAttempts}
	w.sink = &switchableSink{tb: tb}
	w.strict = &strictStore{memoryStore: w.log.progress, store: w.log, django: w.django}
	w.progress = w.strict
	w.connect()
	return w
}

// connect puts a proxy between the drain and the backend.
func (w *world) connect() {
	w.Helper()
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	proxy := toxiproxy.NewProxy(server, "django", "127.0.0.1:0", strings.TrimPrefix(w.django.server.URL, "http://"))
	if err := proxy.Start(); err != nil {
		w.Fatal(err)
	}
	w.Cleanup(proxy.Stop)
	w.proxy = proxy
	w.sink.set(w.newSink("http://" + proxy.Listen + "/persist/"))
}

func (w *world) newSink(url string) persist.Sink {
	sink := persist.NewDjango(persist.DjangoConfig{URL: url, Timeout: rigTimeout, Connections: 4, Header: http.Header{"Authorization": {"Token " + rigSecret}}})
	w.Cleanup(sink.Close)
	return sink
}

func (w *world) start() {
	w.Helper()
	var err error
	w.drain, err = persist.New(persist.Config{
		Source: w.log, Store: w.progress, Sink: w.sink, BatchSize: rigBatch, Linger: 3 * time.Millisecond, MaxAttempts: w.attempts,
		MaxBackoff: rigBackoff, Grace: 100 * time.Millisecond, Logger: slog.New(w.journal),
	})
	if err != nil {
		w.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.drain.Run(ctx) }()
	w.halt = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			w.Errorf("the drain ended with %v", err)
		}
	})
	w.Cleanup(w.halt)
}

// restart stops the drain and starts another one at the saved position.
func (w *world) restart() {
	w.halt()
	w.restarts++
	w.sink.resetPause()
	w.journal.reset()
	w.start()
}

// crash is a restart from an earlier position.
func (w *world) crash(position messaging.Position) {
	w.halt()
	w.strict.rewind(position)
	w.restart()
}

// toxic injects a network failure in one direction until remove is called.
func (w *world) toxic(kind, stream string, attributes map[string]any) (remove func()) {
	w.Helper()
	text, err := json.Marshal(map[string]any{"name": "t", "type": kind, "stream": stream, "attributes": attributes})
	if err != nil {
		w.Fatal(err)
	}
	if _, err := w.proxy.Toxics.AddToxicJson(bytes.NewReader(text)); err != nil {
		w.Fatal(err)
	}
	return func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = w.proxy.Toxics.RemoveToxic(ctx, "t") // a link that does not end in time is cut below
		w.proxy.Stop()
		w.plugIn()
	}
}

// plugIn starts the proxy again. If another process has taken its port, the backend
// gets a new address.
func (w *world) plugIn() {
	w.Helper()
	if err := w.proxy.Start(); err != nil {
		w.Logf("the backend moves: %v", err)
		w.connect()
	}
}

// switchableSink is a sink that can be replaced. It checks that requested pauses are
// kept.
type switchableSink struct {
	tb             testing.TB
	mu             sync.Mutex
	now            persist.Sink
	quietUntil     time.Time // nothing may be sent before this time
	requestedAt    time.Time // when the pause was requested
	dropRetryAfter bool      // the drain does not see Retry-After
}

// reaction is how long after a response a request that was already being sent may still
// arrive, on a busy machine.
const reaction = 300 * time.Millisecond

func (s *switchableSink) set(to persist.Sink) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now = to
}

func (s *switchableSink) get() persist.Sink {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now
}

// resetPause forgets the requested pause, as a new process does.
func (s *switchableSink) resetPause() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.quietUntil = time.Time{}
}

func (s *switchableSink) Deliver(ctx context.Context, batch []messaging.Message) persist.Response {
	s.mu.Lock()
	if now := time.Now(); now.Before(s.quietUntil) && now.After(s.requestedAt.Add(reaction)) {
		s.tb.Errorf("the backend asked for a pause of %s, and a request came after %s", s.quietUntil.Sub(s.requestedAt), now.Sub(s.requestedAt))
	}
	now := s.now
	s.mu.Unlock()
	a := now.Deliver(ctx, batch)
	if a.RetryAfter > 0 {
		s.mu.Lock()
		now := time.Now()
		if now.After(s.quietUntil) {
			s.requestedAt = now
		}
		s.quietUntil = now.Add(a.RetryAfter)
		s.mu.Unlock()
	}
	if s.dropRetryAfter {
		a.RetryAfter = 0
	}
	return a
}

// chat returns thirty messages in three conversations.
func chat() (names []string) {
	for i := range 10 {
		for _, c := range []string{"a", "b", "c"} {
			names = append(names, fmt.Sprintf("%s/%d", c, i))
		}
	}
	return names
}

func (w *world) eventually(what string, ok func() bool) bool {
	w.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			w.Errorf("not within 20 seconds: %s", what)
			return false
		}
	}
	return true
}

// waitForStall adds a message and waits until the drain reports an outage.
func (w *world) waitForStall() {
	w.Helper()
	w.log.add(fmt.Sprintf("extra/%d", w.extras))
	w.extras++
	w.eventually("the drain waits", w.drain.Waiting)
}

func (w *world) atTheEnd() bool { return w.drain.Position().Sequence == w.log.Durable()+1 }

// waitUntilSettled waits until the drain reaches the end of the log.
func (w *world) waitUntilSettled() bool {
	w.Helper()
	return w.eventually("everything is settled", w.atTheEnd)
}

// judge checks that every message is stored once or is a dead letter, that the dead
// letters are those of dead, and that the order of each conversation is kept except for
// messages that had errors or were refused alone.
func (w *world) judge(dead []string) {
	w.Helper()
	w.halt() // this saves the position
	if p, err := w.log.progress.Position(); err != nil || p.Sequence != w.log.Durable()+1 {
		w.Errorf("the saved position is %v (%v), want %d", p, err, w.log.Durable()+1)
	}
	dead = slices.Sorted(slices.Values(dead))
	if got := w.log.deadNames(); !slices.Equal(got, dead) {
		w.Errorf("dead letters are %v, want %v", got, dead)
	}
	w.judgeStored(dead)
	w.judgeOrder()
	if lines, _ := w.journal.count(); lines > 60 {
		w.Errorf("%d lines were logged", lines)
	}
	if n := w.django.wrote.Load(); n > 16<<20 { // the limit plus the buffers of sockets and proxy
		w.Errorf("%d bytes of one response were read", n)
	}
}

func (w *world) judgeStored(dead []string) {
	w.Helper()
	missing := make(map[string]bool)
	for _, m := range w.log.all() {
		missing[nameOf(&m)] = true
	}
	seen := make(map[string]bool)
	for _, n := range w.django.names() {
		switch {
		case seen[n]:
			w.Errorf("%s was stored twice", n)
		case !missing[n]:
			w.Errorf("%s was stored but was not sent to the backend", n)
		}
		seen[n] = true
		delete(missing, n)
	}
	for _, n := range dead {
		delete(missing, n)
	}
	for n := range missing {
		w.Errorf("lost: %s", n)
	}
}

func (w *world) judgeOrder() {
	w.Helper()
	last := make(map[string]int)
	for i, n := range w.django.names() {
		conversation, text, _ := strings.Cut(n, "/")
		var number int
		if _, err := fmt.Sscan(text, &number); err != nil || strings.Contains(text, ">") || w.django.isHeld(n) {
			continue // a copy has no conversation
		}
		if number < last[conversation] {
			w.Errorf("%s was stored at index %d, after %s/%d", n, i, conversation, last[conversation])
		}
		last[conversation] = max(number, last[conversation])
	}
}
