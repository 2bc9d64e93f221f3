package persist_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/stayafrica/messaging/persist"
)

// FuzzDjangoResponse: for any response to two messages, only what a 2xx status accounts
// for counts as stored.
func FuzzDjangoResponse(f *testing.F) {
	for _, body := range responseCorpus() {
		f.Add([]byte(body), 200, "")
	}
	for _, status := range []int{201, 204, 206, 226, 301, 302, 303, 304, 307, 308, 400, 401, 403, 404, 405, 408, 413, 422, 425, 429, 500, 502, 503, 504, 599} {
		f.Add([]byte(`{"persisted":2}`), status, "")
	}
	for _, pause := range []string{
		"1", "3593", "1000000000000", "-1", "0", "soon", "NaN", "Inf", "1e400", "0x1p40", "1e-300", "Fri, 31 Dec 9999 23:59:59 GMT",
		"Fri, 31 Dec 1999 23:59:59 GMT", " 7 ",
	} {
		f.Add([]byte("no"), 429, pause)
		f.Add([]byte("no"), 503, pause)
	}
	var body atomic.Pointer[[]byte]
	var status atomic.Int64
	var pause atomic.Pointer[string]
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", *pause.Load())
		w.WriteHeader(int(status.Load()))
		_, _ = w.Write(*body.Load())
	}))
	f.Cleanup(server.Close)
	sink := persist.NewDjango(persist.DjangoConfig{URL: server.URL})
	f.Cleanup(sink.Close)
	f.Fuzz(func(t *testing.T, text []byte, code int, after string) {
		if code < 200 || code > 599 {
			code = 200
		}
		body.Store(&text)
		status.Store(int64(code))
		pause.Store(&after)
		checkResponse(t, sink.Deliver(t.Context(), batchOf(2)), code, text)
	})
}

// checkResponse checks the invariants of every response to two messages.
func checkResponse(t *testing.T, a persist.Response, code int, text []byte) {
	t.Helper()
	if a.RetryAfter < 0 || a.RetryAfter > time.Hour {
		t.Errorf("it waits for %s", a.RetryAfter)
	}
	if a.Class != persist.Accounted {
		if len(a.Results) != 0 {
			t.Errorf("%s with %d results", a.Class, len(a.Results))
		}
		return
	}
	if code > 299 || len(a.Results) != 2 {
		t.Fatalf("status %d accounts for %d of 2 messages", code, len(a.Results))
	}
	stored := 0
	for _, r := range a.Results {
		if r.Stored && r.Error == "" { // a stored result with an error is a duplicate
			stored++
		}
	}
	var decoded struct {
		Persisted  int              `json:"persisted"`
		Duplicates int              `json:"duplicates"`
		Errors     []jsontext.Value `json:"errors"`
	}
	if err := json.Unmarshal(text, &decoded); err != nil || decoded.Persisted < 0 || decoded.Duplicates < 0 || stored != decoded.Persisted+decoded.Duplicates || 2-stored != len(decoded.Errors) {
		t.Errorf("%d count as stored, and the response is %+v (%v)", stored, decoded, err)
	}
}

// responseCorpus returns bodies of valid and invalid responses.
func responseCorpus() []string {
	first, second := batchOf(2)[0].ID.String(), batchOf(2)[1].ID.String()
	one := `{"message":{"id":"` + first + `"},"error":"no"}`
	two := `{"message":{"id":"` + second + `"},"error":"get() returned more than one Message -- it returned 2!"}`
	return []string{
		"", "null", "{}", "[]", "2", `"x"`, "<html>log in</html>", "\xef\xbb\xbf{\"persisted\":2}", "\x1f\x8b\x08\x00", `{"persisted":2,"err`,
		`{"persisted":2}{"persisted":2}`,
		`{"persisted":2}`, `{"persisted":2,"errors":[]}`, `{"persisted":2,"errors":null,"duplicates":null}`, `{"persisted":0,"duplicates":2}`,
		`{"persisted":1,"duplicates":1,"errors":[]}`,
		`{"persisted":null}`, `{"persisted":"2"}`, `{"persisted":2.0}`, `{"persisted":2e0}`, `{"persisted":1e99}`, `{"persisted":-1,"duplicates":3}`,
		`{"persisted":3,"duplicates":-1}`,
		`{"persisted":9223372036854775807,"duplicates":9223372036854775807}`, `{"persisted":9223372036854775808}`, `{"Persisted":2}`,
		`{"persisted":1,"persisted":2}`, `{"detail":"maintenance"}`,
		`{"persisted":1,"errors":[` + one + `]}`, `{"persisted":0,"errors":[` + two + `,` + one + `]}`, `{"persisted":0,"errors":[` + one + `,` + one + `]}`,
		`{"persisted":0,"errors":[` + two + `,` + two + `]}`,
		`{"persisted":1,"errors":[{"message":{"text":"\u00e90","n":9007199254740993},"error":"no"}]}`,
		`{"persisted":1,"errors":[{"message":{"text":"\u00e90","n":9007199254740992},"error":"no"}]}`,
		`{"persisted":1,"errors":[{"message":{"id":"x"},"error":"no"}]}`, `{"persisted":1,"errors":[{"message":null,"error":null}]}`,
		`{"persisted":1,"errors":[{}]}`, `{"persisted":1,"errors":["no"]}`, `{"persisted":1,"errors":{"0":"no"}}`,
		`{"persisted":1,"errors":[{"message":{"id":"` + first + `"},"error":{"text":["too long"]},"permanent":true}]}`,
		`{"persisted":1,"errors":[{"message":{"id":"` + first + `"},"error":"no","permanent":"yes"}]}`,
		`{"persisted":1,"errors":[{"message":{"id":"` + first + `"},"error":"` + strings.Repeat("x", 4096) + `"}]}`,
		`{"persisted":0,"errors":[{"message":{"id":"` + strings.ToUpper(first) + `"},"error":"no"}]}`,
		strings.Repeat("[", 10_000), strings.Repeat(`{"a":`, 10_000),
	}
}
