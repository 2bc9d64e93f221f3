package main

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// load lets connections do something over and over for a while, and gives how
// much it was a second. do gives how many messages it was.
func load(workers int, d time.Duration, do func(worker, n int) (int, error)) (float64, error) {
	var total atomic.Int64
	var wg sync.WaitGroup
	failures := make(chan error, workers)
	began := time.Now()
	for w := range workers {
		wg.Go(func() {
			for n := 0; time.Since(began) < d; n++ {
				count, err := do(w, n)
				if err != nil {
					failures <- err
					return
				}
				total.Add(int64(count))
			}
		})
	}
	wg.Wait()
	close(failures)
	return float64(total.Load()) / time.Since(began).Seconds(), <-failures
}

// compare measures two things in turn and prints medians, spreads and the ratio.
func compare(what, other string, a, b func() (float64, error)) error {
	var left, right []float64
	for range *rounds {
		x, err := a()
		if err != nil {
			return err
		}
		y, err := b()
		if err != nil {
			return err
		}
		left, right = append(left, x), append(right, y)
	}
	digits := 0
	if left[0] < 100 {
		digits = 3
	}
	fmt.Printf("%s: %s; %s: %s; ratio %s\n", what, spread(left, digits), other, spread(right, digits), spread(ratios(left, right), 2))
	return nil
}

func ratios(a, b []float64) []float64 {
	list := make([]float64, len(a))
	for i := range a {
		list[i] = a[i] / b[i]
	}
	return list
}

func times(list []float64, by float64) []float64 {
	scaled := make([]float64, len(list))
	for i := range list {
		scaled[i] = list[i] * by
	}
	return scaled
}

func percentile(list []float64, p int) float64 {
	if len(list) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(list))
	return sorted[min(len(sorted)-1, len(sorted)*p/100)]
}

// spread writes a median with the least and the most.
func spread(list []float64, digits int) string {
	return fmt.Sprintf("%.*f (%.*f to %.*f)", digits, percentile(list, 50), digits, slices.Min(list), digits, slices.Max(list))
}
