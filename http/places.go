package http

import (
	"context"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/stayafrica/messaging"
)

const (
	// HealthPlaces are kept beyond the limit, so that health is answered when
	// all others are taken.
	HealthPlaces = 64
	// placeWait is how long a request on a connection over the limit waits for
	// an ordinary place.
	placeWait = 5 * time.Second
	// idleCloses bounds how many idle connections one new one may cost.
	idleCloses = 2
)

// places bounds connections. Near the limit the longest idle ones are closed;
// over it a connection's first request waits for one to end; and when the
// health places are taken too, the kernel keeps what comes.
type places struct {
	max   int
	slots chan struct{}

	mu    sync.Mutex
	open  int
	idle  conn          // the ring of idle ones: idle.next is so for longest
	freed chan struct{} // closed and replaced when a connection ends
}

func newPlaces(limit int) *places {
	p := &places{max: limit, slots: make(chan struct{}, limit+HealthPlaces), freed: make(chan struct{})}
	p.idle.prev, p.idle.next = &p.idle, &p.idle
	return p
}

func (p *places) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.open
}

// near is how many connections there may be before idle ones have to go.
func (p *places) near() int { return p.max - p.max/32 }

// listener bounds what a listener accepts.
func (p *places) listener(l net.Listener) net.Listener {
	return &boundedListener{Listener: l, places: p, closed: make(chan struct{})}
}

type boundedListener struct {
	net.Listener
	places *places
	once   sync.Once
	closed chan struct{}
}

// Accept waits for a slot before it takes a connection from the kernel.
func (l *boundedListener) Accept() (net.Conn, error) {
	select {
	case l.places.slots <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	accepted, err := l.Listener.Accept()
	if err != nil {
		<-l.places.slots
		return nil, err
	}
	return newConn(accepted), nil
}

// Close ends a waiting Accept too.
func (l *boundedListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

// state follows the connections of the server.
func (p *places) state(of net.Conn, state http.ConnState) {
	c, ok := of.(*conn)
	if !ok {
		return // of another listener than [places.listener]
	}
	switch state {
	case http.StateNew:
		p.opened()
	case http.StateActive:
		p.mu.Lock()
		c.unlink()
		p.mu.Unlock()
	case http.StateIdle:
		c.unwatched.Store(false)
		p.mu.Lock()
		c.link(&p.idle)
		p.mu.Unlock()
	case http.StateClosed, http.StateHijacked:
		p.ended(c)
	}
}

// opened counts a new connection and closes the longest idle ones near the
// limit.
func (p *places) opened() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.open++
	for range idleCloses {
		c := p.idle.next
		if p.open <= p.near() || c == &p.idle {
			return
		}
		c.unlink()
		go func() { _ = c.Close() }() // the server notices and ends it
	}
}

func (p *places) ended(c *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c.unlink()
	p.open--
	close(p.freed)
	p.freed = make(chan struct{})
	<-p.slots
}

// context hands a connection to its requests, and notes on it whether it came
// over the limit.
func (p *places) context(ctx context.Context, of net.Conn) context.Context {
	c, ok := of.(*conn)
	if !ok {
		return ctx
	}
	p.mu.Lock()
	c.reserved = p.open >= p.max
	p.mu.Unlock()
	return context.WithValue(ctx, connKey{}, c)
}

// admit lets a request on an ordinary place pass; one on a health place waits
// until there are fewer connections than places.
func (p *places) admit(r *http.Request) error {
	if c := connOf(r); c == nil || !c.reserved || strings.HasPrefix(r.URL.Path, "/health") {
		return nil
	}
	timeout := time.NewTimer(placeWait)
	defer timeout.Stop()
	for {
		p.mu.Lock()
		ok, freed := p.open <= p.max, p.freed
		p.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-freed:
		case <-r.Context().Done():
			return messaging.Errorf(messaging.CodeOverloaded, "the caller has gone")
		case <-timeout.C:
			err := messaging.Errorf(messaging.CodeOverloaded, "all connections are taken: try again in a second")
			err.RetryAfter = time.Second
			return err
		}
	}
}
