package faults_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
)

// django is a backend that runs a script for each batch.
type django struct {
	url string

	mu     sync.Mutex
	script func(w http.ResponseWriter, batch []json.RawMessage) (stored bool)
	texts  []string // texts of the stored messages, in order
}

func startDjango(t *testing.T, script func(http.ResponseWriter, []json.RawMessage) bool) *django {
	t.Helper()
	d := &django{script: script}
	server := httptest.NewServer(d)
	t.Cleanup(server.Close)
	d.url = server.URL
	return d
}

// env returns the setting that makes the service drain into this backend.
func (d *django) env() string { return "DJANGO_API_URL=" + d.url }

// ServeHTTP implements [http.Handler].
func (d *django) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var batch struct {
		Messages []json.RawMessage `json:"messages"`
	}
	if err := json.NewDecoder(r.Body).Decode(&batch); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.script(w, batch.Messages) {
		return
	}
	for _, text := range batch.Messages {
		var m message
		_ = json.Unmarshal(text, &m)
		d.texts = append(d.texts, m.Text)
	}
}

// setScript changes the script.
func (d *django) setScript(script func(http.ResponseWriter, []json.RawMessage) bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.script = script
}

// stored returns the texts of the stored messages in order.
func (d *django) stored() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.texts)
}

// stores accepts all messages.
func stores(w http.ResponseWriter, batch []json.RawMessage) bool {
	fmt.Fprintf(w, `{"persisted":%d,"errors":[]}`, len(batch))
	return true
}

// down responds as an unavailable backend.
func down(w http.ResponseWriter, _ []json.RawMessage) bool {
	http.Error(w, "down", http.StatusServiceUnavailable)
	return false
}

// refuses refuses every message permanently with a reason.
func refuses(reason string) func(http.ResponseWriter, []json.RawMessage) bool {
	return func(w http.ResponseWriter, batch []json.RawMessage) bool {
		errors := make([]string, len(batch))
		for i, m := range batch {
			errors[i] = fmt.Sprintf(`{"message":%s,"error":%q,"permanent":true}`, m, reason)
		}
		fmt.Fprintf(w, `{"persisted":0,"errors":[%s]}`, strings.Join(errors, ","))
		return false
	}
}
