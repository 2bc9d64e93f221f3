package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	vegeta "github.com/tsenart/vegeta/v12/lib"

	"github.com/stayafrica/messaging/bench/measure"
	"github.com/stayafrica/messaging/bench/traffic"
)

// openLoops sends at fixed rates, independent of the responses: 5,000 per second, and
// fractions of the rate that 64 connections reached in a closed loop.
func openLoops(s *suite) error {
	return s.with("open-loop", func(v *service) error {
		if s.sustained == 0 { // the sends were not run
			sample, err := wrk(v.URL, 64, s.scale.each, nil)
			if err != nil {
				return err
			}
			s.sustained = sample.Value
		}
		bound := 1 + s.run.Machine.Append.P50/1000
		if err := s.openLoop(v, "5,000/s", 5000, measure.Goal{Most: bound}, measure.Goal{Most: 10}); err != nil {
			return err
		}
		for _, part := range []float64{0.25, 0.5, 0.75} {
			rate := int(s.sustained * part)
			name := fmt.Sprintf("%.0f %% of the sustained rate", part*100)
			if err := s.openLoop(v, name, rate, measure.Goal{}, measure.Goal{}); err != nil {
				return err
			}
		}
		return nil
	})
}

// openLoop measures one rate; p50 and p99 are separate results.
func (s *suite) openLoop(v *service, name string, rate int, half, most measure.Goal) error {
	p50 := measure.Result{Workload: "open-loop", Case: name + ", p50", Size: float64(rate), SizeName: "messages/s", Unit: "ms"}
	side := measure.Side{Name: ours, Detail: "vegeta over fasthttp"}
	stop, err := watchStalls()
	if err != nil {
		return err
	}
	for range max(1, s.rounds/2) {
		var sample measure.Sample
		if sample, err = v.openLoop(rate, s.scale.each); err != nil {
			break
		}
		side.Samples = append(side.Samples, sample)
	}
	stood, failed := stop()
	if err = errors.Join(err, failed); err != nil {
		return err
	}
	p50.Note = stood.String()
	p99 := p50
	p99.Case = name + ", p99"
	tail := measure.Side{Name: side.Name, Detail: side.Detail}
	for _, sample := range side.Samples {
		tail.Samples = append(tail.Samples, measure.Sample{Value: sample.Latency.P99})
	}
	p50.Sides, p99.Sides = []measure.Side{side}, []measure.Side{tail}
	if half.Most > 0 {
		p50.Goals, p99.Goals = []measure.Goal{half}, []measure.Goal{most}
	}
	s.keep(p50)
	s.keep(p99)
	return nil
}

// openLoop returns the latencies of sends at a rate; a refusal is an error. The first
// second, in which connections are opened, does not count.
func (v *service) openLoop(rate int, d time.Duration) (measure.Sample, error) {
	if _, err := v.attack(rate, time.Second); err != nil {
		return measure.Sample{}, err
	}
	latencies, err := v.attack(rate, d)
	return measure.Sample{Value: latencies.At(0.5), Latency: latencies.Summary()}, err
}

func (v *service) attack(rate int, d time.Duration) (*measure.Latencies, error) {
	latencies := measure.NewLatencies()
	n := 0
	targets := func(t *vegeta.Target) error {
		t.Method, t.URL = http.MethodPost, v.URL+"/api/messages/send"
		t.Body = traffic.Message(traffic.User(0, n, traffic.Users))
		n++
		return nil
	}
	attacker := vegeta.NewAttacker(vegeta.Workers(64), vegeta.MaxWorkers(2000), vegeta.Client(&http.Client{Transport: fasthttpTransport{v.client}}))
	var failed error
	for r := range attacker.Attack(targets, vegeta.Rate{Freq: rate, Per: time.Second}, d, "send") {
		if r.Error != "" || r.Code != http.StatusOK {
			failed = fmt.Errorf("a send at %d/s: %d %s", rate, r.Code, r.Error)
		}
		latencies.Record(r.Latency)
	}
	return latencies, failed
}

// fasthttpTransport lets vegeta send with the client of the other workloads. vegeta's
// own client, net/http with two goroutines per connection, uses more of the two cores
// than the service does and distorts the measurement above some thousand requests per
// second.
type fasthttpTransport struct{ client *client }

// RoundTrip implements [http.RoundTripper].
func (l fasthttpTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	if err := l.client.call(r.Method, r.URL.Path, mediaJSON, body, nil); err != nil {
		return nil, err
	}
	return &http.Response{StatusCode: http.StatusOK, ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{}, Body: http.NoBody, Request: r}, nil
}
