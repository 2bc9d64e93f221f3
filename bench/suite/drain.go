package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stayafrica/messaging/bench/measure"
	"github.com/stayafrica/messaging/bench/traffic"
)

// drains measures how fast a backlog is sent to a Django that responds at once, and to
// one that takes 20 ms per batch. A further round, which is not measured, checks that
// each conversation arrives in order.
func drains(s *suite) error {
	for _, one := range []struct {
		name  string
		delay time.Duration
		goals []measure.Goal
	}{
		{"to a null sink", 0, []measure.Goal{{Least: 60_000}}},
		{"to a sink that takes 20 ms per batch", 20 * time.Millisecond, nil},
	} {
		r := measure.Result{
			Workload: "drain", Case: one.name, Unit: perSecond, Goals: one.goals,
			Note: "a further round checked that the order of each conversation was kept",
		}
		err := s.inTurn(r, measure.Measured{
			Name: ours, Detail: "batches of 500, 4 at once (defaults); " + plural(s.scale.drained, "message"),
			Round: func() (measure.Sample, error) {
				return s.drainTo(&sink{delay: one.delay}, s.scale.drained)
			},
		})
		if err != nil {
			return err
		}
		if _, err := s.drainTo(&sink{delay: one.delay, last: make(map[string]uint64)}, s.scale.drained/5); err != nil {
			return err
		}
	}
	return nil
}

// drainTo stores n messages while the sink is closed, and then measures how fast they
// arrive.
func (s *suite) drainTo(k *sink, n int) (sample measure.Sample, err error) {
	if err := k.listen(n); err != nil {
		return sample, err
	}
	err = s.with("drain", func(v *service) error {
		if err := v.client.fill(n, func(b []byte, i int) []byte { return traffic.AppendMessage(b, i%traffic.Users) }); err != nil {
			return err
		}
		time.Sleep(v.quiesce)
		sample, err = k.drain(n)
		return err
	}, "DJANGO_API_URL=http://"+k.address, "PERSIST_TIMEOUT=300s")
	return sample, errors.Join(err, k.server.Close())
}

// sink is a Django that stores nothing and reports success. Its first responses wait
// until it is opened.
type sink struct {
	delay   time.Duration
	address string
	server  http.Server
	opened  chan struct{}
	full    chan struct{} // closed when all messages have arrived
	want    int64
	got     atomic.Int64

	mu   sync.Mutex
	last map[string]uint64 // the last sequence of each conversation; nil disables the check
	err  error
}

func (k *sink) listen(want int) error {
	l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	k.address, k.want = l.Addr().String(), int64(want)
	k.opened, k.full = make(chan struct{}), make(chan struct{})
	k.server.Handler, k.server.ReadHeaderTimeout = k, time.Minute
	go func() { _ = k.server.Serve(l) }() // until it is closed
	return nil
}

// drain opens the sink and waits until all messages have arrived.
func (k *sink) drain(n int) (measure.Sample, error) {
	began := time.Now()
	close(k.opened)
	stop := make(chan struct{})
	var course []float64
	var wg sync.WaitGroup
	wg.Go(func() {
		course = sampleRate(func() (float64, error) { return float64(k.got.Load()), nil }, stop)
	})
	var err error
	select {
	case <-k.full:
	case <-time.After(5 * time.Minute):
		err = fmt.Errorf("the sink has %d of %d after 5 minutes", k.got.Load(), n)
	}
	took := time.Since(began)
	close(stop)
	wg.Wait()
	k.mu.Lock()
	defer k.mu.Unlock()
	return measure.Sample{Value: float64(n) / took.Seconds(), Series: course}, errors.Join(err, k.err)
}

// bodies pools the buffers of request bodies.
var bodies = sync.Pool{New: func() any { return new(bytes.Buffer) }}

var sequenceKey, conversationKey = []byte(`"sequence":`), []byte(`"conversation_id":`)

// ServeHTTP counts the messages of a batch by their sequence members; the texts contain
// nothing similar.
func (k *sink) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := bodies.Get().(*bytes.Buffer)
	defer bodies.Put(body)
	body.Reset()
	if _, err := io.Copy(body, r.Body); err != nil {
		return
	}
	<-k.opened
	n := int64(bytes.Count(body.Bytes(), sequenceKey))
	k.checkOrder(body.Bytes())
	time.Sleep(k.delay)
	w.Header().Set("Content-Type", mediaJSON)
	_, _ = fmt.Fprintf(w, `{"persisted":%d,"errors":[]}`, n) // the service detects a failure
	if got := k.got.Add(n); got >= k.want && got-n < k.want {
		close(k.full)
	}
}

// checkOrder checks the order of each conversation.
func (k *sink) checkOrder(body []byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.last == nil {
		return
	}
	for {
		digits, rest, ok := after(body, sequenceKey)
		if !ok {
			return
		}
		conversation, rest, ok := after(rest, conversationKey)
		seq, err := strconv.ParseUint(string(digits), 10, 64)
		if !ok || err != nil || seq <= k.last[string(conversation)] {
			k.err = fmt.Errorf("conversation %s: sequence %s after %d", conversation, digits, k.last[string(conversation)])
			return
		}
		k.last[string(conversation)] = seq
		body = rest
	}
}

// after returns the number that follows a key, and the rest.
func after(body, key []byte) (number, rest []byte, ok bool) {
	_, rest, ok = bytes.Cut(body, key)
	end := bytes.IndexAny(rest, ",}")
	if !ok || end < 0 {
		return nil, nil, false
	}
	return rest[:end], rest[end:], true
}
