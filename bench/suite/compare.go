package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/stayafrica/messaging/bench/measure"
	"github.com/stayafrica/messaging/bench/traffic"
)

// baseSide is the name of the build that this tree is compared with.
const baseSide = "base"

// noSlower is the ratio that two builds of the same source reach on a noisy machine.
var noSlower = []measure.Goal{{Against: baseSide, Least: 0.95}}

// errSlower reports that this build is slower than the base.
var errSlower = errors.New("slower than the base in every round")

// withBoth starts both builds, each with its own data directory.
func (s *suite) withBoth(name string, do func(v, base *service) error, env ...string) error {
	return s.with(name, func(v *service) error {
		base, err := s.startProgram(s.base, name+"-base", env...)
		if err == nil {
			err = do(v, base)
		}
		if base.Program != nil {
			err = errors.Join(err, base.stop())
		}
		return err
	}, env...)
}

// besideBase measures the same work on both builds in turn.
func (s *suite) besideBase(r measure.Result, v, base *service, round func(v *service) (measure.Sample, error)) error {
	side := func(name string, of *service) measure.Measured {
		return measure.Measured{Name: name, Round: func() (measure.Sample, error) { return round(of) }}
	}
	r.Unit, r.Goals = perSecond, noSlower
	return s.inTurn(r, side(ours, v), side(baseSide, base))
}

// compareSends compares sends at 64 and 256 connections.
func compareSends(s *suite) error {
	return s.withBoth("send", func(v, base *service) error {
		for _, one := range []*service{v, base} {
			if _, err := wrk(one.URL, 256, s.scale.warm, nil); err != nil {
				return err
			}
		}
		for _, connections := range []int{64, 256} {
			r := measure.Result{Workload: "send", Case: plural(connections, "connection")}
			err := s.besideBase(r, v, base, func(v *service) (measure.Sample, error) { return wrk(v.URL, connections, s.scale.each, nil) })
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// compareBatches compares batches of a thousand.
func compareBatches(s *suite) error {
	return s.withBoth("batch", func(v, base *service) error {
		bodies := batchBodies(1000)
		return s.besideBase(measure.Result{Workload: "batch", Case: "1,000 messages"}, v, base, func(v *service) (measure.Sample, error) {
			return v.batches(bodies, 1000, s.scale.each)
		})
	})
}

// compareTakes compares takes of ten: from queues of exactly ten messages, and from
// queues that hold a hundred before and after.
func compareTakes(s *suite) error {
	return s.withBoth("take", func(v, base *service) error {
		for _, connections := range []int{64, 256} {
			if err := s.besideTakes("10 a call, "+plural(connections, "connection"), v, base, connections); err != nil {
				return err
			}
		}
		for _, one := range []*service{v, base} {
			for range 10 {
				if err := one.client.fill(10*traffic.Users, func(b []byte, i int) []byte { return traffic.AppendMessage(b, i%traffic.Users) }); err != nil {
					return err
				}
			}
		}
		return s.besideTakes("10 a call, 64 connections, queues of 100", v, base, 64)
	})
}

func (s *suite) besideTakes(name string, v, base *service, connections int) error {
	return s.besideBase(measure.Result{Workload: "take", Case: name}, v, base, func(v *service) (measure.Sample, error) {
		return v.takeAll(connections, s.scale.taken)
	})
}

// compareStored compares two builds with large stores.
func compareStored(s *suite) error {
	size := s.scale.stored[len(s.scale.stored)-1]
	return s.withBoth("stored", func(v, base *service) error {
		for _, one := range []*service{v, base} {
			s.logf("  filling up to %s", plural(size, "message"))
			if err := (&growingStore{service: one, users: size / 10}).fillTo(size); err != nil {
				return err
			}
		}
		stored := ", " + plural(size, "message") + " stored"
		err := s.besideBase(measure.Result{Workload: "stored", Case: "send, 64 connections" + stored}, v, base, func(v *service) (measure.Sample, error) {
			return wrk(v.URL, 64, s.scale.each, nil)
		})
		if err != nil {
			return err
		}
		r := measure.Result{Workload: "stored", Case: "take 10 a call, 64 connections" + stored}
		return s.besideBase(r, v, base, func(v *service) (measure.Sample, error) { return v.takeAll(64, s.scale.taken) })
	})
}

// compareBeside compares takes during a replay and a listing of many dead letters.
func compareBeside(s *suite) error {
	var k refusingDjango
	if err := k.listen(); err != nil {
		return err
	}
	err := s.withBoth("beside", func(v, base *service) error {
		for _, one := range []*service{v, base} {
			if err := one.refusals(s.scale.refused); err != nil {
				return err
			}
		}
		k.stores.Store(true)
		r := measure.Result{Workload: "beside", Case: "take 10 a call, 64 connections, during a replay and a listing of " + measure.Count(s.scale.refused) + " dead letters"}
		return s.besideBase(r, v, base, func(v *service) (measure.Sample, error) { return v.takeBeside(s.scale.taken) })
	}, "DJANGO_API_URL=http://"+k.address)
	return errors.Join(err, k.server.Close())
}

// writeBenchmarks writes both sides of a comparison in the format of Go benchmarks, for
// benchstat: <base>-old.txt and <base>-new.txt.
func writeBenchmarks(base string, run measure.Run) error {
	for file, side := range map[string]string{"old": baseSide, "new": ours} {
		var text strings.Builder
		for i := range run.Results {
			r := &run.Results[i]
			of, _ := r.Side(side)
			name := strings.NewReplacer(" ", "_", ",", "").Replace("Benchmark" + strings.ToUpper(r.Workload[:1]) + r.Workload[1:] + "/" + r.Case)
			for _, value := range of.Values() {
				fmt.Fprintf(&text, "%s 1 %.1f %s\n", name, value, r.Unit)
			}
		}
		path := base + "-" + file + ".txt"
		if err := os.WriteFile(filepath.Clean(path), []byte(text.String()), 0o644); err != nil { //nolint:gosec // for everyone to read
			return err
		}
	}
	return nil
}

// slower reports results that are slower than the base in every round, which noise does
// not explain.
func slower(run measure.Run) error {
	var err error
	for i := range run.Results {
		r := &run.Results[i]
		for _, g := range r.Goals {
			if value, met, judged := r.Judge(g); judged && !met && value.Most < g.Least {
				err = errors.Join(err, fmt.Errorf("%w: %s, %s: %s of it", errSlower, r.Workload, r.Case, value.Format()))
			}
		}
	}
	return err
}
