package persist

// limits adapts the batch size and the concurrency. A time-out halves both, because the
// load may be too high; each success lets them grow again.
type limits struct {
	maxBatch, maxConcurrency int
	batch, concurrency       int
}

func newLimits(batch, concurrency int) limits {
	return limits{maxBatch: batch, maxConcurrency: concurrency, batch: batch, concurrency: concurrency}
}

func (l *limits) shrink() {
	l.batch = max(1, l.batch/2)
	l.concurrency = max(1, l.concurrency/2)
}

func (l *limits) grow() {
	l.batch = min(l.maxBatch, l.batch*2)
	l.concurrency = min(l.maxConcurrency, l.concurrency+1)
}

// fill sets the maximum batch size, for a backend that limits the number of requests.
func (l *limits) fill() { l.batch = l.maxBatch }
