package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/stayafrica/messaging/bench/measure"
	"github.com/stayafrica/messaging/bench/traffic"
)

const perSecond = "messages/s"

// sends compares single sends with the empty handler and, at one connection, with what
// the disk allows.
func sends(s *suite) error {
	baseline, err := s.startEmpty()
	if err != nil {
		return err
	}
	err = s.with("send", func(v *service) error {
		if _, err := wrk(v.URL, 256, s.scale.warm, nil); err != nil {
			return err
		}
		for _, connections := range s.scale.senders {
			if err := s.sendsAt(v, baseline, connections); err != nil {
				return err
			}
		}
		return nil
	})
	return errors.Join(err, baseline.stop())
}

func (s *suite) sendsAt(v *service, baseline *emptyServer, connections int) error {
	result := measure.Result{Workload: "send", Case: plural(connections, "connection"), Size: float64(connections), SizeName: "connections", Unit: perSecond}
	sides := []measure.Measured{
		{Name: ours, Detail: "POST /api/messages/send, wrk, a thread per processor", Round: func() (measure.Sample, error) {
			return wrk(v.URL, connections, s.scale.each, func() (float64, error) { return v.client.stat("messages_processed") })
		}},
		{Name: emptyHandler, Detail: "net/http and httprouter, reads the body; the same wrk script", Round: func() (measure.Sample, error) {
			return wrk(baseline.url, connections, s.scale.each, nil)
		}},
	}
	if connections == 1 {
		sides = append(sides, measure.Measured{Name: rawDisk, Detail: "the same bytes appended to a file in the data directory", Round: s.appendAndSync})
	}
	if connections >= 64 {
		result.Goals = []measure.Goal{{Against: emptyHandler, Least: 0.65}}
	}
	if err := s.inTurn(result, sides...); err != nil {
		return err
	}
	if connections == 64 {
		s.sustained = measure.SpreadOf(s.run.Results[len(s.run.Results)-1].Sides[0].Values()).Median
	}
	return nil
}

// batches compares batch sends with Pebble alone.
func batches(s *suite) error {
	for _, size := range s.scale.batches {
		if err := s.with("batch", func(v *service) error { return s.batchesOf(v, size) }); err != nil {
			return err
		}
	}
	return nil
}

func (s *suite) batchesOf(v *service, size int) error {
	alone, err := openDatabase(v.config.Dir+"-pebble", size)
	if err != nil {
		return err
	}
	bodies := batchBodies(size)
	each := s.scale.each
	if size >= 100 { // until scale.batched messages are stored, at the 100,000 per second and more of a first measurement
		each = max(each, time.Duration(s.scale.batched/s.rounds/100_000)*time.Second)
	}
	result := measure.Result{
		Workload: "batch", Case: plural(size, "message"), Size: float64(size), SizeName: "messages a call", Unit: perSecond,
	}
	if size >= 100 {
		result.Goals = []measure.Goal{{Against: pebbleAlone, Least: 0.5}}
	}
	err = s.inTurn(result,
		measure.Measured{Name: ours, Detail: "POST /api/messages/batch as NDJSON, 4 connections, fasthttp", Round: func() (measure.Sample, error) {
			return v.batches(bodies, size, each)
		}},
		measure.Measured{
			Name: pebbleAlone, Detail: "the same records, queue entries and counts, a batch and an fsync each, 4 at once",
			Round: func() (measure.Sample, error) {
				return measure.Load(4, each, alone.commit)
			},
		})
	return errors.Join(err, alone.db.Close())
}

// batchBodies returns some batches of one size.
func batchBodies(size int) [][]byte {
	bodies := make([][]byte, 64)
	for i := range bodies {
		list := make([]int, size)
		for n := range list {
			list[n] = traffic.User(i, n, traffic.Users)
		}
		bodies[i] = traffic.Lines(list)
	}
	return bodies
}

func (v *service) batches(bodies [][]byte, size int, d time.Duration) (measure.Sample, error) {
	return measure.Load(4, d, func(worker, n int) (int, error) {
		return size, v.client.batch(bodies[(worker+n*4)%len(bodies)])
	})
}

// plural formats a number with a noun.
func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%s %ss", measure.Count(n), noun)
}
