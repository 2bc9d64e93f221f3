package faultinjection_test

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stayafrica/messaging/bench/program"
	"github.com/stayafrica/messaging/bench/torture"
)

const (
	memoryLimit   = 512 << 20 // of the control group or of the process
	memoryUsers   = 1000
	memoryBatch   = 10_000
	memoryClients = 200
)

// TestRigMemory queues many messages while Django is down, and sends bodies of 1 MiB
// from 200 connections. With a control group of 512 MiB and GOMEMLIMIT at half of that,
// no process may be killed, and refused requests must get a time to retry.
func TestRigMemory(t *testing.T) {
	messages, large := 100_000, 2
	if torture.Long() {
		messages, large = 1_000_000, 20
	}
	torture.Run(t, 1, func(r *torture.Round) {
		memoryRound(r, messages, large, "GOMEMLIMIT=256MiB", "MAX_INFLIGHT_BYTES=64MiB")
	})
}

// TestRigMemoryCatchesUnboundedBodies lets the service hold all bodies in memory,
// without garbage collection.
func TestRigMemoryCatchesUnboundedBodies(t *testing.T) {
	torture.Control(t, 2, func(r *torture.Round) { memoryRound(r, 50_000, 4, "GOGC=off", "MAX_INFLIGHT_BYTES=4GiB") })
}

func memoryRound(r *torture.Round, messages, large int, env ...string) {
	config := program.Config{Env: append(env, "DJANGO_API_URL=http://127.0.0.1:1", "PERSIST_MAX_BACKOFF=200ms", "LOG_LEVEL=error")}
	group, err := newCgroup(r, memoryLimit)
	if err != nil {
		r.Logf("no control group can be created here (%v): the peak of the process is measured instead", err)
	} else {
		config.Prefix = group.prefix()
	}
	v := startTarget(r, config)
	m := &memoryLoad{target: v}
	began := time.Now()
	m.fill(messages)
	filled := time.Since(began)
	m.sendLarge(large)
	select {
	case <-v.Done():
		r.Fatalf("the service ended with status %d\n%s", v.ExitStatus(), v.Log())
	default:
	}
	// Everything accepted is queued, whatever else happened.
	if queued := v.metrics()["messaging_queue_messages"]; int64(queued) != m.accepted.Load() {
		r.Errorf("%d messages were accepted, and %.0f are queued", m.accepted.Load(), queued)
	}
	peak := v.peak()
	if peak > memoryLimit {
		r.Errorf("the service used %d MiB, want at most %d", mebibytes(peak), mebibytes(memoryLimit))
	}
	if group != nil {
		r.Logf("the control group used at most %d MiB, including the page cache", mebibytes(group.peak()))
	}
	r.Logf("filled in %s; the service used at most %d MiB, and now %d; %d bodies of 1 MiB were accepted and %d refused",
		filled.Round(time.Millisecond), mebibytes(peak), mebibytes(v.resident()), m.large.Load(), m.refused.Load())
	r.Count("messages", int(m.accepted.Load()))
}

// memoryLoad sends requests that take memory.
type memoryLoad struct {
	*target

	accepted, large, refused atomic.Int64
}

// fill queues messages in batches.
func (m *memoryLoad) fill(messages int) {
	m.Helper()
	for sent := 0; sent < messages; sent += memoryBatch {
		var body bytes.Buffer
		for n := range memoryBatch {
			user := (sent + n) % memoryUsers
			fmt.Fprintf(&body, "{\"conversation_id\":%d,\"sender_id\":1,\"receiver_id\":%d,\"text\":\"%0100d\"}\n", user, user, n)
		}
		m.batch(body.Bytes())
	}
}

// batch sends a batch until it is accepted.
func (m *memoryLoad) batch(body []byte) {
	m.Helper()
	for range 100 {
		response, err := m.client.Post(m.URL+"/api/messages/batch", "application/x-ndjson", bytes.NewReader(body))
		if err != nil {
			m.Fatalf("a batch: %v\n%s", err, m.Log())
		}
		_ = response.Body.Close()
		switch response.StatusCode {
		case http.StatusOK:
			m.accepted.Add(memoryBatch)
			return
		case http.StatusServiceUnavailable:
			time.Sleep(100 * time.Millisecond)
		default:
			m.Fatalf("a batch: %s", response.Status)
		}
	}
	m.Fatal("a batch was refused a hundred times")
}

// sendLarge sends bodies of 1 MiB from many connections at once, each that many.
func (m *memoryLoad) sendLarge(each int) {
	m.Helper()
	const open, end = `{"conversation_id":1,"sender_id":1,"receiver_id":%d,"text":"x","more":"`, `"}`
	var wg sync.WaitGroup
	for c := range memoryClients {
		wg.Go(func() {
			body := []byte(fmt.Sprintf(open, memoryUsers+c))
			body = append(body, strings.Repeat("x", 1<<20-len(body)-len(end))+end...)
			for range each {
				m.sendOne(body)
			}
		})
	}
	wg.Wait()
}

func (m *memoryLoad) sendOne(body []byte) {
	status, header, responseBody, err := m.call(http.MethodPost, "/api/messages/send", body)
	switch {
	case err != nil:
		m.Errorf("a body of 1 MiB: %v", err)
	case status == http.StatusOK:
		m.accepted.Add(1)
		m.large.Add(1)
	case status == http.StatusServiceUnavailable && header.Get("Retry-After") != "":
		m.refused.Add(1)
		time.Sleep(50 * time.Millisecond)
	default:
		m.Errorf("a body of 1 MiB: %d %.200s", status, responseBody)
	}
}
