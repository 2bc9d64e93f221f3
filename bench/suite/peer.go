package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/stayafrica/messaging/bench/measure"
	"github.com/stayafrica/messaging/bench/peers"
	"github.com/stayafrica/messaging/bench/traffic"
)

// peerWorkloads has one workload for each peer: it runs beside the service, in
// turn with it.
var peerWorkloads = func() (list []workload) {
	for _, p := range peers.All() {
		name := strings.ToLower(strings.Fields(p.Name())[0])
		list = append(list, workload{name, p.Name() + ": " + p.Detail(), func(s *suite) error { return s.beside(p) }})
	}
	return list
}()

// beside runs one peer beside the service.
func (s *suite) beside(p peers.Peer) (err error) {
	dir := filepath.Join(s.work, "peer")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	version, err := p.Start(dir)
	defer func() { err = errors.Join(err, p.Stop(), os.RemoveAll(dir)) }()
	if errors.Is(err, peers.ErrAbsent) {
		s.say("  skipped: %v", err)
		return nil
	}
	if err != nil {
		return err
	}
	s.run.Machine.Versions[p.Name()] = version
	return s.with("peers", func(v *service) error { return s.compare(v, p) })
}

// comparison is one thing that both can do.
type comparison func(v *service, p peers.Peer, them peers.Clients, clients int) error

// compare runs what both can do, in turn: first with nothing in the queues but what
// is taken, then with all that the sends leave there.
func (s *suite) compare(v *service, p peers.Peer) error {
	// A log writes over its old files once it has some, and that is its usual state.
	others := func(b []byte, i int) []byte { return traffic.AppendMessage(b, 2*leased+i%traffic.Users) }
	if err := v.client.fill(400_000, others); err != nil {
		return err
	}
	if err := s.compareAll(v, p, s.peerTakes); err != nil {
		return err
	}
	if _, err := wrk(v.URL, 256, s.scale.warm, nil); err != nil {
		return err
	}
	return s.compareAll(v, p, s.peerSends, s.peerBatches, s.peerLongTakes, s.peerMixed)
}

func (s *suite) compareAll(v *service, p peers.Peer, all ...comparison) error {
	for _, clients := range []int{64, 256} {
		if err := s.compareAt(v, p, clients, all); err != nil {
			return err
		}
	}
	return nil
}

func (s *suite) compareAt(v *service, p peers.Peer, clients int, all []comparison) error {
	them, err := p.Open(clients)
	if err != nil {
		return err
	}
	for _, one := range all {
		if err == nil {
			err = one(v, p, them, clients)
		}
		if errors.Is(err, peers.ErrUnsupported) {
			s.say("  %v", err)
			err = nil
		}
	}
	return errors.Join(err, them.Close())
}

// goals are what the service should reach beside a peer: one for each kind of
// work, by the peer's name.
type goals map[string]float64

var (
	sendGoals = goals{"NATS JetStream": 5, "beanstalkd": 5, "PostgreSQL": 1.8, "RabbitMQ": 1.8}
	takeGoals = goals{"PostgreSQL": 2, "Redis streams": 0.8}
)

// of gives the goal beside a peer, if there is one.
func (g goals) of(name, side string) []measure.Goal {
	if least := g[name]; least > 0 {
		return []measure.Goal{{Against: side, Least: least}}
	}
	return nil
}

// peerSends compares one message a call: each with an ordinary client in Go, and
// with a load generator in C where the peer has one (ours has wrk).
func (s *suite) peerSends(v *service, p peers.Peer, them peers.Clients, clients int) error {
	other := p.Name()
	r := measure.Result{
		Workload: other, Case: "send, " + plural(clients, "client"), Size: float64(clients), SizeName: "clients", Unit: perSecond,
		Goals: sendGoals.of(other, other),
	}
	sides := []measure.Measured{
		{Name: ours, Detail: "wrk, a thread a processor", Round: func() (measure.Sample, error) { return wrk(v.URL, clients, s.scale.each, nil) }},
		{Name: ours + ", Go client", Detail: "fasthttp", Round: func() (measure.Sample, error) { return v.sendsBy(clients, s.scale.each) }},
		{Name: other, Detail: p.Detail(), Round: func() (measure.Sample, error) {
			return measure.Load(clients, s.scale.each, func(worker, n int) (int, error) {
				return 1, them.Send(worker, traffic.User(worker, n, traffic.Users))
			})
		}},
	}
	if loader, ok := p.(peers.Loader); ok {
		name := other + ", C client"
		_, detail, err := loader.Load(clients, 1, time.Second)
		if err != nil {
			return err
		}
		sides = append(sides, measure.Measured{Name: name, Detail: detail, Round: func() (measure.Sample, error) {
			sample, _, err := loader.Load(clients, 1, s.scale.each)
			return sample, err
		}})
		r.Goals = append(r.Goals, sendGoals.of(other, name)...)
		if other == redis {
			// The figures that the goal goes by are those of the C client, which sends the
			// next message when the last is answered. The client in Go makes pipelines of
			// what its callers do at the same time, over two connections.
			least := map[int]float64{64: 0.6, 256: 0.5}[clients]
			r.Goals = []measure.Goal{{Against: name, Least: least}}
		}
	}
	return s.inTurn(r, sides...)
}

// redis is the name of the fastest durable peer, which has goals of its own.
const redis = "Redis streams"

// peerBatches compares a hundred messages a call, from eight clients.
func (s *suite) peerBatches(v *service, p peers.Peer, them peers.Clients, clients int) error {
	if clients != 64 {
		return nil
	}
	const size, senders = 100, 8
	other := p.Name()
	bodies := batchBodies(size)
	r := measure.Result{Workload: other, Case: "batches of 100, 8 clients", Unit: perSecond}
	sides := []measure.Measured{
		{Name: ours, Detail: "NDJSON, fasthttp", Round: func() (measure.Sample, error) {
			return measure.Load(senders, s.scale.each, func(worker, n int) (int, error) {
				return size, v.client.batch(bodies[(worker+n*senders)%len(bodies)])
			})
		}},
		{Name: other, Detail: p.Detail(), Round: func() (measure.Sample, error) {
			return measure.Load(senders, s.scale.each, func(worker, n int) (int, error) {
				users := make([]int, size)
				for i := range users {
					users[i] = traffic.User(worker, n*size+i, traffic.Users)
				}
				return size, them.SendBatch(worker, users)
			})
		}},
	}
	if loader, ok := p.(peers.Loader); ok && other == redis {
		name := other + ", C client"
		sides = append(sides, measure.Measured{Name: name, Detail: "redis-benchmark -P 100", Round: func() (measure.Sample, error) {
			sample, _, err := loader.Load(senders, size, s.scale.each)
			return sample, err
		}})
		r.Goals = []measure.Goal{{Against: name, Least: 0.4}}
	}
	return s.inTurn(r, sides...)
}

// peerTakes compares taking ten of a user and deleting them, until all is gone.
func (s *suite) peerTakes(v *service, p peers.Peer, them peers.Clients, clients int) error {
	return s.takesBeside(v, p, them, clients, "take 10 and delete, ", takeGoals.of(p.Name(), p.Name()))
}

// peerLongTakes compares the same where the sends have left much: what is taken is
// what was sent first.
func (s *suite) peerLongTakes(v *service, p peers.Peer, them peers.Clients, clients int) error {
	if clients != 64 {
		return nil
	}
	return s.takesBeside(v, p, them, clients, "take 10 of long queues and delete, ", nil)
}

func (s *suite) takesBeside(v *service, p peers.Peer, them peers.Clients, clients int, what string, goals []measure.Goal) error {
	other, n := p.Name(), min(s.scale.taken, 100_000)
	r := measure.Result{
		Workload: other, Case: what + plural(clients, "client"), Size: float64(clients), SizeName: "clients", Unit: perSecond,
		Goals: goals,
	}
	return s.inTurn(r,
		measure.Measured{Name: ours, Detail: "GET …/queue/:user_id?max_count=10, fasthttp", Round: func() (measure.Sample, error) { return v.takeAll(clients, n) }},
		measure.Measured{Name: other, Detail: p.Detail(), Round: func() (measure.Sample, error) { return s.takeFrom(them, clients, n) }})
}

// takeFrom gives each of the users ten messages more, n in all or as many as there
// is time for, and takes until so many were taken or the time is over: some peers
// need minutes for what others do in a second.
func (s *suite) takeFrom(them peers.Clients, clients, n int) (measure.Sample, error) {
	const size = 100
	users := min(traffic.Users, n/10)
	patience := 2 * s.scale.each
	var filled atomic.Int64
	_, err := measure.Load(8, patience, func(worker, call int) (int, error) {
		from := (worker + call*8) * size
		if from >= n {
			return 0, measure.ErrDone
		}
		list := make([]int, size)
		for i := range list {
			list[i] = (from + i) % users
		}
		filled.Add(size)
		return size, them.SendBatch(worker, list)
	})
	if err != nil {
		return measure.Sample{}, err
	}
	n = min(n, int(filled.Load()))
	time.Sleep(s.scale.settle)
	// Where queues are shared by users, or hold what was sent before, a call may
	// find fewer, or more: it goes on until n were taken.
	var taken atomic.Int64
	return measure.Load(clients, patience, func(worker, call int) (int, error) {
		if taken.Load() >= int64(n) {
			return 0, measure.ErrDone
		}
		i := worker + call*clients
		got, err := them.Take(worker, i%users, 10)
		if taken.Add(int64(got)) == 0 && call > 10*users {
			err = fmt.Errorf("%w: nothing in %d calls", errTaken, call)
		}
		return got, err
	})
}

// peerMixed compares four sends to one take of ten.
func (s *suite) peerMixed(v *service, p peers.Peer, them peers.Clients, clients int) error {
	if clients != 64 {
		return nil
	}
	other := p.Name()
	r := measure.Result{Workload: other, Case: "80 % sends, 20 % takes of up to 10, 64 clients", Unit: "calls/s"}
	return s.inTurn(r,
		measure.Measured{Name: ours, Detail: "fasthttp", Round: func() (measure.Sample, error) { return measure.Load(clients, s.scale.each, v.client.mixed) }},
		measure.Measured{Name: other, Detail: p.Detail(), Round: func() (measure.Sample, error) {
			return measure.Load(clients, s.scale.each, func(worker, n int) (int, error) {
				// A worker takes only from users that no other one takes from.
				if n%5 < 4 {
					return 1, them.Send(worker, traffic.User(worker, n, traffic.Users))
				}
				_, err := them.Take(worker, ownUser(worker, n, clients), 10)
				return 1, err
			})
		}})
}

// ownUser is one of the users that a worker takes from and no other.
func ownUser(worker, n, workers int) int {
	own := traffic.Users / workers
	return worker + (n*104_729)%own*workers
}
