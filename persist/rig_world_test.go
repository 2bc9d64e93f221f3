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

// What the drain is given in the rig: everything is short.
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
	sink     *switched
	journal  *journal
	strict   *strictLedger
	ledger   persist.Ledger // strict, or what breaks the promise over it
	drain    *persist.Drain
	halt     func()
	attempts int // MaxAttempts
	restarts int
	extras   int
}

func newWorld(tb testing.TB) *world {
	tb.Helper()
	w := &world{TB: tb, log: newRigStore(tb), django: newDjango(tb), journal: &journal{tb: tb}, attempts: rigAttempts}
	w.sink = &switched{tb: tb}
	w.strict = &strictLedger{Control: w.log.control, store: w.log, django: w.django}
	w.ledger = w.strict
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
		Source: w.log, Ledger: w.ledger, Sink: w.sink, BatchSize: rigBatch, Linger: 3 * time.Millisecond, MaxAttempts: w.attempts,
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

// restart stops the drain and starts another one where it was.
func (w *world) restart() {
	w.halt()
	w.restarts++
	w.sink.forgive()
	w.journal.reopen()
	w.start()
}

// crash is a restart that finds the position where it was longer ago.
func (w *world) crash(position messaging.Position) {
	w.halt()
	w.strict.rewind(position)
	w.restart()
}

// toxic lets the network misbehave in a direction until the given function is
// called.
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

// plugIn starts the proxy again. Where somebody else has got its port meanwhile
// the backend moves.
func (w *world) plugIn() {
	w.Helper()
	if err := w.proxy.Start(); err != nil {
		w.Logf("the backend moves: %v", err)
		w.connect()
	}
}

// switched is a sink that can be replaced. It sees to it that pauses that were
// asked for are kept.
type switched struct {
	tb    testing.TB
	mu    sync.Mutex
	now   persist.Sink
	quiet time.Time // nothing may be sent until then
	asked time.Time // since then
	deaf  bool      // the drain does not hear of it
}

// reaction is how long after its answer a request may still leave that was about
// to: the machine may be busy.
const reaction = 300 * time.Millisecond

func (s *switched) set(to persist.Sink) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now = to
}

func (s *switched) get() persist.Sink {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now
}

// forgive forgets what was asked for, as a new process does.
func (s *switched) forgive() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.quiet = time.Time{}
}

func (s *switched) Deliver(ctx context.Context, batch []messaging.Message) persist.Answer {
	s.mu.Lock()
	if now := time.Now(); now.Before(s.quiet) && now.After(s.asked.Add(reaction)) {
		s.tb.Errorf("it was asked to wait %s, and sent after %s", s.quiet.Sub(s.asked), now.Sub(s.asked))
	}
	now := s.now
	s.mu.Unlock()
	a := now.Deliver(ctx, batch)
	if a.RetryAfter > 0 {
		s.mu.Lock()
		now := time.Now()
		if now.After(s.quiet) {
			s.asked = now
		}
		s.quiet = now.Add(a.RetryAfter)
		s.mu.Unlock()
	}
	if s.deaf {
		a.RetryAfter = 0
	}
	return a
}

// chat is thirty messages in three conversations.
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

// waits sees to it that there is something to send, and that the drain sees that
// it cannot.
func (w *world) waits() {
	w.Helper()
	w.log.add(fmt.Sprintf("extra/%d", w.extras))
	w.extras++
	w.eventually("the drain waits", w.drain.Waiting)
}

func (w *world) atTheEnd() bool { return w.drain.Position().Sequence == w.log.Durable()+1 }

// settled waits until the drain has come to the end of the log.
func (w *world) settled() bool {
	w.Helper()
	return w.eventually("everything is settled", w.atTheEnd)
}

// judge wants every message stored once or a dead letter, those of dead and no
// others, and the order of each conversation kept but for what was in errors or
// refused alone.
func (w *world) judge(dead []string) {
	w.Helper()
	w.halt() // which saves the position
	if p, err := w.log.control.Position(); err != nil || p.Sequence != w.log.Durable()+1 {
		w.Errorf("the position in the ledger is %v (%v), want %d", p, err, w.log.Durable()+1)
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
	if n := w.django.wrote.Load(); n > 16<<20 { // the limit, and what sockets and the proxy hold
		w.Errorf("%d bytes were taken of one answer", n)
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
			w.Errorf("%s was stored, and nobody sent it to be", n)
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
			w.Errorf("%s was stored at place %d, behind %s/%d", n, i, conversation, last[conversation])
		}
		last[conversation] = max(number, last[conversation])
	}
}
