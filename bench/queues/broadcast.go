package main

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// broadcast measures one to 100,000 users, and what other sends notice of it.
func broadcast(s *service) error {
	const receivers = 100_000
	ids := make([]string, receivers)
	for i := range ids {
		ids[i] = strconv.Itoa(1_000_000 + i)
	}
	body := []byte(`{"message":{"sender_id":1,"text":"to all"},"user_ids":[` + strings.Join(ids, ",") + `]}`)
	var answered, everywhere, quiet, meanwhile []float64
	for range *rounds {
		before, err := s.latencies(2*time.Second, func() bool { return false })
		if err != nil {
			return err
		}
		queued, err := s.stat("queue_messages")
		if err != nil {
			return err
		}
		sent, done := make(chan error, 1), make(chan struct{})
		var tookAnswer, tookAll time.Duration
		go func() {
			defer close(done)
			began := time.Now()
			_, err := s.call(http.MethodPost, "/api/messages/broadcast", mediaJSON, body)
			tookAnswer = time.Since(began)
			for err == nil {
				var now float64
				if now, err = s.fannedOut(); err == nil && now == 0 {
					break
				}
				time.Sleep(5 * time.Millisecond)
			}
			tookAll = time.Since(began)
			sent <- err
		}()
		during, err := s.latencies(20*time.Second, func() bool {
			select {
			case <-done:
				return true
			default:
				return false
			}
		})
		if err = errors.Join(err, <-sent); err != nil {
			return err
		}
		after, err := s.stat("queue_messages")
		if err != nil || after-queued < receivers {
			return fmt.Errorf("%.0f more are queued, want %d (%w)", after-queued, receivers, err)
		}
		answered, everywhere = append(answered, tookAnswer.Seconds()), append(everywhere, tookAll.Seconds())
		quiet, meanwhile = append(quiet, percentile(before, 99)), append(meanwhile, percentile(during, 99))
	}
	fmt.Printf("broadcast to %d: answered after %s s, in every queue after %s s\n", receivers, spread(answered, 3), spread(everywhere, 3))
	fmt.Printf("  p99 of 16 others' sends: %s ms before, %s ms meanwhile, ratio %s\n", spread(times(quiet, 1000), 2), spread(times(meanwhile, 1000), 2), spread(ratios(meanwhile, quiet), 2))
	return nil
}

// fannedOut is how many large broadcasts are not in all queues yet.
func (s *service) fannedOut() (float64, error) { return s.stat("fanouts") }

// latencies sends from 16 connections, each at a leisurely pace, and gives how
// long each send took, in seconds.
func (s *service) latencies(d time.Duration, enough func() bool) ([]float64, error) {
	var mu sync.Mutex
	var list []float64
	stop := time.Now().Add(d)
	_, err := load(16, d, func(worker, n int) (int, error) {
		if enough() || time.Now().After(stop) {
			time.Sleep(10 * time.Millisecond)
			return 0, nil
		}
		began := time.Now()
		_, err := s.send(worker, n)
		took := time.Since(began).Seconds()
		mu.Lock()
		list = append(list, took)
		mu.Unlock()
		time.Sleep(10 * time.Millisecond)
		return 1, err
	})
	return list, err
}
