package main

import (
	"net/http"
	"time"
)

// take compares a take from a queue of 100,000 that has had 100,000 taken with
// one from a fresh queue of 100,000.
func take(s *service) error {
	const size = 100_000
	if err := s.fill(2*size, func(int) int { return 3 }); err != nil {
		return err
	}
	for range size / 1000 {
		if _, err := s.call(http.MethodGet, "/api/messages/queue/3?max_count=1000", "", nil); err != nil {
			return err
		}
	}
	if err := s.fill(size, func(int) int { return 6 }); err != nil { // of the same priority
		return err
	}
	one := func(user string) func() (float64, error) {
		return func() (float64, error) {
			var list []float64
			for range 300 {
				began := time.Now()
				if _, err := s.call(http.MethodGet, "/api/messages/queue/"+user+"?max_count=10", "", nil); err != nil {
					return 0, err
				}
				list = append(list, time.Since(began).Seconds())
			}
			return percentile(list, 50) * 1000, nil
		}
	}
	return compare("ms a take of 10 with 100,000 taken before", "ms from a fresh queue", one("3"), one("6"))
}
