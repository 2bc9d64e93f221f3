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
			r := measure.Result{Workload: "take", Case: "10 a call, " + plural(connections, "connection"), Size: float64(connections), SizeName: "connections", Unit: perSecond}
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

// deepTakes takes from queues that hold a hundred messages before and after, sent
// over a long time, so that what a call reads lies all over the log.
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

// takeAll measures how fast n messages are taken, ten a call.
func (v *service) takeAll(workers, n int) (measure.Sample, error) {
	return v.tens(workers, n, 0, func(user int) error { return v.client.take(user, 10) })
}

// tens sends ten messages or a multiple of it to each of the users from first on,
// n in all, and measures how fast do gets ten of a user. Each worker has users of
// its own, so that each call finds ten.
func (v *service) tens(workers, n, first int, do func(user int) error) (measure.Sample, error) {
	users := min(traffic.Users, n/10)
	if err := v.client.fill(n, func(b []byte, i int) []byte { return traffic.AppendMessage(b, first+i%users) }); err != nil {
		return measure.Sample{}, err
	}
	time.Sleep(v.settle)
	calls := n / 10
	return measure.Load(workers, time.Hour, func(worker, call int) (int, error) {
		i := worker + call*workers
		if i >= calls {
			return 0, measure.ErrDone
		}
		return 10, do(first + i%users)
	})
}

// leases compares taking ten under a lease and acknowledging them with single
// sends, by the same client.
func leases(s *suite) error {
	return s.with("lease", func(v *service) error {
		const workers = 64
		r := measure.Result{Workload: "lease", Case: "lease 10 and acknowledge, 64 connections", Unit: perSecond}
		return s.inTurn(r,
			measure.Measured{Name: ours, Detail: "GET …?lease=60&max_count=10 and POST …/ack, fasthttp", Round: func() (measure.Sample, error) {
				return v.leaseAll(workers, s.scale.taken)
			}},
			measure.Measured{Name: "single sends", Detail: "64 connections, fasthttp", Round: func() (measure.Sample, error) {
				time.Sleep(v.settle)
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

// leased are the users of whom messages are leased: others than those who are
// sent single messages.
const leased = 1_000_000

func (v *service) leaseAll(workers, n int) (measure.Sample, error) {
	return v.tens(workers, n, leased, v.client.leaseTen)
}

// leaseTen takes ten under a lease and acknowledges them.
func (c *client) leaseTen(user int) error {
	request := fmt.Appendf(nil, `{"user_id":%d,"receipts":[`, user)
	count := 0
	err := c.call("GET", "/api/messages/queue/"+strconv.Itoa(user)+"?max_count=10&lease=60", "", nil, func(answer []byte) error {
		request, count = appendReceipts(request, answer)
		return nil
	})
	if err != nil {
		return err
	}
	if count != 10 {
		return fmt.Errorf("%w: %d of user %d under a lease", errTaken, count, user)
	}
	return c.call("POST", "/api/messages/ack", mediaJSON, append(request, "]}"...), func(answer []byte) error {
		if bytes.Count(answer, []byte(`"acked"`)) != count {
			return fmt.Errorf("%w: not all were acknowledged: %s", errTaken, answer)
		}
		return nil
	})
}

// appendReceipts appends the receipts in an answer, as a JSON array has them.
func appendReceipts(b, answer []byte) (list []byte, count int) {
	for ; ; count++ {
		_, found, ok := bytes.Cut(answer, []byte(`"receipt":"`))
		if !ok {
			return b, count
		}
		receipt, behind, _ := bytes.Cut(found, []byte(`"`))
		if count > 0 {
			b = append(b, ',')
		}
		b = append(append(append(b, '"'), receipt...), '"')
		answer = behind
	}
}

// tombstones compares takes from a queue of which many were taken before with
// those from a fresh one: what was taken leaves marks that a look must not walk
// over.
func tombstones(s *suite) error {
	n := s.scale.taken / 2
	return s.with("tombstones", func(v *service) error {
		const worn, fresh = 3, 6 // of the same priority
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
			return measure.Measured{Name: name, Detail: plural(calls, "call") + " for 10, one after the other", Round: func() (measure.Sample, error) { return v.takesOf(user, calls) }}
		}
		r := measure.Result{
			Workload: "tombstones", Case: fmt.Sprintf("take 10 of %s left, %s taken before", measure.Count(n), measure.Count(n)),
			Unit: "ms (p50)", Goals: []measure.Goal{{Against: "fresh queue", Most: 2}},
		}
		return s.inTurn(r, side(ours, worn), side("fresh queue", fresh))
	})
}

// takesOf takes ten of a user, over and over.
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

// mixed is four sends to one take of ten, from 64 connections.
func mixed(s *suite) error {
	return s.with("mixed", func(v *service) error {
		r := measure.Result{Workload: "mixed", Case: "80 % sends, 20 % takes of up to 10, 64 connections", Unit: "calls/s"}
		return s.inTurn(r, measure.Measured{Name: ours, Detail: "fasthttp", Round: func() (measure.Sample, error) {
			return measure.Load(64, s.scale.each, v.client.mixed)
		}})
	})
}

// mixed is one call of the mixture.
func (c *client) mixed(worker, n int) (int, error) {
	user := traffic.User(worker, n, traffic.Users)
	if n%5 < 4 {
		return 1, c.send(user)
	}
	return 1, c.call("GET", "/api/messages/queue/"+strconv.Itoa(traffic.User(worker, n-1, traffic.Users))+"?max_count=10", "", nil, nil)
}
