package limits

import (
	"sync"
	"testing"
)

func TestBudget(t *testing.T) {
	b := NewBudget(100)
	first, second := b.Hold(nil), b.Hold(nil)
	for _, step := range []struct {
		who  *Reservation
		n    int64
		ok   bool
		used int64
	}{
		{first, 60, true, 60},
		{second, 50, false, 60},
		{second, 40, true, 100},
		{first, 1, false, 100},
	} {
		if err := step.who.Grow(step.n); (err == nil) != step.ok || b.used.Load() != step.used {
			t.Errorf("grow %d: %v, used %d; want ok %t and %d", step.n, err, b.used.Load(), step.ok, step.used)
		}
	}
	second.Release()
	if err := first.Grow(1 << 40); err != nil || b.used.Load() != 100 {
		t.Errorf("alone: %v, used %d", err, b.used.Load())
	}
	if err := first.Grow(1 << 40); err != nil {
		t.Errorf("alone and grown beyond the limit: %v", err)
	}
	first.Release()
	first.Release()
	if b.used.Load() != 0 {
		t.Errorf("%d bytes are still reserved", b.used.Load())
	}
}

func TestBudgetIsNeverExceeded(t *testing.T) {
	b := NewBudget(1000)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 2000 {
				r := b.Hold(nil)
				for r.Grow(90) == nil && r.bytes < 500 {
					if used := b.used.Load(); used > b.limit {
						t.Errorf("%d are used", used)
					}
				}
				r.Release()
			}
		})
	}
	wg.Wait()
	if b.used.Load() != 0 {
		t.Errorf("%d bytes are still reserved", b.used.Load())
	}
}
