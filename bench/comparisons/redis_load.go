package comparisons

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/stayafrica/messaging/bench/measure"
	"github.com/stayafrica/messaging/bench/traffic"
)

// Load implements [Loader] with redis-benchmark.
func (r *redis) Load(clients, pipeline int, d time.Duration) (measure.Sample, string, error) {
	sample, err := RedisBenchmark(r.addr, clients, pipeline, d)
	return sample, fmt.Sprintf("redis-benchmark -c %d -P %d -r %d XADD", clients, pipeline, traffic.Users), err
}

// RedisBenchmark runs redis-benchmark against a Redis server: that many clients, with
// that many XADDs per pipeline, to random streams. redis-benchmark takes a number of
// requests and not a duration, so a short run before measures how many requests fill
// the duration.
func RedisBenchmark(addr string, clients, pipeline int, d time.Duration) (measure.Sample, error) {
	path, err := find("redis-benchmark", "Debian's package redis-tools")
	if err != nil {
		return measure.Sample{}, err
	}
	host, port, _ := strings.Cut(addr, ":")
	atOnce := clients * pipeline
	bench := func(n int) (measure.Sample, error) {
		out, err := run(command{path: path, dir: "/", args: []string{
			"-h", host, "-p", port, "-c", strconv.Itoa(clients), "-P", strconv.Itoa(pipeline), "-n", strconv.Itoa(n),
			"-r", strconv.Itoa(traffic.Users), "XADD", "stream:__rand_int__", "*", "m", string(traffic.Message(1234)),
		}})
		if err != nil {
			return measure.Sample{}, err
		}
		return parseRedisBenchmark(out)
	}
	warm, err := bench(10 * atOnce)
	if err != nil {
		return warm, err
	}
	return bench(max(atOnce, int(warm.Value*d.Seconds())))
}

// parseRedisBenchmark reads the requests per second and the first distribution of
// latencies; further tables follow it:
//
//	25.000% <= 0.511 milliseconds (cumulative count 26)
//	throughput summary: 33333.33 requests per second
func parseRedisBenchmark(out []byte) (measure.Sample, error) {
	var s measure.Sample
	latency := new(measure.Latency)
	complete := false
	for line := range strings.Lines(string(out)) {
		var p measure.Point
		var calls int64
		line = strings.TrimSpace(line)
		if n, _ := fmt.Sscanf(line, "%f%% <= %f milliseconds (cumulative count %d)", &p.Part, &p.MS, &calls); n == 3 && !complete {
			p.Part /= 100
			latency.Curve, latency.Calls, latency.Max = append(latency.Curve, p), calls, p.MS
			complete = p.Part >= 1
		}
		_, _ = fmt.Sscanf(line, "throughput summary: %f requests per second", &s.Value) // another line leaves the value unchanged
	}
	if s.Value == 0 || !complete {
		return s, fmt.Errorf("redis-benchmark printed no throughput: %s", out)
	}
	latency.P50, latency.P90 = interpolate(latency.Curve, 0.5), interpolate(latency.Curve, 0.9)
	latency.P99, latency.P999 = interpolate(latency.Curve, 0.99), interpolate(latency.Curve, 0.999)
	s.Latency = latency
	return s, nil
}

// interpolate returns the latency at a part of the calls, by linear interpolation
// between the neighbouring points.
func interpolate(curve []measure.Point, part float64) float64 {
	last := curve[0]
	for _, p := range curve {
		if p.Part >= part {
			if p.Part == last.Part {
				return p.MS
			}
			return last.MS + (p.MS-last.MS)*(part-last.Part)/(p.Part-last.Part)
		}
		last = p
	}
	return last.MS
}
