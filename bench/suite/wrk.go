package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"strconv"
	"sync"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/stayafrica/messaging/bench/measure"
)

// sendScript generates the requests, for the service and the empty handler.
const sendScript = "bench/send.lua"

// errWrk is the base of errors about wrk's figures.
var errWrk = errors.New("wrk")

// wrkReport is what the script prints at the end.
type wrkReport struct {
	Requests    int64 `json:"requests"`
	Duration    int64 `json:"us"`
	Errors      int64 `json:"errors"`
	Max         int64 `json:"max_us"`
	Percentiles []struct {
		Part float64 `json:"part"`
		US   int64   `json:"us"`
	} `json:"percentiles"`
}

// wrk runs wrk with the script against a server. accepted, if not nil, returns the
// total number of messages so far; wrk polls it for the rate over time.
func wrk(url string, connections int, d time.Duration, accepted func() (float64, error)) (measure.Sample, error) {
	seconds := max(1, int(d/time.Second))
	c := exec.CommandContext(context.Background(), "wrk", "-t"+strconv.Itoa(min(runtime.NumCPU(), connections)), "-c"+strconv.Itoa(connections), "-d"+strconv.Itoa(seconds)+"s", //nolint:gosec // numbers
		"-s", sendScript, url+"/api/messages/send")
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	if err := c.Start(); err != nil {
		return measure.Sample{}, fmt.Errorf("%w is needed (apt-get install wrk): %w", errWrk, err)
	}
	course, err := follow(c, accepted)
	if err != nil {
		return measure.Sample{}, fmt.Errorf("%w: %w: %s", errWrk, err, out.String())
	}
	_, line, ok := bytes.Cut(out.Bytes(), []byte("suite: "))
	var report wrkReport
	if !ok {
		return measure.Sample{}, fmt.Errorf("%w printed no figures: %s", errWrk, out.String())
	}
	if err := json.Unmarshal(bytes.TrimSpace(line), &report); err != nil {
		return measure.Sample{}, fmt.Errorf("%w: %w", errWrk, err)
	}
	if report.Errors > 0 {
		return measure.Sample{}, fmt.Errorf("%w: %d of %d requests failed: %s", errWrk, report.Errors, report.Requests, out.String())
	}
	sample := report.sample()
	sample.Series = course
	return sample, nil
}

func (r *wrkReport) sample() measure.Sample {
	l := &measure.Latency{Calls: r.Requests, Max: float64(r.Max) / 1000}
	at := map[float64]*float64{0.5: &l.P50, 0.9: &l.P90, 0.99: &l.P99, 0.999: &l.P999}
	for _, p := range r.Percentiles {
		ms := float64(p.US) / 1000
		if to := at[p.Part]; to != nil {
			*to = ms
		}
		l.Curve = append(l.Curve, measure.Point{Part: p.Part, MS: ms})
	}
	l.Curve = append(l.Curve, measure.Point{Part: 1, MS: l.Max})
	return measure.Sample{Value: float64(r.Requests) / (float64(r.Duration) / 1e6), Latency: l}
}

// follow waits for the load to end and meanwhile samples its progress.
func follow(c *exec.Cmd, accepted func() (float64, error)) (course []float64, err error) {
	if accepted == nil {
		return nil, c.Wait()
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() { course = sampleRate(accepted, stop) })
	err = c.Wait()
	close(stop)
	wg.Wait()
	return course, err
}

// sampleRate samples the rate of a counter per step. It skips failed samples.
func sampleRate(counter func() (float64, error), stop <-chan struct{}) (course []float64) {
	ticker := time.NewTicker(measure.SeriesStep)
	defer ticker.Stop()
	before, err := counter()
	since := time.Now()
	for {
		select {
		case <-stop:
			return course
		case <-ticker.C:
		}
		var now float64
		failed := err
		if now, err = counter(); err != nil {
			continue
		}
		if failed == nil {
			course = append(course, (now-before)/time.Since(since).Seconds())
		}
		before, since = now, time.Now()
	}
}
