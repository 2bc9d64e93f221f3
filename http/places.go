package http

import (
	"container/list"
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
	idle  *list.List // of net.Conn, longest idle first
	where map[net.Conn]*list.Element
	freed chan struct{} // closed and replaced when a connection ends
}

func newPlaces(limit int) *places {
	return &places{
		max: limit, slots: make(chan struct{}, limit+HealthPlaces),
		idle: list.New(), where: make(map[net.Conn]*list.Element), freed: make(chan struct{}),
	}
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
	conn, err := l.Listener.Accept()
	if err != nil {
		<-l.places.slots
	}
	return conn, err
}

// Close ends a waiting Accept too.
func (l *boundedListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

// state follows the connections of the server.
func (p *places) state(conn net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		p.opened()
	case http.StateActive:
		p.mu.Lock()
		p.busyLocked(conn)
		p.mu.Unlock()
	case http.StateIdle:
		p.mu.Lock()
		p.where[conn] = p.idle.PushBack(conn)
		p.mu.Unlock()
	case http.StateClosed, http.StateHijacked:
		p.ended(conn)
	}
}

func (p *places) busyLocked(conn net.Conn) {
	if e := p.where[conn]; e != nil {
		p.idle.Remove(e)
		delete(p.where, conn)
	}
}

// opened counts a new connection and closes the longest idle ones near the
// limit.
func (p *places) opened() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.open++
	for range idleCloses {
		e := p.idle.Front()
		if p.open <= p.near() || e == nil {
			return
		}
		conn, _ := e.Value.(net.Conn)
		p.busyLocked(conn)
		go func() { _ = conn.Close() }() // the server notices and ends it
	}
}

func (p *places) ended(conn net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.busyLocked(conn)
	p.open--
	close(p.freed)
	p.freed = make(chan struct{})
	<-p.slots
}

// reserved marks the context of a connection that came over the limit.
type reserved struct{}

// context notes on a connection whether it has an ordinary place.
func (p *places) context(ctx context.Context, _ net.Conn) context.Context {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.open >= p.max {
		return context.WithValue(ctx, reserved{}, true)
	}
	return ctx
}

// admit lets a request on an ordinary place pass; one on a health place waits
// until there are fewer connections than places.
func (p *places) admit(r *http.Request) error {
	if r.Context().Value(reserved{}) == nil || strings.HasPrefix(r.URL.Path, "/health") {
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
