package persist_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// django is a backend that keys on the id and fails as a scenario defines.
type django struct {
	tb     testing.TB
	server *httptest.Server
	trap   *httptest.Server // the target of redirects: no request may reach it

	mu          sync.Mutex
	fault       fault             // nil for none
	left        int               // requests that the fault still answers
	bodies      map[string]string // by id: what was sent under it
	keys        map[string]string // by idempotency key: the ids that were sent with it
	stored      []string          // names, each once
	byID        map[string]bool
	mayComeLate map[string]bool // names that had errors or were refused alone: they may arrive late

	wrote atomic.Int64 // bytes read by a client of the longest endless response
}

// fault responds to a request with a failure. It may store messages.
type fault func(d *django, w http.ResponseWriter, r *http.Request, batch []sent)

// sent is a message as the backend receives it.
type sent struct {
	ID   string
	Name string
	Raw  json.RawMessage
}

func newDjango(tb testing.TB) *django {
	tb.Helper()
	d := &django{tb: tb, bodies: make(map[string]string), keys: make(map[string]string), byID: make(map[string]bool), mayComeLate: make(map[string]bool)}
	d.trap = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		tb.Errorf("a redirect was followed, with %s and Authorization %q", r.Method, r.Header.Get("Authorization"))
		_, _ = io.WriteString(w, `{"persisted":10}`)
	}))
	d.server = httptest.NewServer(http.HandlerFunc(d.serve))
	tb.Cleanup(func() {
		d.stop()
		d.trap.Close()
	})
	return d
}

func (d *django) stop() {
	d.server.CloseClientConnections()
	d.server.Close()
}

// restart starts a stopped server again on the same address.
func (d *django) restart() {
	addr := d.server.Listener.Addr().String()
	server := httptest.NewUnstartedServer(http.HandlerFunc(d.serve))
	_ = server.Listener.Close()
	var err error
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		// Another process may hold the port for a moment.
		if server.Listener, err = net.Listen("tcp", addr); err == nil || time.Now().After(deadline) {
			break
		}
	}
	if err != nil {
		d.tb.Error(err)
		return
	}
	server.Start()
	d.server = server
}

func (d *django) serve(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/persist/" || r.Method != http.MethodPost {
		d.tb.Errorf("unexpected request %s %s", r.Method, r.URL.Path)
		return
	}
	batch, err := d.read(r)
	if err != nil {
		return // the request was cut off
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

// read reads a batch and checks the request: its required headers, and consistency with
// earlier requests under the same ids and the same key.
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
	if n := len(request.Messages); n == 0 || n > rigBatch {
		d.tb.Errorf("a batch of %d messages, want 1 to %d", n, rigBatch)
	}
	for name, want := range map[string]string{"Authorization": "Token " + rigSecret, "Content-Type": "application/json", "X-Erlang-Service": "messaging"} {
		if got := r.Header.Get(name); got != want {
			d.tb.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	batch := make([]sent, len(request.Messages))
	ids := make([]string, len(batch))
	for i, raw := range request.Messages {
		batch[i] = d.compareLocked(raw)
		ids[i] = batch[i].ID
	}
	d.compareKeyLocked(r.Header.Get("Idempotency-Key"), strings.Join(ids, " "))
	return batch, nil
}

// compareLocked checks that a repeated message is identical to the byte: id, sequence,
// time and body.
func (d *django) compareLocked(raw json.RawMessage) sent {
	var m struct {
		ID             string
		Text           string
		ReceiverID     json.RawMessage `json:"receiver_id"`
		ConversationID string          `json:"conversation_id"`
	}
	if err := json.Unmarshal(raw, &m); err != nil {
		d.tb.Error(err)
	}
	if before, ok := d.bodies[m.ID]; ok && before != string(raw) {
		d.tb.Errorf("under %s arrived\n%s\nand then\n%s", m.ID, before, raw)
	}
	d.bodies[m.ID] = string(raw)
	if m.ConversationID == "" { // a receiver's copy
		m.Text = copyName(m.Text, strings.Trim(string(m.ReceiverID), `"`))
	}
	return sent{m.ID, m.Text, raw}
}

// compareKeyLocked checks that each batch has one idempotency key and that no two
// batches share one.
func (d *django) compareKeyLocked(key, ids string) {
	if key == "" {
		d.tb.Error("a request without an idempotency key")
	}
	if before, ok := d.keys[key]; ok && before != ids {
		d.tb.Errorf("one idempotency key for two batches: %s and %s", before, ids)
	}
	for other, before := range d.keys {
		if before == ids && other != key {
			d.tb.Errorf("two idempotency keys for one batch: %s", ids)
		}
	}
	d.keys[key] = ids
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

// names returns the stored messages in the order of their arrival.
func (d *django) names() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.stored)
}

func (d *django) has(id string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.byID[id]
}

// hold records that a message had an error or was refused alone: it may arrive late.
func (d *django) hold(name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.mayComeLate[name] = true
}

func (d *django) isHeld(name string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.mayComeLate[name]
}

// misbehave lets a fault answer that many requests.
func (d *django) misbehave(f fault, requests int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fault, d.left = f, requests
}

func (d *django) clearFault() { d.misbehave(nil, 0) }

// faultsLeft returns how many requests the fault still answers.
func (d *django) faultsLeft() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.left
}

// endless records how much of an endless response was read.
func (d *django) endless(n int64) {
	for {
		before := d.wrote.Load()
		if n <= before || d.wrote.CompareAndSwap(before, n) {
			return
		}
	}
}
