package main

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stayafrica/messaging/bench/measure"
)

// wakeUps measures how long a message takes from its send to the end of the response of
// a long poll that waits for it: with one waiter, and with many more.
func wakeUps(s *suite) error {
	return s.with("wake-up", func(v *service) error {
		if err := s.wakesBeside(v, 1); err != nil {
			return err
		}
		n := s.scale.idle[len(s.scale.idle)-1]
		waiting, err := v.startWaiters(n)
		if err == nil {
			err = s.wakesBeside(v, n)
		}
		if err == nil {
			time.Sleep(v.quiesce)
			var mib float64
			mib, err = resident(v.PID)
			r := measure.Result{
				Workload: "wake-up", Case: plural(n, "reader") + " in long polls, resident", Unit: "MiB",
				Sides: []measure.Side{{Name: ours, Samples: []measure.Sample{{Value: mib}}}},
			}
			if n >= 10_000 {
				r.Goals = []measure.Goal{{Most: 300e6 / (1 << 20)}}
			}
			s.keep(r)
		}
		return errors.Join(err, waiting.wakeAll(v))
	})
}

// wakesBeside measures with that many other waiters.
func (s *suite) wakesBeside(v *service, waiting int) error {
	r := measure.Result{Workload: "wake-up", Case: plural(waiting, "reader") + " in long polls, p50", Size: float64(waiting), SizeName: "readers", Unit: "ms"}
	return s.inTurn(r, measure.Measured{Name: ours, Detail: "200 sends, one after the other; GET …?wait=30", Round: v.wakeUps})
}

func (v *service) wakeUps() (measure.Sample, error) {
	latencies := measure.NewLatencies()
	for range 200 {
		got := make(chan error, 1)
		go func() {
			got <- v.client.call("GET", "/api/messages/queue/5?wait=30", "", nil, func(responseBody []byte) error {
				if !bytes.Contains(responseBody, []byte(`"count":1}`)) {
					return errors.New("the long poll returned no message")
				}
				return nil
			})
		}()
		time.Sleep(5 * time.Millisecond) // by then the reader waits; if not, the figure is slightly better
		began := time.Now()
		if err := v.client.send(5); err != nil {
			return measure.Sample{}, err
		}
		if err := <-got; err != nil {
			return measure.Sample{}, err
		}
		latencies.Record(time.Since(began))
	}
	return measure.Sample{Value: latencies.At(0.5), Latency: latencies.Summary()}, nil
}

// waiters are readers in long polls, each on its own queue.
type waiters struct {
	n      int
	wg     sync.WaitGroup
	served atomic.Int64
}

// startWaiters starts n waiters and returns when all of them wait.
func (v *service) startWaiters(n int) (*waiters, error) {
	w := &waiters{n: n}
	for i := range n {
		w.wg.Go(func() {
			err := v.client.call("GET", "/api/messages/queue/w"+strconv.Itoa(i)+"?wait=60&max_count=1", "", nil, func(responseBody []byte) error {
				if bytes.Contains(responseBody, []byte(`"count":1}`)) {
					w.served.Add(1)
				}
				return nil
			})
			_ = err // wakeAll counts the served waiters
		})
		if i%200 == 0 {
			time.Sleep(10 * time.Millisecond)
		}
	}
	for range 600 {
		waiting, err := v.client.stat("waiting_readers")
		if err != nil || int(waiting) >= n {
			return w, err
		}
		time.Sleep(50 * time.Millisecond)
	}
	return w, fmt.Errorf("after 30 seconds not all of %d readers wait", n)
}

// wakeAll sends each waiter a message; all must get it.
func (w *waiters) wakeAll(v *service) error {
	err := v.client.fill(w.n, func(b []byte, i int) []byte {
		return fmt.Appendf(b, `{"conversation_id":1,"sender_id":2,"receiver_id":"w%d","text":"x"}`, i)
	})
	w.wg.Wait()
	if err == nil && int(w.served.Load()) != w.n {
		err = fmt.Errorf("%d of %d waiters were served", w.served.Load(), w.n)
	}
	return err
}
