package faultinjection_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stayafrica/messaging/bench/program"
	"github.com/stayafrica/messaging/bench/torture"
	"github.com/stayafrica/messaging/internal/hostiletest"
)

// TestRigHostileNet attacks a service with tokens from many connections that have none,
// plain and over TLS. Beside every attack a client with a token sends and takes, and health
// is checked: no call fails, and the client waits at most three times as long as without
// the attack. After it, the service holds nothing of it.
func TestRigHostileNet(t *testing.T) {
	n := hostileNet{connections: 400, lasting: 500 * time.Millisecond}
	if torture.Long() {
		n = hostileNet{connections: min(10_300, ownDescriptors()-2000), lasting: 20 * time.Second}
	}
	torture.Run(t, 2, func(r *torture.Round) {
		n := n
		if n.secure = r.Number%2 == 1; n.secure && !torture.Long() {
			n.connections /= 4 // the attackers' handshakes use up two processors
		}
		n.round(r)
	})
}

// TestRigHostileNetCatchesAnOpenDoor attacks a service without tokens, which has no limit on
// connections without one: they keep its client out.
func TestRigHostileNetCatchesAnOpenDoor(t *testing.T) {
	torture.Control(t, 1, func(r *torture.Round) {
		hostileNet{connections: 600, lasting: 8 * time.Second, open: true, only: "bodies that do not arrive"}.round(r)
	})
}

// hostileNet is the size of the attacks.
type hostileNet struct {
	connections int
	lasting     time.Duration
	secure      bool   // over TLS
	open        bool   // without tokens
	only        string // the name of one attack; empty for all
}

const hostileToken = "the-token-of-the-backend"

// attack is one kind of attack. begin opens its connections; each is attacked with run
// until the context ends.
type attack struct {
	name string
	run  func(ctx context.Context, a *attacker)
}

// attacks are all kinds.
var attacks = []attack{
	{"bodies that do not arrive", stay("POST /api/messages/send HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n")},
	{"long polls", stay("GET /api/messages/queue/1?wait=60 HTTP/1.1\r\nHost: localhost\r\n\r\n")},
	{"idle connections", stay("")},
	{"heads that do not end", stay("GET /api/stats HTTP/1.1\r\nHost: localhost\r\nX-")},
	{"slow heads", drip("GET /api/stats HTTP/1.1\r\nHost: localhost\r\nX-Filler: ")},
	{"slow bodies", drip("POST /api/messages/broadcast HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")},
	{"health with a body", stay("GET /health HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n")},
	{"wrong tokens", repeat("GET /api/stats HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer wrong\r\n\r\n")},
	{"forged JWTs", repeat("GET /api/stats HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer eyJhbGciOiJSUzI1NiJ9.eyJleHAiOjk5OTk5OTk5OTl9." + strings.Repeat("A", 342) + "\r\n\r\n")},
	{"pipelined requests", repeat(strings.Repeat("GET /api/stats HTTP/1.1\r\nHost: localhost\r\n\r\n", 100))},
	{"opened and reset", reset},
	{"half handshakes", halfHandshake},
	{"the corpus", corpus},
}

// attacker is one connection after the other of an attack.
type attacker struct {
	addr   string
	secure bool
	opened *atomic.Int64
	cases  []hostiletest.Case
	// pause is the time between two connections or two requests, so that all attackers
	// together open some thousand a second: more would only measure the machine.
	pause time.Duration
}

// dial opens a connection; nil if that fails, as it may.
func (a *attacker) dial(ctx context.Context, secure bool) net.Conn {
	dialer := net.Dialer{Timeout: time.Second}
	conn, err := dialer.DialContext(ctx, "tcp", a.addr)
	if err != nil {
		return nil
	}
	a.opened.Add(1)
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	if !secure {
		return conn
	}
	over := tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
	if over.HandshakeContext(ctx) != nil {
		_ = conn.Close()
		return nil
	}
	return over
}

// rest waits for a while or until the context ends.
func rest(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// each opens one connection after the other until the context ends, and uses each.
func each(use func(ctx context.Context, a *attacker, conn net.Conn)) func(ctx context.Context, a *attacker) {
	return func(ctx context.Context, a *attacker) {
		for ctx.Err() == nil {
			if conn := a.dial(ctx, a.secure); conn != nil {
				stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
				use(ctx, a, conn)
				stop()
				_ = conn.Close()
			}
			rest(ctx, a.pause)
		}
	}
}

// stay sends a text and waits until the service ends the connection.
func stay(text string) func(ctx context.Context, a *attacker) {
	return each(func(_ context.Context, _ *attacker, conn net.Conn) {
		_, _ = io.WriteString(conn, text)
		_, _ = io.Copy(io.Discard, conn)
	})
}

// drip sends a text and then a byte now and then.
func drip(text string) func(ctx context.Context, a *attacker) {
	return each(func(ctx context.Context, _ *attacker, conn net.Conn) {
		_, err := io.WriteString(conn, text)
		for err == nil && ctx.Err() == nil {
			rest(ctx, 100*time.Millisecond)
			_, err = conn.Write([]byte{'x'})
		}
	})
}

// repeat sends a text as often as the service answers.
func repeat(text string) func(ctx context.Context, a *attacker) {
	return each(func(ctx context.Context, a *attacker, conn net.Conn) {
		buffer := make([]byte, 4096)
		for ctx.Err() == nil {
			if _, err := io.WriteString(conn, text); err != nil {
				return
			}
			if _, err := conn.Read(buffer); err != nil {
				return
			}
			rest(ctx, a.pause)
		}
	})
}

// reset opens a connection and resets it at once.
func reset(ctx context.Context, a *attacker) {
	for ctx.Err() == nil {
		if conn, ok := a.dial(ctx, false).(*net.TCPConn); ok {
			_ = conn.SetLinger(0)
			_ = conn.Close()
		}
		rest(ctx, a.pause)
	}
}

// halfHandshake sends the first half of a TLS client hello.
func halfHandshake(ctx context.Context, a *attacker) {
	plain := *a
	plain.secure = false
	stay("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"+strings.Repeat("x", 100))(ctx, &plain)
}

// corpus sends the cases of testdata/hostile.
func corpus(ctx context.Context, a *attacker) {
	for i := 0; ctx.Err() == nil; i++ {
		c := a.cases[i%len(a.cases)]
		if conn := a.dial(ctx, a.secure); conn != nil {
			stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
			_ = conn.SetDeadline(time.Now().Add(2 * time.Second))
			_, _ = io.WriteString(conn, c.Send)
			_, _ = io.Copy(io.Discard, conn)
			stop()
			_ = conn.Close()
		}
		rest(ctx, a.pause)
	}
}

func (n hostileNet) round(r *torture.Round) {
	v := n.start(r)
	backend := newOthers(v)
	backend.work(time.Second)
	files, goroutines := v.descriptors(), v.goroutines()
	cases := hostiletest.Cases(r, "../../testdata/hostile")
	for _, a := range attacks {
		if n.only == "" || n.only == a.name {
			n.attack(v, backend, a, cases)
		}
	}
	v.waitAtMost("descriptors", 60*time.Second, files+16, v.descriptors)
	v.waitAtMost("goroutines", 60*time.Second, goroutines+32, v.goroutines)
	v.waitAtMost("bytes in flight", 10*time.Second, 0, func() int { return int(v.metrics()["messaging_inflight_bytes"]) })
}

// start starts a service with as many places as the attackers have connections.
func (n hostileNet) start(r *torture.Round) *target {
	r.Helper()
	config := program.Config{Env: []string{
		fmt.Sprintf("MAX_CONNECTIONS=%d", n.connections), "REQUEST_TIMEOUT=5s", "LOG_LEVEL=error", "JWT_SECRET=a-secret-of-django-0123",
		"API_TOKENS=backend:" + hostileToken,
	}}
	if n.open {
		config.Env = []string{fmt.Sprintf("MAX_CONNECTIONS=%d", n.connections/2), "REQUEST_TIMEOUT=1h", "LOG_LEVEL=error"}
	}
	if n.secure {
		var err error
		if config.Certificate, err = program.NewCertificate(r.TempDir()); err != nil {
			r.Fatal(err)
		}
	}
	return startTargetAs(r, config, hostileToken)
}

// allowance is what a client may wait longer than three times as long.
const allowance = time.Second

// pause returns the time between two connections of an attacker. All together open 2,000 a
// second; over TLS 400, because a handshake costs the attackers more than the service.
func (n hostileNet) pause() time.Duration {
	all := time.Duration(n.connections) * time.Millisecond
	if n.secure {
		return all * 5 / 2
	}
	return all / 2
}

// attack measures the client without and with one attack.
func (n hostileNet) attack(v *target, backend *others, a attack, cases []hostiletest.Case) {
	v.Helper()
	alone := backend.work(n.lasting / 2)
	ctx, end := context.WithTimeout(context.Background(), n.lasting)
	defer end()
	var attackers sync.WaitGroup
	var opened atomic.Int64
	addr := strings.SplitN(v.URL, "//", 2)[1]
	for range n.connections {
		attackers.Go(func() {
			a.run(ctx, &attacker{addr: addr, secure: n.secure, opened: &opened, cases: cases, pause: n.pause()})
		})
	}
	healthy := make(chan error, 1)
	go func() { healthy <- v.checkHealth(ctx) }()
	rest(ctx, n.lasting/8) // the connections are open
	failed := backend.failed.Load()
	beside := backend.work(n.lasting * 3 / 4)
	end()
	attackers.Wait()
	v.Logf("%s, TLS %t: %d connections; without it %s, with it %s", a.name, n.secure, opened.Load(), alone, beside)
	if err := <-healthy; err != nil {
		v.Errorf("%s: health: %v", a.name, err)
	}
	if failed = backend.failed.Load() - failed; failed > 0 {
		v.Errorf("%s: %d calls with a token failed", a.name, failed)
	}
	// The attackers use the same processors, and the machine may be busy with other work: the
	// allowance lets only stalls fail. The log has the figures.
	if limit := 3*alone.percentile(99) + allowance; beside.percentile(99) > limit {
		v.Errorf("%s: a client with a token waits for %s (p99), and for %s without the attack", a.name, beside.percentile(99), alone.percentile(99))
	}
	v.Count("connections", int(opened.Load()))
	v.Count("calls", len(beside))
}

// checkHealth checks health on new connections until the context ends. Every check must be
// answered with 200.
func (v *target) checkHealth(ctx context.Context) error {
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: v.TLS}}
	for ctx.Err() == nil {
		response, err := client.Get(v.URL + "/health")
		if err != nil && ctx.Err() == nil {
			// On a machine that is busy with other work, a connection may wait for a
			// processor longer than it may be without a request.
			response, err = client.Get(v.URL + "/health")
		}
		if err != nil {
			return fmt.Errorf("no answer: %w", err)
		}
		text, err := io.ReadAll(response.Body)
		_ = response.Body.Close()
		if err != nil || response.StatusCode != http.StatusOK || !bytes.Contains(text, []byte(`"ok"`)) {
			return fmt.Errorf("%d %s %w", response.StatusCode, text, err)
		}
		rest(ctx, 50*time.Millisecond)
	}
	return nil
}
