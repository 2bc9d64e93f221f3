package persist_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stayafrica/messaging/persist"
)

// Measured behaviour of Go's HTTP client that the sink depends on. A failure here after
// an upgrade means that a precaution is no longer needed, or no longer sufficient.

func TestFact7ClientTurnsARedirectedPostIntoAGet(t *testing.T) {
	var method, token atomic.Value
	mux := http.NewServeMux()
	mux.HandleFunc("/from/", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/to/", http.StatusMovedPermanently) })
	mux.HandleFunc("/to/", func(w http.ResponseWriter, r *http.Request) {
		method.Store(r.Method)
		token.Store(r.Header.Get("Authorization"))
		_, _ = io.WriteString(w, "all is well")
	})
	server := httptest.NewServer(mux)
	defer server.Close()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL+"/from/", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Token secret")
	response, err := new(http.Client).Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK || method.Load() != http.MethodGet || token.Load() != "Token secret" {
		t.Errorf("status %d, %v with %v", response.StatusCode, method.Load(), token.Load())
	}
}

func TestFact7ClientSendsAPostAgainThatHasAnIdempotencyKey(t *testing.T) {
	for _, key := range []string{"", "k"} {
		var requests, posts atomic.Int32
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			if r.Method == http.MethodPost {
				posts.Add(1)
			}
			if requests.Add(1) == 2 {
				cut(w) // the first post on a reused connection
			}
		}))
		client := &http.Client{Transport: &http.Transport{}}
		send := func(method string) error {
			request, err := http.NewRequestWithContext(t.Context(), method, server.URL, strings.NewReader("{}"))
			if err != nil {
				return err
			}
			if key != "" {
				request.Header.Set("Idempotency-Key", key)
			}
			response, err := client.Do(request)
			if err != nil {
				return err
			}
			_, _ = io.Copy(io.Discard, response.Body)
			return response.Body.Close()
		}
		if err := send(http.MethodPut); err != nil {
			t.Fatal(err)
		}
		err := send(http.MethodPost)
		if again := posts.Load() == 2 && err == nil; again != (key != "") {
			t.Errorf("with the key %q it was sent %d times (%v)", key, posts.Load(), err)
		}
		client.CloseIdleConnections()
		server.Close()
	}
}

// TestFact7SecretsGoToNoOtherAddress: whatever a redirect says, requests go only to the
// configured address.
func TestFact7SecretsGoToNoOtherAddress(t *testing.T) {
	trap := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		t.Errorf("the trap got %s with Authorization %q and secret %q", r.Method, r.Header.Get("Authorization"), r.Header.Get("X-Erlang-Secret"))
		_, _ = io.WriteString(w, `{"persisted":1}`)
	}))
	defer trap.Close()
	for _, status := range []int{301, 302, 303, 305, 307, 308} {
		for _, location := range []string{trap.URL + "/", "/y/", "//" + strings.TrimPrefix(trap.URL, "http://") + "/", "", "?next=/x/"} {
			var asked atomic.Int32
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				asked.Add(1)
				if location != "" {
					w.Header().Set("Location", location)
				}
				w.WriteHeader(status)
			}))
			sink := persist.NewDjango(persist.DjangoConfig{URL: server.URL + "/x/", Header: http.Header{"Authorization": {"Token secret"}, "X-Erlang-Secret": {"s"}}})
			a := sink.Deliver(t.Context(), batchOf(1))
			if asked.Load() != 1 || a.Class != persist.Misconfigured {
				t.Errorf("%d to %q: %s (%s) after %d requests", status, location, a.Class, a.Reason, asked.Load())
			}
			sink.Close()
			server.Close()
		}
	}
}

// TestFact7RepeatedPostIsIdentical: if a reused connection is cut when a batch is sent
// on it, Go sends the batch again by itself, possibly after the backend stored it. The
// repetition must be identical to the byte, including ids and key, so that a backend
// that keys on them stores it once.
func TestFact7RepeatedPostIsIdentical(t *testing.T) {
	var requests atomic.Int32
	seen := make(chan string, 10)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		seen <- r.Header.Get("Idempotency-Key") + string(body)
		if requests.Add(1) == 2 {
			cut(w)
			return
		}
		_, _ = io.WriteString(w, `{"persisted":0,"duplicates":2}`)
	}))
	defer server.Close()
	sink := persist.NewDjango(persist.DjangoConfig{URL: server.URL})
	defer sink.Close()
	for range 2 {
		if a := sink.Deliver(t.Context(), batchOf(2)); a.Class != persist.Accounted {
			t.Errorf("%s: %s", a.Class, a.Reason)
		}
	}
	if n := requests.Load(); n != 3 {
		t.Fatalf("%d requests for two batches, want 3: Go repeats one by itself", n)
	}
	if a, b := <-seen, <-seen; a != b || a != <-seen {
		t.Error("the repeated request differs")
	}
}
