package report_test

import (
	"math"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/stayafrica/messaging/bench/measure"
)

// world generates measurements, the same ones each time.
type world struct{ *rand.Rand }

func newWorld() world { return world{rand.New(rand.NewPCG(1, 2))} }

// side generates rounds around a figure.
func (w world) side(name, detail string, rounds int, figure float64) measure.Side {
	s := measure.Side{Name: name, Detail: detail}
	for range rounds {
		s.Samples = append(s.Samples, measure.Sample{Value: figure * (0.9 + 0.2*w.Float64())})
	}
	return s
}

// timed generates a side with timed calls and a typical latency in milliseconds.
func (w world) timed(name, detail string, rounds int, rate, ms float64) measure.Side {
	s := w.side(name, detail, rounds, rate)
	for i := range s.Samples {
		sample := &s.Samples[i]
		l := &measure.Latency{Calls: int64(rate) * 4}
		for _, part := range []float64{0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999, 0.9995, 0.9999, 1} {
			tail := math.Pow(1/(1-min(part, 0.99999)), 0.32) * (0.95 + 0.1*w.Float64())
			l.Curve = append(l.Curve, measure.Point{Part: part, MS: ms * 0.8 * tail})
		}
		l.P50, l.P90, l.P99, l.P999, l.Max = l.Curve[3].MS, l.Curve[5].MS, l.Curve[7].MS, l.Curve[9].MS, l.Curve[12].MS
		sample.Latency = l
		for step := range 20 {
			dip := 1.0
			if step == 9 || step == 10 {
				dip = 0.6
			}
			sample.Series = append(sample.Series, sample.Value*dip*(0.93+0.14*w.Float64()))
		}
	}
	return s
}

// sample returns a run like those of the benchmarks.
func sample() measure.Run {
	w := newWorld()
	began := time.Date(2026, 11, 24, 10, 0, 0, 0, time.UTC)
	run := measure.Run{
		Began: began, Took: 21*time.Minute + 7*time.Second, Mode: "full",
		Machine: measure.Machine{
			Date: began.Format(time.RFC3339), CPU: "AMD EPYC", CPUs: 2, Memory: 24105, Kernel: "Linux 6.18.44 x86_64",
			OS: "Debian GNU/Linux 12 (bookworm)", FileSystem: "ext4", MountOptions: "rw,relatime", Device: "vda", Go: "go1.26.8", GOMAXPROCS: 2,
			Append: measure.Sync{P50: 231, P99: 612}, Overwrite: measure.Sync{P50: 154, P99: 402}, Load: [3]float64{0.12, 0.3, 0.28},
			Versions: map[string]string{"messaging": "1.4.0 (5859faa-dirty)", "wrk": "4.1.0", "Redis": "7.0.15"},
		},
	}
	run.Results = append(w.sends(), w.batches()...)
	run.Results = append(run.Results, w.takes()...)
	run.Results = append(run.Results, w.rest()...)
	return run
}

func (w world) sends() []measure.Result {
	var list []measure.Result
	for i, connections := range []int{64, 256} {
		list = append(list, measure.Result{
			Workload: "Durable sends", Case: strconv.Itoa(connections) + " connections", Unit: "messages/s",
			Sides: []measure.Side{
				w.timed("messaging", "HTTP, wrk with one thread, fsync on", 5, 24000+4000*float64(i), 2.4*float64(connections)/64),
				w.timed("empty handler", "net/http and httprouter, reads the body", 5, 49000, 1.2*float64(connections)/64),
				w.timed("Redis streams", "appendfsync always, redis-benchmark", 5, 31000, 1.9*float64(connections)/64),
			},
			Goals: []measure.Goal{{Against: "empty handler", Least: 0.5}, {Against: "Redis streams", Least: 1}, {Against: "NATS JetStream", Least: 1}},
		})
	}
	list[1].Note = "The load generator shares the two cores."
	return list
}

func (w world) batches() []measure.Result {
	var list []measure.Result
	for _, size := range []float64{1, 10, 100, 1000} {
		list = append(list, measure.Result{
			Workload: "Batches", Case: strconv.Itoa(int(size)) + " messages a batch", Size: size, SizeName: "messages a batch", Unit: "messages/s",
			Sides: []measure.Side{
				w.side("messaging", "", 5, 130000*size/(size+9)),
				w.side("Pebble alone", "the same entries, one commit a batch", 5, 250000*size/(size+12)),
			},
			Goals: []measure.Goal{{Against: "Pebble alone", Least: 0.4}},
		})
	}
	return list
}

func (w world) takes() []measure.Result {
	var list []measure.Result
	for _, depth := range []float64{1e3, 1e4, 1e5, 1e6} {
		list = append(list, measure.Result{
			Workload: "Takes from a deep queue", Case: measure.Number(depth) + " taken before", Size: depth, SizeName: "messages taken before", Unit: "ms",
			Sides: []measure.Side{
				w.side("messaging", "", 5, 0.24+0.004*math.Log10(depth)),
				w.side("SELECT … SKIP LOCKED", "PostgreSQL 15, synchronous_commit on", 5, 0.4*math.Sqrt(depth/1000)),
			},
			Goals: []measure.Goal{{Most: 1}},
		})
	}
	return list
}

func (w world) rest() []measure.Result {
	return []measure.Result{
		{
			Workload: "Ready again after a kill", Case: "1,000,000 messages queued", Unit: "s",
			Sides: []measure.Side{w.side("messaging", "", 3, 0.41)}, Goals: []measure.Goal{{Most: 3}},
		},
		{
			Workload: "Memory", Case: "idle, 1,000,000 messages on disk", Unit: "MiB",
			Sides: []measure.Side{
				w.side("messaging", "resident", 3, 99), w.side("Redis streams", "resident", 3, 412),
				w.side("RabbitMQ quorum queues", "resident", 3, 260),
			},
			Goals: []measure.Goal{{Most: 90}},
		},
		{
			Workload: "Memory", Case: "10,000 readers in long polls", Unit: "MiB",
			Sides: []measure.Side{w.side("messaging", "resident", 3, 254), w.side("Redis streams", "resident", 3, 431)},
			Goals: []measure.Goal{{Most: 300}},
		},
	}
}
