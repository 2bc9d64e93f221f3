package http

import (
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"
)

// requestMetrics times requests by route, method and status. Routes are those
// of the table, so the number of series is bounded.
type requestMetrics struct {
	set      *metrics.Set
	inFlight atomic.Int64
}

// durations are the buckets of request times, in seconds.
var durations = []float64{0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60}

// route gives the function that notes one request of a route.
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
