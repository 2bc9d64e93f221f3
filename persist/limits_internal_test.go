package persist

import "testing"

func TestLimits(t *testing.T) {
	l := newLimits(500, 4)
	for range 20 {
		l.shrink()
	}
	if l.batch != 1 || l.concurrency != 1 {
		t.Errorf("after many time-outs: %d messages, %d requests", l.batch, l.concurrency)
	}
	l.grow()
	if l.batch != 2 || l.concurrency != 2 {
		t.Errorf("after a success: %d messages, %d requests", l.batch, l.concurrency)
	}
	for range 20 {
		l.grow()
	}
	if l.batch != 500 || l.concurrency != 4 {
		t.Errorf("after many: %d messages, %d requests", l.batch, l.concurrency)
	}
}
