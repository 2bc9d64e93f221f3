package faultinjection_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stayafrica/messaging/bench/program"
	"github.com/stayafrica/messaging/bench/torture"
)

// slowDeadline is how long the service lets a request arrive or a response leave. It is
// short to shorten the test.
const slowDeadline = 3 * time.Second

// TestRigSlowClients runs many clients that send a byte per second, and as many that
// read one. Sends and takes of other clients must continue, the slow clients must be
// disconnected at their deadline, and their resources must be free again. The service
// may have so few descriptors that the slow connections alone would use them up.
func TestRigSlowClients(t *testing.T) {
	each := 400
	if torture.Long() {
		each = 1000
	}
	torture.Run(t, 1, func(r *torture.Round) {
		slowRound(r, slowConfig(2*each), each)
	})
}

// TestRigSlowClientsCatchesAMissingDeadline gives slow clients no deadline.
func TestRigSlowClientsCatchesAMissingDeadline(t *testing.T) {
	torture.Control(t, 1, func(r *torture.Round) {
		config := slowConfig(40)
		config.Env = append(config.Env, "REQUEST_TIMEOUT=1h")
		slowRound(r, config, 20)
	})
}

// storageFiles is how many descriptors the service reserves for other uses than client
// connections, including HealthConnections.
const storageFiles = 1600

// slowConfig limits the descriptors to half as many connections as the slow clients
// open, plus 50 for the others.
func slowConfig(slow int) program.Config {
	config := program.Config{Env: []string{"REQUEST_TIMEOUT=" + slowDeadline.String(), "LOG_LEVEL=error"}}
	if path, err := exec.LookPath("prlimit"); err == nil {
		config.Prefix = []string{path, fmt.Sprintf("--nofile=%d", storageFiles+slow+50)}
	}
	return config
}

func slowRound(r *torture.Round, config program.Config, each int) {
	v := startTarget(r, config)
	v.fillForSlowReaders()
	others := newOthers(v)
	alone := others.work(time.Second)
	files, goroutines := v.descriptors(), v.goroutines()

	began := time.Now()
	connections := v.openSlow(each)
	beside := others.work(slowDeadline / 2)
	if most := v.descriptors(); most > files+storageFiles+2*each {
		r.Errorf("%d descriptors with %d slow clients", most, 2*each)
	}
	connections.wait(r, began.Add(slowDeadline+5*time.Second))
	r.Logf("alone: %s; with %d slow clients: %s; they were disconnected after %s", alone, 2*each, beside, time.Since(began).Round(time.Millisecond))
	// The slow clients use the same processors, which may be busy with other work too.
	if limit := 10*alone.percentile(99) + slowDeadline; beside.percentile(99) > limit {
		r.Errorf("with slow clients, others wait for %s (p99), and for %s without", beside.percentile(99), alone.percentile(99))
	}
	if others.failed.Load() > 0 {
		r.Errorf("%d calls of others failed", others.failed.Load())
	}
	v.waitAtMost("descriptors", 2*slowDeadline+10*time.Second, files+16, v.descriptors)
	v.waitAtMost("goroutines", 10*time.Second, goroutines+32, v.goroutines)
	v.waitAtMost("bytes in flight", 10*time.Second, 0, func() int { return int(v.metrics()["messaging_inflight_bytes"]) })
	if size := len(v.take(slowReader)); size == 0 {
		r.Error("messages that slow readers did not read have left their queue")
	}
	r.Count("slow clients", 2*each)
}

const (
	// slowReader is the user whose messages slow readers request.
	slowReader = 1
	// slowMessages is enough messages that they do not fit into the socket buffers.
	slowMessages = 140
)

// fillForSlowReaders queues a large response for the slow readers.
func (v *target) fillForSlowReaders() {
	text := strings.Repeat("x", 60_000)
	for range slowMessages {
		v.must(http.MethodPost, "/api/messages/send", fmt.Appendf(nil, `{"conversation_id":1,"sender_id":2,"receiver_id":%d,"text":"%s"}`, slowReader, text))
	}
}

// others are clients that send and take next to the slow ones.
type others struct {
	target *target
	failed atomic.Int64
}

func newOthers(v *target) *others { return &others{target: v} }

// work sends and takes for a while on few connections.
func (o *others) work(lasting time.Duration) (all latencies) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	until := time.Now().Add(lasting)
	for n := range 8 {
		wg.Go(func() {
			var own latencies
			for user := 100 + n; time.Now().Before(until); {
				began := time.Now()
				o.call(http.MethodPost, "/api/messages/send", fmt.Appendf(nil, `{"conversation_id":1,"sender_id":2,"receiver_id":%d,"text":"x"}`, user))
				o.call(http.MethodGet, fmt.Sprintf("/api/messages/queue/%d", user), nil)
				own = append(own, time.Since(began))
				time.Sleep(5 * time.Millisecond)
			}
			mu.Lock()
			defer mu.Unlock()
			all = append(all, own...)
		})
	}
	wg.Wait()
	return all
}

func (o *others) call(method, path string, body []byte) {
	status, _, responseBody, err := o.target.call(method, path, body)
	if status != http.StatusOK {
		o.failed.Add(1)
		o.target.Logf("%s %s: %d %.100s (%v)", method, path, status, responseBody, err)
	}
}

// slowConnections are the connections of slow clients.
type slowConnections struct {
	senders, readers sync.WaitGroup
	conns            []net.Conn
}

// openSlow opens that many connections that send a byte per second, and as many that
// read one.
func (v *target) openSlow(each int) *slowConnections {
	v.Helper()
	s := &slowConnections{}
	v.Cleanup(func() {
		for _, conn := range s.conns {
			_ = conn.Close()
		}
		s.senders.Wait()
		s.readers.Wait()
	})
	for range each {
		sending := s.dial(v, "POST /api/messages/send HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n{")
		s.senders.Go(func() { sendSlowly(sending) })
		reading := s.dial(v, fmt.Sprintf("GET /api/messages/queue/%d?max_count=%d&peek=true HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", slowReader,
			1+v.Rand.IntN(slowMessages)))
		s.readers.Go(func() { readSlowly(reading) })
	}
	return s
}

func (s *slowConnections) dial(v *target, request string) net.Conn {
	v.Helper()
	conn, err := net.DialTimeout("tcp", strings.TrimPrefix(v.URL, "http://"), 10*time.Second)
	if err != nil {
		v.Fatal(err)
	}
	s.conns = append(s.conns, conn)
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetReadBuffer(4096)
	}
	if _, err := io.WriteString(conn, request); err != nil {
		v.Fatal(err)
	}
	return conn
}

// sendSlowly sends a byte per second until the connection ends.
func sendSlowly(conn net.Conn) {
	for {
		if _, err := conn.Write([]byte(" ")); err != nil {
			return
		}
		time.Sleep(time.Second)
	}
}

// readSlowly reads a byte per second. Its end does not notice the disconnect, because
// its kernel has buffered more of the response than it would read in a day. The
// service's descriptors show the disconnect.
func readSlowly(conn net.Conn) {
	b := make([]byte, 1)
	for {
		if _, err := conn.Read(b); err != nil {
			return
		}
		time.Sleep(time.Second)
	}
}

// wait waits until the slow senders are disconnected.
func (s *slowConnections) wait(r *torture.Round, until time.Time) {
	r.Helper()
	done := make(chan struct{})
	go func() { s.senders.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(time.Until(until)):
		r.Fatal("slow senders were not disconnected at their deadline")
	}
}
