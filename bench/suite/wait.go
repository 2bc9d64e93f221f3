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

// wakeUps measures, from a send, how long its message takes to reach who waits
// for it in a long poll, to the end of that answer: alone, and beside many more
// who wait.
func wakeUps(s *suite) error {
	return s.with("wake-up", func(v *service) error {
		if err := s.wakesBeside(v, 1); err != nil {
			return err
		}
		n := s.scale.idle[len(s.scale.idle)-1]
		crowd, err := v.gather(n)
		if err == nil {
			err = s.wakesBeside(v, n)
		}
		if err == nil {
			time.Sleep(v.settle)
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
		return errors.Join(err, crowd.leave(v))
	})
}

// wakesBeside measures with so many who wait.
func (s *suite) wakesBeside(v *service, waiting int) error {
	r := measure.Result{Workload: "wake-up", Case: plural(waiting, "reader") + " in long polls, p50", Size: float64(waiting), SizeName: "readers", Unit: "ms"}
	return s.inTurn(r, measure.Measured{Name: ours, Detail: "200 sends, one after the other; GET …?wait=30", Round: v.wakeUps})
}

func (v *service) wakeUps() (measure.Sample, error) {
	latencies := measure.NewLatencies()
	for range 200 {
		got := make(chan error, 1)
		go func() {
			got <- v.client.call("GET", "/api/messages/queue/5?wait=30", "", nil, func(answer []byte) error {
				if !bytes.Contains(answer, []byte(`"count":1}`)) {
					return errors.New("it was woken for nothing")
				}
				return nil
			})
		}()
		time.Sleep(5 * time.Millisecond) // it waits by then; if not, the figure is a little better
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

// waiters are readers in long polls, each of a queue of its own.
type waiters struct {
	n      int
	wg     sync.WaitGroup
	served atomic.Int64
}

// gather lets n readers wait, and returns when they do.
func (v *service) gather(n int) (*waiters, error) {
	w := &waiters{n: n}
	for i := range n {
		w.wg.Go(func() {
			err := v.client.call("GET", "/api/messages/queue/w"+strconv.Itoa(i)+"?wait=60&max_count=1", "", nil, func(answer []byte) error {
				if bytes.Contains(answer, []byte(`"count":1}`)) {
					w.served.Add(1)
				}
				return nil
			})
			_ = err // leave counts those who were served
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
	return w, fmt.Errorf("not all of %d readers wait after 30 seconds", n)
}

// leave sends each of them a message; all must get it.
func (w *waiters) leave(v *service) error {
	err := v.client.fill(w.n, func(b []byte, i int) []byte {
		return fmt.Appendf(b, `{"conversation_id":1,"sender_id":2,"receiver_id":"w%d","text":"x"}`, i)
	})
	w.wg.Wait()
	if err == nil && int(w.served.Load()) != w.n {
		err = fmt.Errorf("%d of %d who waited were served", w.served.Load(), w.n)
	}
	return err
}
