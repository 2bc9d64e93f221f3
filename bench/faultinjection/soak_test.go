package faultinjection_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stayafrica/messaging/bench/program"
	"github.com/stayafrica/messaging/bench/torture"
)

// soak is a mix of connections and its duration.
type soak struct {
	idle, polls, slow int
	lasting           time.Duration
	// leak opens that many more connections per second, for the control.
	leak int
}

// TestRigSoak keeps many connections idle and some in long polls, while other clients
// send and take steadily and a few are slow. After a while goroutines, descriptors and
// memory must be the same, and after all connections have closed they must be as
// before.
func TestRigSoak(t *testing.T) {
	s := soak{idle: 500, polls: 50, slow: 10, lasting: 3 * time.Second}
	if torture.Long() {
		s = soak{idle: min(10_000, ownDescriptors()-2000), polls: 500, slow: 100, lasting: 45 * time.Second}
	}
	torture.Run(t, 1, s.round)
}

// TestRigSoakCatchesALeak opens more and more connections, which has the same effect as
// a service that does not release them.
func TestRigSoakCatchesALeak(t *testing.T) {
	torture.Control(t, 1, soak{idle: 50, polls: 5, lasting: 2 * time.Second, leak: 200}.round)
}

// ownDescriptors returns how many files this process may open.
func ownDescriptors() int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 3000
	}
	return int(min(limit.Cur, 1<<20))
}

// level is the set of figures that must stay constant.
type level struct {
	goroutines, descriptors int
	resident                int64
}

func (v *target) level() level {
	v.Helper()
	return level{v.goroutines(), v.descriptors(), v.resident()}
}

func (s soak) round(r *torture.Round) {
	// A small cache and frequent collections: on a busy machine, neither reaches its usual
	// size within a second.
	v := startTarget(r, program.Config{Env: []string{
		"GOMEMLIMIT=512MiB", "GOGC=50", "CACHE_BYTES=8MiB", "MAX_CONNECTIONS=11000", "REQUEST_TIMEOUT=5s", "LOG_LEVEL=error",
	}})
	v.fillForSlowReaders()
	work := newOthers(v)
	work.work(time.Second) // memory and caches reach their usual size
	before := v.level()

	connections := &idleConnections{}
	r.Cleanup(connections.close)
	connections.open(v, s.idle, fmt.Sprintf("GET /api/messages/queue/%d/size", slowReader), true)
	connections.open(v, s.polls, "GET /api/messages/queue/nobody?wait=60", false)
	connections.open(v, s.slow, fmt.Sprintf("GET /api/messages/queue/%d?peek=true&max_count=100", slowReader), false)
	work.work(s.lasting / 3)
	settled := v.level()
	for end := time.Now().Add(s.lasting); time.Now().Before(end); {
		work.work(time.Second)
		connections.open(v, s.leak, "GET /api/messages/queue/nobody?wait=60", false)
	}
	after := v.level()
	r.Logf("with %d connections: %+v, after %s %+v; before %+v", s.idle+s.polls+s.slow, settled, s.lasting, after, before)
	after.flat(r, settled, "with its connections")

	connections.close()
	v.waitAtMost("goroutines after all connections closed", 15*time.Second, before.goroutines+32, v.goroutines)
	v.waitAtMost("descriptors after all connections closed", 15*time.Second, before.descriptors+16, v.descriptors)
	if failed := work.failed.Load(); failed > 0 {
		r.Errorf("%d calls failed during the soak", failed)
	}
	r.Count("connections", s.idle+s.polls+s.slow)
}

// memTables is the memory, in bytes, that the store's tables in memory may add while they
// fill for the first time.
const memTables = 160 << 20

// flat reports figures that have grown.
func (l level) flat(r *torture.Round, before level, when string) {
	r.Helper()
	if l.goroutines > before.goroutines+before.goroutines/20+32 {
		r.Errorf("%s goroutines went from %d to %d", when, before.goroutines, l.goroutines)
	}
	if l.descriptors > before.descriptors+before.descriptors/20+32 {
		r.Errorf("%s descriptors went from %d to %d", when, before.descriptors, l.descriptors)
	}
	if l.resident > before.resident+before.resident/2+memTables {
		r.Errorf("%s memory went from %d to %d MiB", when, mebibytes(before.resident), mebibytes(l.resident))
	}
}

// idleConnections are connections that are idle after one request.
type idleConnections struct {
	mu    sync.Mutex
	conns []net.Conn
}

// open opens n connections that make one request. With answered, they read the response
// and stay open.
func (c *idleConnections) open(v *target, n int, request string, answered bool) {
	v.Helper()
	for range n {
		conn, err := net.DialTimeout("tcp", strings.TrimPrefix(v.URL, "http://"), 10*time.Second)
		if err != nil {
			v.Fatal(err)
		}
		c.mu.Lock()
		c.conns = append(c.conns, conn)
		c.mu.Unlock()
		if _, err := io.WriteString(conn, request+" HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
			v.Fatal(err)
		}
		if answered {
			c.readResponse(v, conn)
		}
	}
}

func (c *idleConnections) readResponse(v *target, conn net.Conn) {
	v.Helper()
	_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		v.Fatal(err)
	}
	_ = response.Body.Close()
	if response.StatusCode != http.StatusOK {
		v.Fatalf("an idle connection got %s", response.Status)
	}
}

// close closes all connections; it may be called again.
func (c *idleConnections) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range c.conns {
		_ = conn.Close()
	}
	c.conns = nil
}
