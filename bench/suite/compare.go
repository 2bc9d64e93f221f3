package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/stayafrica/messaging/bench/measure"
)

// baseSide is the name of the build that ours is compared with.
const baseSide = "base"

// noSlower is what two builds of the same source reach beside each other on a
// noisy machine.
var noSlower = []measure.Goal{{Against: baseSide, Least: 0.95}}

// errSlower says that this build is slower than the base.
var errSlower = errors.New("slower than the base in every round")

// withBoth starts both builds, each with data of its own.
func (s *suite) withBoth(name string, do func(v, base *service) error) error {
	return s.with(name, func(v *service) error {
		base, err := s.startProgram(s.base, name+"-base")
		if err == nil {
			err = do(v, base)
		}
		if base.Program != nil {
			err = errors.Join(err, base.stop())
		}
		return err
	})
}

// besideBase measures the same of two builds, in turn.
func (s *suite) besideBase(r measure.Result, v, base *service, round func(v *service) (measure.Sample, error)) error {
	side := func(name string, of *service) measure.Measured {
		return measure.Measured{Name: name, Round: func() (measure.Sample, error) { return round(of) }}
	}
	r.Unit, r.Goals = perSecond, noSlower
	return s.inTurn(r, side(ours, v), side(baseSide, base))
}

// compareSends compares two builds at 64 and 256 connections.
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

// compareBatches compares two builds with batches of a thousand.
func compareBatches(s *suite) error {
	return s.withBoth("batch", func(v, base *service) error {
		bodies := batchBodies(1000)
		return s.besideBase(measure.Result{Workload: "batch", Case: "1,000 messages"}, v, base, func(v *service) (measure.Sample, error) {
			return v.batches(bodies, 1000, s.scale.each)
		})
	})
}

// compareTakes compares two builds with takes of ten.
func compareTakes(s *suite) error {
	return s.withBoth("take", func(v, base *service) error {
		return s.besideBase(measure.Result{Workload: "take", Case: "10 a call, 64 connections"}, v, base, func(v *service) (measure.Sample, error) {
			return v.takeAll(64, s.scale.taken)
		})
	})
}

// writeBenchmarks writes both sides of a comparison as Go's benchmarks are
// written, for benchstat: <base>-old.txt and <base>-new.txt.
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

// slower says what is slower than the base, whatever the machine's noise: in
// every round.
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
