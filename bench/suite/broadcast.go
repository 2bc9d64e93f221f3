package main

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/stayafrica/messaging/bench/measure"
	"github.com/stayafrica/messaging/bench/traffic"
)

// broadcasts measures when a broadcast is acknowledged, when it is in every queue, and
// its effect on other sends.
func broadcasts(s *suite) error {
	return s.with("broadcast", func(v *service) error {
		for _, n := range s.scale.receivers {
			if err := s.broadcastsTo(v, n); err != nil {
				return err
			}
		}
		return nil
	})
}

// broadcastTimes are the times of one broadcast.
type broadcastTimes struct{ acknowledged, delivered time.Duration }

func (s *suite) broadcastsTo(v *service, receivers int) error {
	body := broadcastBody(receivers)
	acknowledged := measure.Side{Name: ours, Detail: "POST /api/messages/broadcast, fasthttp, 16 others send meanwhile"}
	delivered := acknowledged
	during := measure.Side{Name: "meanwhile", Detail: "p99 of 16 others' sends"}
	before := measure.Side{Name: "before", Detail: "the same, without a broadcast"}
	for range s.rounds {
		calm, err := v.othersFor(time.Second)
		if err != nil {
			return err
		}
		took, busy, err := v.timeBroadcast(body)
		if err != nil {
			return err
		}
		acknowledged.Samples = append(acknowledged.Samples, measure.Sample{Value: milliseconds(took.acknowledged)})
		delivered.Samples = append(delivered.Samples, measure.Sample{Value: milliseconds(took.delivered)})
		before.Samples = append(before.Samples, measure.Sample{Value: calm.At(0.99), Latency: calm.Summary()})
		during.Samples = append(during.Samples, measure.Sample{Value: busy.At(0.99), Latency: busy.Summary()})
	}
	result := measure.Result{Workload: "broadcast", Size: float64(receivers), SizeName: "receivers", Unit: "ms"}
	for _, one := range []struct {
		what  string
		sides []measure.Side
		goals []measure.Goal
	}{
		{"answered", []measure.Side{acknowledged}, []measure.Goal{{Most: 1000}}},
		{"in every queue", []measure.Side{delivered}, []measure.Goal{{Most: 3000}}},
		{"others' p99", []measure.Side{during, before}, []measure.Goal{{Against: "before", Most: 3}}},
	} {
		r := result
		r.Case, r.Sides = fmt.Sprintf("to %s, %s", measure.Count(receivers), one.what), one.sides
		if receivers >= 100_000 {
			r.Goals = one.goals
		}
		s.keep(r)
	}
	return nil
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func broadcastBody(receivers int) []byte {
	ids := make([]string, receivers)
	for i := range ids {
		ids[i] = strconv.Itoa(leased + i)
	}
	return []byte(`{"message":{"sender_id":1,"text":"to all"},"user_ids":[` + strings.Join(ids, ",") + `]}`)
}

// timeBroadcast sends a broadcast, waits until it is in every queue, and returns the
// latencies of other sends meanwhile.
func (v *service) timeBroadcast(body []byte) (took broadcastTimes, others *measure.Latencies, err error) {
	done := make(chan struct{})
	var failed error
	var wg sync.WaitGroup
	wg.Go(func() {
		defer close(done)
		began := time.Now()
		failed = v.client.call("POST", "/api/messages/broadcast", mediaJSON, body, nil)
		took.acknowledged = time.Since(began)
		for failed == nil {
			var left float64
			if left, failed = v.client.stat("fanouts"); failed == nil && left == 0 {
				break
			}
			time.Sleep(2 * time.Millisecond)
		}
		took.delivered = time.Since(began)
	})
	others, err = v.others(done)
	wg.Wait()
	if failed != nil {
		err = failed
	}
	return took, others, err
}

// othersFor returns the latencies of other sends during d.
func (v *service) othersFor(d time.Duration) (*measure.Latencies, error) {
	done := make(chan struct{})
	timer := time.AfterFunc(d, func() { close(done) })
	defer timer.Stop()
	return v.others(done)
}

// others send from 16 connections at a low rate until done.
func (v *service) others(done <-chan struct{}) (*measure.Latencies, error) {
	const senders = 16
	all := measure.NewLatencies()
	var mu sync.Mutex
	var first error
	var wg sync.WaitGroup
	for worker := range senders {
		wg.Go(func() {
			mine, err := v.paced(worker, done)
			mu.Lock()
			defer mu.Unlock()
			all.Add(mine)
			if first == nil {
				first = err
			}
		})
	}
	wg.Wait()
	return all, first
}

func (v *service) paced(worker int, done <-chan struct{}) (*measure.Latencies, error) {
	const pace = 10 * time.Millisecond
	mine := measure.NewLatencies()
	for n := 0; ; n++ {
		began := time.Now()
		if err := v.client.send(traffic.User(worker, n, traffic.Users)); err != nil {
			return mine, err
		}
		mine.Record(time.Since(began))
		select {
		case <-done:
			return mine, nil
		case <-time.After(pace):
		}
	}
}
