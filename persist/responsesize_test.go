package persist_test

import (
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/persist"
)

// TestResponseCostsNoMoreThanItsBatch sends responses of the maximum size that is read,
// in the forms that are the largest once decoded.
func TestResponseCostsNoMoreThanItsBatch(t *testing.T) {
	batch := make([]messaging.Message, 500)
	sent := 0
	for i := range batch {
		batch[i] = messaging.Message{
			ID: messaging.MessageID{15: byte(i), 14: byte(i >> 8), 0: 1}, Position: messaging.Position{Sequence: uint64(i + 1)},
			Body: fmt.Appendf(nil, `{"text":%q}`, strings.Repeat("x", 2000)),
		}
		sent += len(batch[i].Body)
	}
	first := batch[0].ID.String()
	for name, c := range map[string]struct {
		head, unit, tail string
		times            int
		want             persist.Class
	}{
		"millions of empty errors":    {`{"persisted":0,"errors":[{}`, `,{}`, `]}`, 2_250_000, persist.Mismatched},
		"millions of nulls":           {`{"persisted":0,"errors":[null`, `,null`, `]}`, 1_300_000, persist.Mismatched},
		"errors for one message":      {`{"persisted":0,"errors":[{}`, `,{"message":{"id":"` + first + `"},"error":"no"}`, `]}`, 90_000, persist.Mismatched},
		"members of the response":     {`{"persisted":0`, `,"x":0`, `}`, 1_100_000, persist.Misconfigured},
		"members of an error":         {`{"persisted":0,"errors":[{"a":0`, `,"a":0`, `}]}`, 1_100_000, persist.Misconfigured},
		"values in an ignored member": {`{"persisted":500,"ids":[0`, `,0`, `]}`, 3_000_000, persist.Accounted},
		"a nested value":              {`{"persisted":500,"ids":`, `[`, ``, 6_000_000, persist.Misconfigured},
		"a long name":                 {`{"`, `xxxxxxxxxxxxxxxx`, `":1}`, 400_000, persist.Misconfigured},
		"a long error": {
			`{"persisted":499,"errors":[{"message":{"id":"` + first + `"},"error":"`, `xxxxxxxxxxxxxxxx`, `"}]}`, 400_000,
			persist.Accounted,
		},
		"a long message": {`{"persisted":499,"errors":[{"message":{"text":"`, `xxxxxxxxxxxxxxxx`, `"},"error":"no"}]}`, 400_000, persist.Mismatched},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				_, _ = io.WriteString(w, c.head)
				chunk := strings.Repeat(c.unit, 1000)
				for range c.times / 1000 {
					if _, err := io.WriteString(w, chunk); err != nil {
						return
					}
				}
				_, _ = io.WriteString(w, c.tail)
			}))
			defer server.Close()
			sink := persist.NewDjango(persist.DjangoConfig{URL: server.URL})
			defer sink.Close()
			sink.Deliver(t.Context(), batch[:1]) // the connection and its buffers
			a, allocated := leastAllocated(3, func() persist.Response { return sink.Deliver(t.Context(), batch) })
			t.Logf("%d KiB sent, %d KiB received: %d KiB were allocated", sent>>10, (c.times*len(c.unit))>>10, allocated>>10)
			if a.Class != c.want {
				t.Errorf("%s (%s), want %s", a.Class, a.Reason, c.want)
			}
			if allocated > 32<<20 {
				t.Errorf("%d MiB were allocated for a batch of %d KiB", allocated>>20, sent>>10)
			}
		})
	}
}

// leastAllocated calls deliver several times. It returns the last response and the
// smallest number of bytes that were allocated during a call. The number counts the whole
// process, so other work that runs during one call may increase it.
func leastAllocated(times int, deliver func() persist.Response) (a persist.Response, bytes uint64) {
	bytes = math.MaxUint64
	for range times {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		a = deliver()
		runtime.ReadMemStats(&after)
		bytes = min(bytes, after.TotalAlloc-before.TotalAlloc)
	}
	return a, bytes
}
