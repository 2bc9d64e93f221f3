package persist_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
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
)

// django is a backend that keys on the id and misbehaves as a scenario has it.
type django struct {
	tb     testing.TB
	server *httptest.Server
	trap   atomic.Int32 // requests at the place to which redirects point

	mu     sync.Mutex
	fault  fault             // nil is none
	left   int               // for how many more requests
	bodies map[string]string // by id: what was sent under it
	keys   map[string]string // by idempotency key: the ids that were sent with it
	stored []string          // names, each once
	byID   map[string]bool
	held   map[string]bool // names that were in errors, or refused alone: they may come later
}

// fault answers a request in a bad way. It may store what it likes.
type fault func(d *django, w http.ResponseWriter, r *http.Request, batch []sent)

// sent is a message as the backend gets it.
type sent struct {
	ID   string
	Name string
	Raw  json.RawMessage
}

func newDjango(tb testing.TB) *django {
	tb.Helper()
	d := &django{tb: tb, bodies: make(map[string]string), keys: make(map[string]string), byID: make(map[string]bool), held: make(map[string]bool)}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /persist/", d.serve)
	mux.HandleFunc("/trap/", func(w http.ResponseWriter, _ *http.Request) {
		d.trap.Add(1)
		_, _ = io.WriteString(w, `{"persisted":10}`)
	})
	d.server = httptest.NewServer(mux)
	tb.Cleanup(func() {
		d.server.CloseClientConnections()
		d.server.Close()
	})
	return d
}

func (d *django) serve(w http.ResponseWriter, r *http.Request) {
	batch, err := d.read(r)
	if err != nil {
		return // it was cut off on the way
	}
	d.mu.Lock()
	f := d.fault
	if d.left--; d.left < 0 {
		f = nil
	}
	d.mu.Unlock()
	if f != nil {
		f(d, w, r, batch)
		return
	}
	d.store(batch)
	_, _ = fmt.Fprintf(w, `{"persisted":%d,"duplicates":0,"errors":[]}`, len(batch))
}

// read reads a batch, and compares what came before under the same ids and the
// same key.
func (d *django) read(r *http.Request) ([]sent, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	var request struct{ Messages []json.RawMessage }
	if err := json.Unmarshal(body, &request); err != nil {
		d.tb.Errorf("the request is not JSON: %v", err)
		return nil, err
	}
	batch := make([]sent, len(request.Messages))
	ids := make([]string, len(batch))
	d.mu.Lock()
	defer d.mu.Unlock()
	for i, raw := range request.Messages {
		var m struct{ ID, Text string }
		if err := json.Unmarshal(raw, &m); err != nil {
			d.tb.Error(err)
		}
		batch[i], ids[i] = sent{m.ID, m.Text, raw}, m.ID
		if before, ok := d.bodies[m.ID]; ok && before != string(raw) {
			d.tb.Errorf("under %s came\n%s\nand then\n%s", m.ID, before, raw)
		}
		d.bodies[m.ID] = string(raw)
	}
	key, all := r.Header.Get("Idempotency-Key"), strings.Join(ids, " ")
	if before, ok := d.keys[key]; ok && before != all {
		d.tb.Errorf("one idempotency key for two batches: %s and %s", before, all)
	}
	for other, before := range d.keys {
		if before == all && other != key {
			d.tb.Errorf("two idempotency keys for one batch: %s", all)
		}
	}
	d.keys[key] = all
	return batch, nil
}

func (d *django) store(batch []sent) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, m := range batch {
		if !d.byID[m.ID] {
			d.byID[m.ID] = true
			d.stored = append(d.stored, m.Name)
		}
	}
}

func (d *django) names() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.stored)
}

// misbehave lets a fault answer so many requests.
func (d *django) misbehave(f fault, requests int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fault, d.left = f, requests
}

func (d *django) heal() { d.misbehave(nil, 0) }

// faults says how many requests a fault has answered of those that were asked for.
func (d *django) faultsLeft() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.left
}

// world is a drain, a backend, and the network between them.
type world struct {
	testing.TB

	log     *memoryLog
	django  *django
	proxy   *toxiproxy.Proxy
	sink    *switched
	logged  *lineCounter
	drain   *persist.Drain
	halt    func()
	attempt int // MaxAttempts
	ledger  persist.Ledger
}

// switched is a sink that can be replaced.
type switched struct {
	mu  sync.Mutex
	now persist.Sink
}

func (s *switched) set(to persist.Sink) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now = to
}

func (s *switched) Deliver(ctx context.Context, batch []messaging.Message) persist.Answer {
	s.mu.Lock()
	now := s.now
	s.mu.Unlock()
	return now.Deliver(ctx, batch)
}

// lineCounter counts the lines of the log above debug.
type lineCounter struct{ lines atomic.Int32 }

func (c *lineCounter) Write(b []byte) (int, error) {
	c.lines.Add(int32(bytes.Count(b, []byte{'\n'})))
	return len(b), nil
}

func newWorld(tb testing.TB) *world {
	tb.Helper()
	w := &world{TB: tb, log: newLog(), django: newDjango(tb), sink: &switched{}, logged: &lineCounter{}, attempt: rigAttempts}
	w.ledger = w.log
	upstream := strings.TrimPrefix(w.django.server.URL, "http://")
	w.proxy = toxiproxy.NewProxy(toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop()), "django", "127.0.0.1:0", upstream)
	if err := w.proxy.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(w.proxy.Stop)
	w.sink.set(w.newSink("http://" + w.proxy.Listen + "/persist/"))
	return w
}

func (w *world) newSink(url string) persist.Sink {
	sink := persist.NewDjango(persist.DjangoConfig{URL: url, Timeout: rigTimeout, Connections: 4, Header: http.Header{"Authorization": {"Token secret"}}})
	w.Cleanup(sink.Close)
	return sink
}

func (w *world) start() {
	w.Helper()
	var err error
	w.drain, err = persist.New(persist.Config{
		Source: w.log, Ledger: w.ledger, Sink: w.sink, BatchSize: rigBatch, Linger: 3 * time.Millisecond, MaxAttempts: w.attempt,
		MaxBackoff: rigBackoff, Grace: 100 * time.Millisecond, Logger: slog.New(slog.NewTextHandler(w.logged, nil)),
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
	w.start()
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
		if err := w.proxy.Start(); err != nil {
			w.Error(err)
		}
	}
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

// settled waits until the drain has come to the end of the log.
func (w *world) settled() bool {
	w.Helper()
	return w.eventually("everything is settled", func() bool { return w.drain.Position().Sequence == w.log.Durable()+1 })
}

// judge wants every message stored once or a dead letter, those of dead and no
// others, and the order of each conversation kept but for what was in errors or refused alone.
func (w *world) judge(dead []string) {
	w.Helper()
	w.django.mu.Lock()
	heldBack := maps.Clone(w.django.held)
	w.django.mu.Unlock()
	want := make(map[string]bool)
	w.log.mu.Lock()
	for i := range w.log.messages {
		want[name(w.log.messages[i].Body)] = true
	}
	w.log.mu.Unlock()
	gotDead := w.log.deadTexts()
	slices.Sort(gotDead)
	slices.Sort(dead)
	if !slices.Equal(gotDead, dead) {
		w.Errorf("dead letters are %v, want %v", gotDead, dead)
	}
	last := make(map[string]int)
	for i, n := range w.django.names() {
		if !want[n] {
			w.Errorf("%s was stored, and nobody sent it", n)
		}
		delete(want, n)
		conversation, text, _ := strings.Cut(n, "/")
		var number int
		if _, err := fmt.Sscan(text, &number); err != nil || heldBack[n] {
			continue
		}
		if number < last[conversation] {
			w.Errorf("%s was stored at place %d, behind %s/%d", n, i, conversation, last[conversation])
		}
		last[conversation] = max(number, last[conversation])
	}
	for _, n := range dead {
		delete(want, n)
	}
	if len(want) > 0 {
		w.Errorf("lost: %v", slices.Sorted(maps.Keys(want)))
	}
	if n := w.django.trap.Load(); n > 0 {
		w.Errorf("%d redirects were followed", n)
	}
	if n := w.logged.lines.Load(); n > 60 {
		w.Errorf("%d lines were logged", n)
	}
}

// cut ends a connection with a reset.
func cut(w http.ResponseWriter) {
	hijacker, ok := w.(http.Hijacker)
	if !ok {
		return
	}
	conn, _, err := hijacker.Hijack()
	if err != nil {
		return
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}
