package http

import (
	"sync"
	"testing"
)

func TestBudget(t *testing.T) {
	b := budget{limit: 100}
	first, second := b.hold(), b.hold()
	for _, step := range []struct {
		who  *held
		n    int64
		ok   bool
		used int64
	}{
		{first, 60, true, 60},
		{second, 50, false, 60},
		{second, 40, true, 100},
		{first, 1, false, 100},
	} {
		if err := step.who.grow(step.n); (err == nil) != step.ok || b.used.Load() != step.used {
			t.Errorf("grow %d: %v, used %d; want ok %t and %d", step.n, err, b.used.Load(), step.ok, step.used)
		}
	}
	second.release()
	if err := first.grow(1 << 40); err != nil || b.used.Load() != 100 {
		t.Errorf("alone: %v, used %d", err, b.used.Load())
	}
	if err := first.grow(1 << 40); err != nil {
		t.Errorf("alone and grown beyond the limit: %v", err)
	}
	first.release()
	first.release()
	if b.used.Load() != 0 {
		t.Errorf("%d bytes are held by nobody", b.used.Load())
	}
}

func TestBudgetIsNeverExceeded(t *testing.T) {
	b := budget{limit: 1000}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 2000 {
				h := b.hold()
				for h.grow(90) == nil && h.bytes < 500 {
					if used := b.used.Load(); used > b.limit {
						t.Errorf("%d are used", used)
					}
				}
				h.release()
			}
		})
	}
	wg.Wait()
	if b.used.Load() != 0 {
		t.Errorf("%d bytes are held by nobody", b.used.Load())
	}
}
