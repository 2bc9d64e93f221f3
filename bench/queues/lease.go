package main

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// lease compares taking ten under a lease and acknowledging them with single
// sends.
func lease(s *service) error {
	return compare("lease 10 and acknowledge", "single sends", func() (float64, error) {
		// Every worker has users of its own, whose queues are filled for this round
		// with more than it can take.
		for user := range *connections * 10 {
			if _, err := s.call(http.MethodDelete, "/api/messages/queue/"+strconv.Itoa(users+user), "", nil); err != nil {
				return 0, err
			}
		}
		backlog := *perSecond * int(*each/time.Millisecond) / 1000
		if err := s.fill(backlog, func(i int) int { return users + i%(*connections*10) }); err != nil {
			return 0, err
		}
		time.Sleep(settle)
		return load(*connections, *each, s.leaseTen)
	}, func() (float64, error) {
		time.Sleep(settle)
		return load(*connections, *each, s.send)
	})
}

// settle is how long the store has to write down what came before, so that a
// measurement has only its own work.
const settle = 3 * time.Second

func (s *service) leaseTen(worker, n int) (int, error) {
	user := strconv.Itoa(users + worker + (n%10)**connections)
	answer, err := s.call(http.MethodGet, "/api/messages/queue/"+user+"?max_count=10&lease=60", "", nil)
	if err != nil {
		return 0, err
	}
	request := []byte(`{"user_id":` + user + `,"receipts":[`)
	count := 0
	for rest := answer; ; count++ {
		_, found, ok := bytes.Cut(rest, []byte(`"receipt":"`))
		if !ok {
			break
		}
		receipt, behind, _ := bytes.Cut(found, []byte(`"`))
		if count > 0 {
			request = append(request, ',')
		}
		request = append(append(append(request, '"'), receipt...), '"')
		rest = behind
	}
	if count == 0 {
		return 0, errors.New("a queue has run empty: give it more")
	}
	answer, err = s.call(http.MethodPost, "/api/messages/ack", mediaJSON, append(request, "]}"...))
	if err == nil && bytes.Count(answer, []byte(`"acked"`)) != count {
		err = fmt.Errorf("%d of %d were acknowledged: %s", bytes.Count(answer, []byte(`"acked"`)), count, answer)
	}
	return count, err
}
