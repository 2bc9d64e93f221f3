package measure_test

import (
	"errors"
	"math"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stayafrica/messaging/bench/measure"
)

// near reports whether a latency matches within the precision of the histogram.
func near(got, want float64) bool { return math.Abs(got-want) <= want/100 }

func TestLoadCountsAndTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := measure.Load(4, time.Second, func(_, n int) (int, error) {
			if n%10 == 9 { // every tenth call takes longer
				time.Sleep(19 * time.Millisecond)
			} else {
				time.Sleep(9 * time.Millisecond)
			}
			return 5, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		// Ten calls take 100 ms, so a worker makes 100 calls in one second.
		if s.Value != 2000 || s.Latency.Calls != 400 {
			t.Error(s.Value, s.Latency.Calls)
		}
		if l := s.Latency; !near(l.P50, 9) || !near(l.P90, 9) || !near(l.P99, 19) || !near(l.P999, 19) || !near(l.Max, 19) {
			t.Errorf("%+v", l)
		}
		// A worker's calls end 9, 18 … 81 and 100 ms into each 100 ms: 25, 24, 26 and
		// 24 of them in the four steps, and one at the very end, in no step.
		if want := []float64{2000, 1920, 2080, 1920}; !slices.Equal(s.Series, want) {
			t.Error(s.Series)
		}
		first, last := s.Latency.Curve[0], s.Latency.Curve[len(s.Latency.Curve)-1]
		if !near(first.MS, 9) || last.Part != 1 || !near(last.MS, 19) {
			t.Error(s.Latency.Curve)
		}
	})
}

func TestLoadSeriesShowsStalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := measure.Load(1, time.Second, func(_, n int) (int, error) {
			if n == 0 {
				time.Sleep(500 * time.Millisecond)
				return 0, nil
			}
			time.Sleep(100 * time.Millisecond)
			return 1, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if want := []float64{0, 0, 8, 8}; s.Value != 5 || !slices.Equal(s.Series, want) {
			t.Error(s.Value, s.Series)
		}
	})
}

func TestLoadCountsTheTimeOfACallThatOutlastsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := measure.Load(1, time.Second, func(int, int) (int, error) {
			time.Sleep(4 * time.Second)
			return 8, nil
		})
		if err != nil || s.Value != 2 || s.Latency.Calls != 1 || !near(s.Latency.Max, 4000) {
			t.Error(s, err)
		}
	})
}

func TestLoadEndsAtTheFirstError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		down := errors.New("down")
		began := time.Now()
		s, err := measure.Load(8, time.Hour, func(worker, n int) (int, error) {
			time.Sleep(time.Second)
			if worker == 3 && n == 2 {
				return 0, down
			}
			return 1, nil
		})
		if !errors.Is(err, down) || s.Latency != nil || time.Since(began) > 4*time.Second {
			t.Error(s, err, time.Since(began))
		}
	})
}

func TestLoadOfNothing(t *testing.T) {
	for _, workers := range []int{0, 3} {
		s, err := measure.Load(workers, 0, func(int, int) (int, error) { return 1, nil })
		if err != nil || s.Latency != nil || len(s.Series) != 0 {
			t.Error(s, err)
		}
	}
}

func TestLatenciesKeepWithinTheirRange(t *testing.T) {
	l, other := measure.NewLatencies(), measure.NewLatencies()
	if l.Summary() != nil {
		t.Error("a summary of nothing")
	}
	l.Record(-time.Second)
	l.Record(0)
	other.Record(time.Hour)
	l.Add(other)
	if s := l.Summary(); s.Calls != 3 || s.P50 != 0.001 || !near(s.Max, 600_000) {
		t.Errorf("%+v", s)
	}
}
