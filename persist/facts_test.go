package persist_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
)

// What was measured of Go's client, on which the way to the backend rests. A test
// that fails here after an upgrade says that a precaution has become needless, or
// is no longer enough.

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
				cut(w) // the first post on a connection that was used before
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
