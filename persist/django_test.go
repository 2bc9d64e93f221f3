package persist_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/persist"
)

func batchOf(n int) []messaging.Message {
	batch := make([]messaging.Message, n)
	for i := range batch {
		batch[i] = messaging.Message{
			ID: messaging.MessageID{15: byte(i + 1)}, Position: messaging.Position{Sequence: uint64(i + 1)},
			Body: fmt.Appendf(nil, `{"n":9007199254740993,"text":"é%d"}`, i),
		}
	}
	return batch
}

// deliver posts a batch of n to a server with the given response.
func deliver(t *testing.T, n, status int, header http.Header, body string) persist.Response {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		maps.Copy(w.Header(), header)
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}))
	defer server.Close()
	sink := persist.NewDjango(persist.DjangoConfig{URL: server.URL + "/x/"})
	defer sink.Close()
	return sink.Deliver(t.Context(), batchOf(n))
}

func TestDjangoResponses(t *testing.T) {
	first, second := batchOf(2)[0].ID.String(), batchOf(2)[1].ID.String()
	for _, c := range []struct {
		name   string
		status int
		header http.Header
		body   string
		want   persist.Class
		retry  time.Duration
	}{
		{name: "all stored", status: 200, body: `{"persisted":2,"errors":[]}`, want: persist.Accounted},
		{name: "created, without errors", status: 201, body: `{"persisted":2}`, want: persist.Accounted},
		{name: "with duplicates", status: 200, body: `{"persisted":1,"duplicates":1,"errors":[]}`, want: persist.Accounted},
		{name: "one error, by id", status: 200, body: `{"persisted":1,"errors":[{"message":{"id":"` + first + `"},"error":"no"}]}`, want: persist.Accounted},
		{
			name: "one error, by equality", status: 200, body: `{"persisted":1,"errors":[{"message":{"text":"\u00e90","n":9007199254740993},"error":"no"}]}`,
			want: persist.Accounted,
		},
		{
			name: "almost equal", status: 200, body: `{"persisted":1,"errors":[{"message":{"text":"\u00e90","n":9007199254740992},"error":"no"}]}`,
			want: persist.Mismatched,
		},
		{name: "in another order", status: 200, body: `{"persisted":0,"errors":[{"message":{"id":"` + second + `"},"error":"b"},{"message":{"id":"` + first + `"},"error":"a"}]}`, want: persist.Accounted},
		{name: "too few", status: 200, body: `{"persisted":1,"errors":[]}`, want: persist.Mismatched},
		{name: "negative", status: 200, body: `{"persisted":3,"duplicates":-1}`, want: persist.Mismatched},
		{name: "unknown id", status: 200, body: `{"persisted":1,"errors":[{"message":{"id":"z"},"error":"no"}]}`, want: persist.Mismatched},
		{name: "one id twice", status: 200, body: `{"persisted":0,"errors":[{"message":{"id":"` + first + `"},"error":"a"},{"message":{"id":"` + first + `"},"error":"b"}]}`, want: persist.Mismatched},
		{name: "a duplicate twice", status: 200, body: `{"persisted":0,"errors":[{"message":{"id":"` + first + `"},"error":"get() returned more than one Message"},{"message":{"id":"` + first + `"},"error":"b"}]}`, want: persist.Mismatched},
		{name: "empty", status: 204, want: persist.Misconfigured},
		{name: "login page", status: 200, body: "<html>log in</html>", want: persist.Misconfigured},
		{name: "maintenance", status: 200, body: `{"detail":"maintenance"}`, want: persist.Misconfigured},
		{name: "half of JSON", status: 200, body: `{"persisted":2,"err`, want: persist.Misconfigured},
		{name: "huge", status: 200, body: strings.Repeat(" ", 2<<20), want: persist.Mismatched},
		{name: "huge and bad", status: 400, body: strings.Repeat(" ", 2<<20), want: persist.Rejected},
		{name: "huge and broken", status: 500, body: strings.Repeat(" ", 2<<20), want: persist.Unavailable},
		{name: "moved", status: 301, header: http.Header{"Location": {"/y"}}, want: persist.Misconfigured},
		{name: "moved with its method", status: 307, header: http.Header{"Location": {"/y"}}, want: persist.Misconfigured},
		{name: "bad request", status: 400, body: "bad", want: persist.Rejected},
		{name: "unauthorized", status: 401, want: persist.Misconfigured},
		{name: "forbidden", status: 403, want: persist.Misconfigured},
		{name: "not found", status: 404, want: persist.Misconfigured},
		{name: "timeout", status: 408, want: persist.TimedOut},
		{name: "too large", status: 413, want: persist.Rejected},
		{name: "unprocessable", status: 422, want: persist.Rejected},
		{name: "too early", status: 425, want: persist.Unavailable},
		{name: "throttled", status: 429, header: http.Header{"Retry-After": {"3593"}}, want: persist.Throttled, retry: 3593 * time.Second},
		{name: "absurd", status: 429, header: http.Header{"Retry-After": {"999999999"}}, want: persist.Throttled, retry: time.Hour},
		{name: "nonsense", status: 503, header: http.Header{"Retry-After": {"soon"}}, want: persist.Unavailable},
		{name: "in the past", status: 503, header: http.Header{"Retry-After": {"Fri, 31 Dec 1999 23:59:59 GMT"}}, want: persist.Unavailable},
		{name: "broken", status: 500, body: "<html>", want: persist.Unavailable},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := deliver(t, 2, c.status, c.header, c.body)
			if a.Class != c.want || a.RetryAfter != c.retry {
				t.Errorf("got %s, retry after %s (%s), want %s, %s", a.Class, a.RetryAfter, a.Reason, c.want, c.retry)
			}
			if a.Class == persist.Accounted && len(a.Results) != 2 {
				t.Errorf("%d results", len(a.Results))
			}
		})
	}
}

func TestErrorsOfOneMessage(t *testing.T) {
	for text, want := range map[string]persist.Result{
		`"get() returned more than one Message -- it returned 2!"`: {Stored: true, Error: "get() returned more than one Message -- it returned 2!"},
		`"Conversation matching query does not exist."`:            {Suspect: true, Error: "Conversation matching query does not exist."},
		`"value too long"`:                            {Error: "value too long"},
		`{"text":["too long"]}`:                       {Error: `{"text":["too long"]}`},
		`"UNIQUE constraint failed","permanent":true`: {Permanent: true, Error: "UNIQUE constraint failed"},
	} {
		a := deliver(t, 1, 200, nil, `{"persisted":0,"errors":[{"message":{"id":"`+batchOf(1)[0].ID.String()+`"},"error":`+text+`}]}`)
		if a.Class != persist.Accounted || a.Results[0] != want {
			t.Errorf("%s: got %s %+v, want %+v", text, a.Class, a.Results, want)
		}
	}
}

// The largest echo: an error returns a large message with every byte escaped.
func TestLargeMessageMayComeBackEscaped(t *testing.T) {
	batch := batchOf(1)
	batch[0].Body = []byte(`{"text":"` + strings.Repeat("a", 1<<20) + `"}`)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = fmt.Fprintf(w, `{"persisted":0,"errors":[{"message":{"id":%q,"text":"%s"},"error":"no"}]}`, batch[0].ID, strings.Repeat(`\u0061`, 1<<20))
	}))
	defer server.Close()
	a := persist.NewDjango(persist.DjangoConfig{URL: server.URL}).Deliver(t.Context(), batch)
	if a.Class != persist.Accounted || a.Results[0].Error != "no" {
		t.Errorf("got %s (%s)", a.Class, a.Reason)
	}
}

func TestInvariant8EndlessResponseIsNotReadToItsEnd(t *testing.T) {
	const whole = 100 << 20
	for messages, want := range map[int]persist.Class{1: persist.Misconfigured, 2: persist.Mismatched} {
		var written atomic.Int64
		var encodings atomic.Value
		done := make(chan struct{})
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			defer close(done)
			encodings.Store(r.Header.Get("Accept-Encoding"))
			_, _ = io.WriteString(w, `{"persisted":1,"x":"`)
			spaces := bytes.Repeat([]byte(" "), 64<<10)
			for written.Load() < whole {
				n, err := w.Write(spaces)
				written.Add(int64(n))
				if err != nil {
					return
				}
			}
			_, _ = io.WriteString(w, `"}`)
		}))
		sink := persist.NewDjango(persist.DjangoConfig{URL: server.URL})
		a := sink.Deliver(t.Context(), batchOf(messages))
		<-done
		if a.Class != want || len(a.Results) != 0 {
			t.Errorf("%d messages: got %s (%s), want %s", messages, a.Class, a.Reason, want)
		}
		if n := written.Load(); n > 32<<20 { // the limit plus the socket buffers
			t.Errorf("%d bytes of it went out", n)
		}
		if e := encodings.Load(); e != "" {
			t.Errorf("it accepts the encodings %v", e)
		}
		server.Close()
	}
}

func TestRequestToDjango(t *testing.T) {
	var got *http.Request
	var body string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, _ := io.ReadAll(r.Body)
		got, body = r, string(text)
		_, _ = io.WriteString(w, `{"persisted":1}`)
	}))
	defer server.Close()
	sink := persist.NewDjango(persist.DjangoConfig{URL: server.URL + "/x/", Header: http.Header{"X-Erlang-Secret": {"s3cret"}}})
	batch := batchOf(2)
	keys := make(map[string]bool)
	for _, b := range [][]messaging.Message{batch[:1], batch[:1], batch[1:]} {
		if a := sink.Deliver(t.Context(), b); a.Class != persist.Accounted {
			t.Fatalf("%+v", a)
		}
		keys[got.Header.Get("Idempotency-Key")] = true
	}
	if len(keys) != 2 {
		t.Errorf("%d keys for two batches, one of them sent twice", len(keys))
	}
	for name, want := range map[string]string{"Content-Type": "application/json", "X-Erlang-Service": "messaging", "X-Erlang-Secret": "s3cret"} {
		if got.Header.Get(name) != want {
			t.Errorf("%s is %q, want %q", name, got.Header.Get(name), want)
		}
	}
	want := `{"messages":[{"id":"00000000-0000-0000-0000-000000000002","sequence":2,"created_at":"0001-01-01T00:00:00.000Z","n":9007199254740993,"text":"é1"}]}`
	if body != want {
		t.Errorf("body %s\nwant %s", body, want)
	}
}

func TestFact7RedirectIsNotFollowed(t *testing.T) {
	var followed atomic.Bool
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/x/" {
			http.Redirect(w, r, "/y/", http.StatusFound)
			return
		}
		followed.Store(true)
		_, _ = io.WriteString(w, `{"persisted":1}`)
	}))
	defer server.Close()
	a := persist.NewDjango(persist.DjangoConfig{URL: server.URL + "/x/"}).Deliver(t.Context(), batchOf(1))
	if a.Class != persist.Misconfigured || followed.Load() {
		t.Errorf("%+v, followed: %t", a, followed.Load())
	}
}

func TestNoResponse(t *testing.T) {
	hang := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/hang":
			<-hang
		case "/half":
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, `{"persisted"`)
		}
	}))
	defer server.Close()
	defer close(hang)
	for address, want := range map[string]persist.Class{
		server.URL + "/hang": persist.TimedOut, server.URL + "/half": persist.Unavailable,
		"http://127.0.0.1:1/": persist.Unreached, "http://does-not-exist.invalid/": persist.Unreached,
	} {
		sink := persist.NewDjango(persist.DjangoConfig{URL: address, Timeout: 200 * time.Millisecond})
		if a := sink.Deliver(context.Background(), batchOf(1)); a.Class != want && (want != persist.Unreached || a.Class != persist.TimedOut) {
			t.Errorf("%s: %s (%s), want %s", address, a.Class, a.Reason, want)
		}
	}
}

func TestTrust2xx(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer server.Close()
	a := persist.NewDjango(persist.DjangoConfig{URL: server.URL, Trust2xx: true}).Deliver(t.Context(), batchOf(1))
	if a.Class != persist.Accounted || !a.Results[0].Stored {
		t.Errorf("%+v", a)
	}
}
