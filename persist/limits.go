package persist

// limits are the size of batches and how many are on the way. A time-out halves
// both, because what is too slow may be too much; every success lets them grow
// again.
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

// fill makes batches as large as they may be, for a backend that counts calls.
func (l *limits) fill() { l.batch = l.maxBatch }
