package http

import (
	"bytes"
	"fmt"
	"io"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"
)

// requestMetrics measures requests by route, method and status. Its routes are those of
// the table, so the number of series is bounded.
type requestMetrics struct {
	set      *metrics.Set
	inFlight atomic.Int64
}

// durations are the buckets of request times, in seconds.
var durations = []float64{0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60}

// route returns a function that records one request of a route.
func (m *requestMetrics) route(method, path string) func(status int, took time.Duration) {
	var byStatus sync.Map // int → *metrics.PrometheusHistogram
	return func(status int, took time.Duration) {
		h, ok := byStatus.Load(status)
		if !ok {
			name := fmt.Sprintf(`messaging_http_request_seconds{route=%q,method=%q,code=%q}`, path, method, strconv.Itoa(status))
			h, _ = byStatus.LoadOrStore(status, m.set.GetOrCreatePrometheusHistogramExt(name, durations))
		}
		if histogram, ok := h.(*metrics.PrometheusHistogram); ok {
			histogram.Update(took.Seconds())
		}
	}
}

// writeWithHelp completes the lines that say what a metric is: the library leaves
// their texts empty.
func writeWithHelp(w io.Writer, text []byte, help func(name string) string) {
	for line := range bytes.Lines(text) {
		if name, ok := bytes.CutPrefix(line, []byte("# HELP ")); ok {
			name := string(bytes.TrimSpace(name))
			fmt.Fprintf(w, "# HELP %s %s\n", name, help(name)) // the writer keeps its error
			continue
		}
		_, _ = w.Write(line)
	}
}
