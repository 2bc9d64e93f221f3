package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/stayafrica/messaging/bench/comparisons"
	"github.com/stayafrica/messaging/bench/measure"
	"github.com/stayafrica/messaging/bench/traffic"
)

// comparisonWorkloads has one workload per system, which runs in turn with the service.
var comparisonWorkloads = func() (list []workload) {
	for _, p := range comparisons.All() {
		name := strings.ToLower(strings.Fields(p.Name())[0])
		list = append(list, workload{name, p.Name() + ": " + p.Detail(), func(s *suite) error { return s.besideSystem(p) }})
	}
	return list
}()

// besideSystem measures the service and one system.
func (s *suite) besideSystem(p comparisons.System) (err error) {
	dir := filepath.Join(s.work, "system")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	version, err := p.Start(dir)
	defer func() { err = errors.Join(err, p.Stop(), os.RemoveAll(dir)) }()
	if errors.Is(err, comparisons.ErrAbsent) {
		s.logf("  skipped: %v", err)
		return nil
	}
	if err != nil {
		return err
	}
	s.run.Machine.Versions[p.Name()] = version
	return s.with("comparisons", func(v *service) error { return s.compareSystem(v, p) })
}

// systemCase is one kind of work that both can do.
type systemCase func(v *service, p comparisons.System, them comparisons.Clients, clients int) error

// compareSystem runs all kinds of work in turn: first takes, with only their messages
// in the queues, and then the rest, with everything that the sends leave there.
func (s *suite) compareSystem(v *service, p comparisons.System) error {
	// In its usual state, a log overwrites its old files.
	others := func(b []byte, i int) []byte { return traffic.AppendMessage(b, 2*leased+i%traffic.Users) }
	if err := v.client.fill(400_000, others); err != nil {
		return err
	}
	if err := s.compareSystemAll(v, p, s.systemTakes); err != nil {
		return err
	}
	if _, err := wrk(v.URL, 256, s.scale.warm, nil); err != nil {
		return err
	}
	return s.compareSystemAll(v, p, s.systemSends, s.systemBatches, s.systemLongTakes, s.systemMixed)
}

func (s *suite) compareSystemAll(v *service, p comparisons.System, all ...systemCase) error {
	for _, clients := range []int{64, 256} {
		if err := s.compareSystemAt(v, p, clients, all); err != nil {
			return err
		}
	}
	return nil
}

func (s *suite) compareSystemAt(v *service, p comparisons.System, clients int, all []systemCase) error {
	them, err := p.Open(clients)
	if err != nil {
		return err
	}
	for _, one := range all {
		if err == nil {
			err = one(v, p, them, clients)
		}
		if errors.Is(err, comparisons.ErrUnsupported) {
			s.logf("  %v", err)
			err = nil
		}
	}
	return errors.Join(err, them.Close())
}

// goals are the target ratios of the service to each system, by the system's name, for
// one kind of work.
type goals map[string]float64

var (
	sendGoals = goals{"NATS JetStream": 5, "beanstalkd": 5, "PostgreSQL": 1.8, "RabbitMQ": 1.8}
	takeGoals = goals{"PostgreSQL": 2, "Redis streams": 0.8}
)

// of returns the goal against a system, if there is one.
func (g goals) of(name, side string) []measure.Goal {
	if least := g[name]; least > 0 {
		return []measure.Goal{{Against: side, Least: least}}
	}
	return nil
}

// systemSends compares single sends: each side with an ordinary Go client, and with a
// load generator in C if there is one (wrk for the service).
func (s *suite) systemSends(v *service, p comparisons.System, them comparisons.Clients, clients int) error {
	other := p.Name()
	r := measure.Result{
		Workload: other, Case: "send, " + plural(clients, "client"), Size: float64(clients), SizeName: "clients", Unit: perSecond,
		Goals: sendGoals.of(other, other),
	}
	sides := []measure.Measured{
		{Name: ours, Detail: "wrk, a thread per processor", Round: func() (measure.Sample, error) { return wrk(v.URL, clients, s.scale.each, nil) }},
		{Name: ours + ", Go client", Detail: "fasthttp", Round: func() (measure.Sample, error) { return v.sendsBy(clients, s.scale.each) }},
		{Name: other, Detail: p.Detail(), Round: func() (measure.Sample, error) {
			return measure.Load(clients, s.scale.each, func(worker, n int) (int, error) {
				return 1, them.Send(worker, traffic.User(worker, n, traffic.Users))
			})
		}},
	}
	if loader, ok := p.(comparisons.Loader); ok {
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
			// The goal refers to the C client, which sends the next message after the
			// response to the last one. The Go client pipelines concurrent calls over
			// two connections.
			least := map[int]float64{64: 0.6, 256: 0.5}[clients]
			r.Goals = []measure.Goal{{Against: name, Least: least}}
		}
	}
	return s.inTurn(r, sides...)
}

// redis is the name of the fastest durable system, which has its own goals.
const redis = "Redis streams"

// systemBatches compares batches of a hundred messages from eight clients.
func (s *suite) systemBatches(v *service, p comparisons.System, them comparisons.Clients, clients int) error {
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
	if loader, ok := p.(comparisons.Loader); ok && other == redis {
		name := other + ", C client"
		sides = append(sides, measure.Measured{Name: name, Detail: "redis-benchmark -P 100", Round: func() (measure.Sample, error) {
			sample, _, err := loader.Load(senders, size, s.scale.each)
			return sample, err
		}})
		r.Goals = []measure.Goal{{Against: name, Least: 0.4}}
	}
	return s.inTurn(r, sides...)
}

// systemTakes compares takes of ten messages that delete them, until all are gone.
func (s *suite) systemTakes(v *service, p comparisons.System, them comparisons.Clients, clients int) error {
	return s.takesBeside(v, p, them, clients, "take 10 and delete, ", takeGoals.of(p.Name(), p.Name()))
}

// systemLongTakes compares the same takes from the long queues that the sends have
// left: they return the messages that were sent first.
func (s *suite) systemLongTakes(v *service, p comparisons.System, them comparisons.Clients, clients int) error {
	if clients != 64 {
		return nil
	}
	return s.takesBeside(v, p, them, clients, "take 10 of long queues and delete, ", nil)
}

func (s *suite) takesBeside(v *service, p comparisons.System, them comparisons.Clients, clients int, what string, goals []measure.Goal) error {
	other, n := p.Name(), min(s.scale.taken, 100_000)
	r := measure.Result{
		Workload: other, Case: what + plural(clients, "client"), Size: float64(clients), SizeName: "clients", Unit: perSecond,
		Goals: goals,
	}
	return s.inTurn(r,
		measure.Measured{Name: ours, Detail: "GET …/queue/:user_id?max_count=10, fasthttp", Round: func() (measure.Sample, error) { return v.takeAll(clients, n) }},
		measure.Measured{Name: other, Detail: p.Detail(), Round: func() (measure.Sample, error) { return s.takeFrom(them, clients, n) }})
}

// takeFrom gives each user ten more messages, n in total or as many as there is time
// for, and takes until that many were taken or the time is over: some systems need
// minutes for what others do in a second.
func (s *suite) takeFrom(them comparisons.Clients, clients, n int) (measure.Sample, error) {
	const size = 100
	users := min(traffic.Users, n/10)
	limit := 2 * s.scale.each
	var filled atomic.Int64
	_, err := measure.Load(8, limit, func(worker, call int) (int, error) {
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
	time.Sleep(s.scale.quiesce)
	// If users share queues, or queues hold earlier messages, a call may return fewer
	// or more: continue until n were taken.
	var taken atomic.Int64
	return measure.Load(clients, limit, func(worker, call int) (int, error) {
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

// systemMixed compares a mix of four sends to one take of ten.
func (s *suite) systemMixed(v *service, p comparisons.System, them comparisons.Clients, clients int) error {
	if clients != 64 {
		return nil
	}
	other := p.Name()
	r := measure.Result{Workload: other, Case: "80 % sends, 20 % takes of up to 10, 64 clients", Unit: "calls/s"}
	return s.inTurn(r,
		measure.Measured{Name: ours, Detail: "fasthttp", Round: func() (measure.Sample, error) { return measure.Load(clients, s.scale.each, v.client.mixed) }},
		measure.Measured{Name: other, Detail: p.Detail(), Round: func() (measure.Sample, error) {
			return measure.Load(clients, s.scale.each, func(worker, n int) (int, error) {
				// A worker takes only from its own users.
				if n%5 < 4 {
					return 1, them.Send(worker, traffic.User(worker, n, traffic.Users))
				}
				_, err := them.Take(worker, ownUser(worker, n, clients), 10)
				return 1, err
			})
		}})
}

// ownUser returns one of the users that only this worker takes from.
func ownUser(worker, n, workers int) int {
	own := traffic.Users / workers
	return worker + (n*104_729)%own*workers
}
