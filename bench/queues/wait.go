package main

import (
	"bytes"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// wait measures the memory of the whole process with 10,000 readers waiting,
// and how long a message takes to reach one of them.
func wait(s *service) error {
	before, err := s.resident()
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	var woken atomic.Int64
	for i := range *waiters {
		wg.Go(func() {
			if answer, err := s.call(http.MethodGet, "/api/messages/queue/w"+strconv.Itoa(i)+"?wait=60&max_count=1", "", nil); err == nil && bytes.Contains(answer, []byte(`"count":1`)) {
				woken.Add(1)
			}
		})
		if i%200 == 0 {
			time.Sleep(20 * time.Millisecond)
		}
	}
	for {
		n, err := s.stat("waiting_readers")
		if err != nil {
			return err
		}
		if int(n) >= *waiters {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	time.Sleep(3 * time.Second)
	during, err := s.resident()
	if err != nil {
		return err
	}
	latency, err := s.wakeUps()
	if err != nil {
		return err
	}
	fmt.Printf("%d readers wait: %d MiB resident (%d before they came); a message reaches its waiter %s ms after its send began (p50), %.2f (p99)\n",
		*waiters, during>>20, before>>20, spread([]float64{percentile(latency, 50)}, 2), percentile(latency, 99))
	for i := range *waiters { // let them go
		if _, err := s.call(http.MethodPost, "/api/messages/send", mediaJSON, fmt.Appendf(nil, `{"conversation_id":1,"sender_id":2,"receiver_id":"w%d","text":"x"}`, i)); err != nil {
			return err
		}
	}
	wg.Wait()
	if int(woken.Load()) != *waiters {
		return fmt.Errorf("%d of %d were woken", woken.Load(), *waiters)
	}
	return nil
}

// wakeUps measures, with all the others waiting, from the beginning of a send to
// the end of its waiter's answer, in milliseconds.
func (s *service) wakeUps() (list []float64, err error) {
	for range 200 {
		got := make(chan error, 1)
		go func() {
			_, err := s.call(http.MethodGet, "/api/messages/queue/probe?wait=30", "", nil)
			got <- err
		}()
		time.Sleep(5 * time.Millisecond)
		began := time.Now()
		if _, err := s.call(http.MethodPost, "/api/messages/send", mediaJSON, []byte(`{"conversation_id":1,"sender_id":2,"receiver_id":"probe","text":"x"}`)); err != nil {
			return nil, err
		}
		if err := <-got; err != nil {
			return nil, err
		}
		list = append(list, time.Since(began).Seconds()*1000)
	}
	return list, nil
}
