package main

import (
	"bytes"
	"fmt"
	"strconv"
	"time"

	"github.com/stayafrica/messaging/bench/measure"
	"github.com/stayafrica/messaging/bench/traffic"
)

// takes takes ten messages a call until the queues of 10,000 users are empty.
func takes(s *suite) error {
	return s.with("take", func(v *service) error {
		for _, connections := range s.scale.takers {
			r := measure.Result{
				Workload: "take", Case: "10 a call, " + plural(connections, "connection"), Size: float64(connections), SizeName: "connections",
				Unit: perSecond,
			}
			share := s.scale.taken
			if connections == 1 {
				share /= 4
			}
			err := s.inTurn(r, measure.Measured{Name: ours, Detail: "GET …/queue/:user_id?max_count=10, fasthttp", Round: func() (measure.Sample, error) {
				return v.takeAll(connections, share)
			}})
			if err != nil {
				return err
			}
		}
		return deepTakes(s, v)
	})
}

// deepTakes takes from queues that hold a hundred messages before and after. The
// messages were sent over a long time, so the reads of a call are spread over the whole
// log.
func deepTakes(s *suite, v *service) error {
	for range 10 {
		if err := v.client.fill(10*traffic.Users, func(b []byte, i int) []byte { return traffic.AppendMessage(b, i%traffic.Users) }); err != nil {
			return err
		}
	}
	r := measure.Result{Workload: "take", Case: "10 a call, 64 connections, queues of 100", Unit: perSecond}
	return s.inTurn(r, measure.Measured{Name: ours, Detail: "GET …/queue/:user_id?max_count=10, fasthttp", Round: func() (measure.Sample, error) {
		return v.takeAll(64, min(s.scale.taken, 10*traffic.Users))
	}})
}

// takeAll measures how fast n messages are taken, ten per call.
func (v *service) takeAll(workers, n int) (measure.Sample, error) {
	return v.takeInTens(workers, n, 0, func(user int) error { return v.client.take(user, 10) })
}

// takeInTens sends ten messages, or a multiple of ten, to each of the users from first
// on, n in total, and measures how fast do takes ten of a user. Each worker has its own
// users, so each call finds ten.
func (v *service) takeInTens(workers, n, first int, do func(user int) error) (measure.Sample, error) {
	users := min(traffic.Users, n/10)
	if err := v.client.fill(n, func(b []byte, i int) []byte { return traffic.AppendMessage(b, first+i%users) }); err != nil {
		return measure.Sample{}, err
	}
	time.Sleep(v.quiesce)
	calls := n / 10
	return measure.Load(workers, time.Hour, func(worker, call int) (int, error) {
		i := worker + call*workers
		if i >= calls {
			return 0, measure.ErrDone
		}
		return 10, do(first + i%users)
	})
}

// leases compares leasing and acknowledging ten messages with single sends, using the
// same client.
func leases(s *suite) error {
	return s.with("lease", func(v *service) error {
		const workers = 64
		r := measure.Result{Workload: "lease", Case: "lease 10 and acknowledge, 64 connections", Unit: perSecond}
		return s.inTurn(r,
			measure.Measured{Name: ours, Detail: "GET …?lease=60&max_count=10 and POST …/ack, fasthttp", Round: func() (measure.Sample, error) {
				return v.leaseAll(workers, s.scale.taken)
			}},
			measure.Measured{Name: "single sends", Detail: "64 connections, fasthttp", Round: func() (measure.Sample, error) {
				time.Sleep(v.quiesce)
				return v.sendsBy(workers, s.scale.each)
			}})
	})
}

// sendsBy sends single messages with the Go client.
func (v *service) sendsBy(workers int, d time.Duration) (measure.Sample, error) {
	return measure.Load(workers, d, func(worker, n int) (int, error) {
		return 1, v.client.send(traffic.User(worker, n, traffic.Users))
	})
}

// leased is the first user number for leases; single messages go to other users.
const leased = 1_000_000

func (v *service) leaseAll(workers, n int) (measure.Sample, error) {
	return v.takeInTens(workers, n, leased, v.client.leaseTen)
}

// leaseTen leases ten messages and acknowledges them.
func (c *client) leaseTen(user int) error {
	request := fmt.Appendf(nil, `{"user_id":%d,"receipts":[`, user)
	count := 0
	err := c.call("GET", "/api/messages/queue/"+strconv.Itoa(user)+"?max_count=10&lease=60", "", nil, func(responseBody []byte) error {
		request, count = appendReceipts(request, responseBody)
		return nil
	})
	if err != nil {
		return err
	}
	if count != 10 {
		return fmt.Errorf("%w: %d of user %d under a lease", errTaken, count, user)
	}
	return c.call("POST", "/api/messages/ack", mediaJSON, append(request, "]}"...), func(responseBody []byte) error {
		if bytes.Count(responseBody, []byte(`"acked"`)) != count {
			return fmt.Errorf("%w: not all were acknowledged: %s", errTaken, responseBody)
		}
		return nil
	})
}

// appendReceipts appends the receipts of a response as elements of a JSON array.
func appendReceipts(b, responseBody []byte) (list []byte, count int) {
	for ; ; count++ {
		_, found, ok := bytes.Cut(responseBody, []byte(`"receipt":"`))
		if !ok {
			return b, count
		}
		receipt, behind, _ := bytes.Cut(found, []byte(`"`))
		if count > 0 {
			b = append(b, ',')
		}
		b = append(append(append(b, '"'), receipt...), '"')
		responseBody = behind
	}
}

// tombstones compares takes from a queue of which many messages were taken before with
// takes from a fresh queue: taken messages leave tombstones, which a scan must skip
// efficiently.
func tombstones(s *suite) error {
	n := s.scale.taken / 2
	return s.with("tombstones", func(v *service) error {
		const worn, fresh = 3, 6 // both have the same priority
		to := func(user int) func(b []byte, _ int) []byte {
			return func(b []byte, _ int) []byte { return traffic.AppendMessage(b, user) }
		}
		if err := v.client.fill(2*n, to(worn)); err != nil {
			return err
		}
		for range n / 1000 {
			if err := v.client.take(worn, 1000); err != nil {
				return err
			}
		}
		if err := v.client.fill(n, to(fresh)); err != nil {
			return err
		}
		calls := min(300, n/10/s.rounds)
		side := func(name string, user int) measure.Measured {
			return measure.Measured{
				Name: name, Detail: plural(calls, "call") + " for 10, one after the other",
				Round: func() (measure.Sample, error) { return v.takesOf(user, calls) },
			}
		}
		r := measure.Result{
			Workload: "tombstones", Case: fmt.Sprintf("take 10 of %s left, %s taken before", measure.Count(n), measure.Count(n)),
			Unit: "ms (p50)", Goals: []measure.Goal{{Against: "fresh queue", Most: 2}},
		}
		return s.inTurn(r, side(ours, worn), side("fresh queue", fresh))
	})
}

// takesOf repeatedly takes ten messages of a user.
func (v *service) takesOf(user, n int) (measure.Sample, error) {
	latencies := measure.NewLatencies()
	for range n {
		began := time.Now()
		if err := v.client.take(user, 10); err != nil {
			return measure.Sample{}, err
		}
		latencies.Record(time.Since(began))
	}
	return measure.Sample{Value: latencies.At(0.5), Latency: latencies.Summary()}, nil
}

// mixed measures a mix of four sends to one take of ten, from 64 connections.
func mixed(s *suite) error {
	return s.with("mixed", func(v *service) error {
		r := measure.Result{Workload: "mixed", Case: "80 % sends, 20 % takes of up to 10, 64 connections", Unit: "calls/s"}
		return s.inTurn(r, measure.Measured{Name: ours, Detail: "fasthttp", Round: func() (measure.Sample, error) {
			return measure.Load(64, s.scale.each, v.client.mixed)
		}})
	})
}

// mixed makes one call of the mix.
func (c *client) mixed(worker, n int) (int, error) {
	user := traffic.User(worker, n, traffic.Users)
	if n%5 < 4 {
		return 1, c.send(user)
	}
	return 1, c.call("GET", "/api/messages/queue/"+strconv.Itoa(traffic.User(worker, n-1, traffic.Users))+"?max_count=10", "", nil, nil)
}
