package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stayafrica/messaging/bench/measure"
	"github.com/stayafrica/messaging/bench/traffic"
)

// refusingDjango is a Django that refuses all messages of a batch except the first,
// until it is switched to storing.
type refusingDjango struct {
	address string
	server  http.Server
	stores  atomic.Bool
}

func (k *refusingDjango) listen() error {
	l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	k.address = l.Addr().String()
	k.server.Handler, k.server.ReadHeaderTimeout = k, time.Minute
	go func() { _ = k.server.Serve(l) }() // until it is closed
	return nil
}

// ServeHTTP responds to each message of a batch by its index.
func (k *refusingDjango) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := bodies.Get().(*bytes.Buffer)
	defer bodies.Put(body)
	body.Reset()
	if _, err := io.Copy(body, r.Body); err != nil {
		return
	}
	n := bytes.Count(body.Bytes(), sequenceKey)
	responseBody := bytes.NewBufferString(`{"errors":[`)
	persisted := n
	if !k.stores.Load() {
		persisted = min(n, 1)
		for i, id := range ids(body.Bytes())[persisted:] {
			if i > 0 {
				responseBody.WriteByte(',')
			}
			_, _ = fmt.Fprintf(responseBody, `{"message":{"id":"%s"},"permanent":true,"error":"there is no such user"}`, id) // into memory
		}
	}
	_, _ = fmt.Fprintf(responseBody, `],"persisted":%d}`, persisted)
	w.Header().Set("Content-Type", mediaJSON)
	_, _ = w.Write(responseBody.Bytes()) // the service detects a failure
}

// ids finds the ids of a batch's messages, which precede their sequences.
func ids(body []byte) (list [][]byte) {
	const length = 36
	for {
		at := bytes.Index(body, sequenceKey)
		if at < length+2 {
			return list
		}
		list = append(list, body[at-length-2:at-2])
		body = body[at+len(sequenceKey):]
	}
}

// refusals fills the store with dead letters.
func (v *service) refusals(n int) error {
	more := n + n/50 // the first message of each batch is stored
	err := v.client.fill(more, func(b []byte, i int) []byte { return traffic.AppendMessage(b, leased+i) })
	if err != nil {
		return err
	}
	for range 600 {
		lag, lagErr := v.client.metric("messaging_drain_lag_messages")
		got, letterErr := v.client.metric(`messaging_dead_letters{kind="refused"}`)
		switch {
		case errors.Join(lagErr, letterErr) != nil:
			return errors.Join(lagErr, letterErr)
		case got >= float64(n):
			return nil
		case lag == 0 && got > 0:
			return fmt.Errorf("%w: everything is drained, with %.0f dead letters of %d", errBackground, got, n)
		}
		time.Sleep(time.Second)
	}
	return fmt.Errorf("%w: the dead letters are incomplete after 10 minutes", errBackground)
}

var errBackground = errors.New("the background work failed")

// takeBeside measures takes while a listing repeatedly pages through all dead letters
// and a replay sends the log to the backend.
func (v *service) takeBeside(n int) (sample measure.Sample, err error) {
	stop := make(chan struct{})
	var beside sync.WaitGroup
	var listErr error
	var job string
	if job, err = v.replay(); err != nil {
		return sample, err
	}
	beside.Go(func() { listErr = v.listAll(stop) })
	sample, err = v.takeAll(64, n)
	close(stop)
	beside.Wait()
	return sample, errors.Join(err, listErr, v.client.call("DELETE", "/api/jobs/"+job, "", nil, ignored))
}

func ignored([]byte) error { return nil }

// field returns the value of the first string member with a name.
func field(responseBody []byte, name string) string {
	_, rest, _ := bytes.Cut(responseBody, []byte(`"`+name+`":"`))
	value, _, _ := bytes.Cut(rest, []byte(`"`))
	return string(value)
}

func (v *service) replay() (job string, err error) {
	err = v.client.call("POST", "/api/replay", mediaJSON, []byte(`{"from_sequence":1}`), func(responseBody []byte) error {
		job = field(responseBody, "id")
		return nil
	})
	return job, err
}

// listAll lists the dead letters until stop.
func (v *service) listAll(stop <-chan struct{}) error {
	next := ""
	for {
		select {
		case <-stop:
			return nil
		default:
		}
		path := "/api/dead-letters?limit=1000"
		if next != "" {
			path += "&after=" + next
		}
		err := v.client.call("GET", path, "", nil, func(responseBody []byte) error {
			next = field(responseBody, "next")
			return nil
		})
		if err != nil {
			return err
		}
	}
}
