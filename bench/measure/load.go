package measure

import (
	"errors"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// SeriesStep is the length of a step of a [Sample]'s series.
const SeriesStep = 250 * time.Millisecond

// Latency is the distribution of call durations in milliseconds.
type Latency struct {
	Calls int64   `json:"calls"`
	P50   float64 `json:"p50_ms"`
	P90   float64 `json:"p90_ms"`
	P99   float64 `json:"p99_ms"`
	P999  float64 `json:"p999_ms"`
	Max   float64 `json:"max_ms"`
	// Curve is the distribution for a plot: the latency at given parts (0 to 1) of all
	// calls.
	Curve []Point `json:"curve,omitempty"`
}

// Point is one point of a distribution.
type Point struct {
	Part float64 `json:"part"`
	MS   float64 `json:"ms"`
}

// parts are the points of a plotted distribution; towards 1 they become denser.
var parts = []float64{0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999, 0.9995, 0.9999, 1}

// Latencies collects call durations. It is not safe for concurrent use; see
// [Latencies.Add].
type Latencies struct{ h *hdrhistogram.Histogram }

// NewLatencies returns an empty collection with a precision of two digits, from a
// microsecond to ten minutes.
func NewLatencies() *Latencies {
	return &Latencies{h: hdrhistogram.New(1, (10 * time.Minute).Microseconds(), 2)}
}

// Record adds one call.
func (l *Latencies) Record(d time.Duration) {
	_ = l.h.RecordValue(min(max(d.Microseconds(), 1), (10 * time.Minute).Microseconds())) // clamped to the range
}

// Add adds another collection.
func (l *Latencies) Add(other *Latencies) { l.h.Merge(other.h) }

// At returns the latency in milliseconds at this part (0 to 1) of the calls.
func (l *Latencies) At(part float64) float64 {
	return float64(l.h.ValueAtQuantile(part*100)) / 1000
}

// Summary returns the distribution; nil without calls.
func (l *Latencies) Summary() *Latency {
	if l.h.TotalCount() == 0 {
		return nil
	}
	s := &Latency{Calls: l.h.TotalCount(), P50: l.At(0.5), P90: l.At(0.9), P99: l.At(0.99), P999: l.At(0.999), Max: float64(l.h.Max()) / 1000}
	for _, p := range parts {
		s.Curve = append(s.Curve, Point{Part: p, MS: l.At(p)})
	}
	return s
}

// worker is the result of one goroutine of a load.
type worker struct {
	latencies *Latencies
	steps     []int64
	messages  int64
	err       error
}

// ErrDone ends a worker of [Load] early.
var ErrDone = errors.New("done")

// Load runs workers that call do repeatedly, for d or until do returns [ErrDone]. It
// returns the messages per second, the latencies, and the rate over time. do receives
// the number of the worker and of its call, both from 0, and returns how many messages
// the call was. Any other error ends the load.
func Load(workers int, d time.Duration, do func(worker, n int) (messages int, err error)) (Sample, error) {
	all := make([]worker, workers)
	stop := make(chan struct{})
	var once sync.Once
	var wg sync.WaitGroup
	began := time.Now()
	for i := range all {
		wg.Go(func() {
			all[i].run(i, began, d, stop, do)
			if all[i].err != nil {
				once.Do(func() { close(stop) })
			}
		})
	}
	wg.Wait()
	return sum(all, time.Since(began))
}

func (w *worker) run(number int, began time.Time, d time.Duration, stop <-chan struct{}, do func(worker, n int) (int, error)) {
	w.latencies = NewLatencies()
	w.steps = make([]int64, d/SeriesStep+1)
	for n, now := 0, time.Now(); now.Sub(began) < d; n++ {
		select {
		case <-stop:
			return
		default:
		}
		messages, err := do(number, n)
		if errors.Is(err, ErrDone) {
			return
		}
		if err != nil {
			w.err = err
			return
		}
		ended := time.Now()
		w.latencies.Record(ended.Sub(now))
		w.messages += int64(messages)
		if step := int(ended.Sub(began) / SeriesStep); step < len(w.steps) {
			w.steps[step] += int64(messages)
		}
		now = ended
	}
}

// sum merges the results of the workers.
func sum(all []worker, took time.Duration) (Sample, error) {
	latencies := NewLatencies()
	var messages int64
	var series []float64
	for _, w := range all {
		if w.err != nil {
			return Sample{}, w.err
		}
		latencies.Add(w.latencies)
		messages += w.messages
		if series == nil {
			series = make([]float64, len(w.steps)-1) // the last step is incomplete
		}
		for i := range series {
			series[i] += float64(w.steps[i]) / SeriesStep.Seconds()
		}
	}
	return Sample{Value: float64(messages) / took.Seconds(), Latency: latencies.Summary(), Series: series}, nil
}
