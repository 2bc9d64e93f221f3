package engine

// Pinned says how many holds there are on queues: at rest one for each lease.
func (e *Engine) Pinned() (pins int) {
	for i := range e.queues.shards {
		s := &e.queues.shards[i]
		s.mu.Lock()
		for _, q := range s.queues {
			pins += q.pins
		}
		s.mu.Unlock()
	}
	return pins
}
