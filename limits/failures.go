package limits

import (
	"net/netip"
	"sync"
	"time"
)

// Failures counts the failed logins of each address. It is safe for concurrent use.
//
// The first failure of an address opens its window. When the window has its limit of
// failures, further ones are throttled until it closes. Only failures are throttled: a
// caller with a valid token passes, also from an address that is throttled, because many
// callers may share an address.
//
// Addresses of IPv6 count by their /64 network, because one host usually has all of it.
// At most maxWindows addresses are kept; a new one replaces the oldest.
type Failures struct {
	limit  int
	window time.Duration
	now    func() time.Time

	mu      sync.Mutex
	windows map[netip.Prefix]*failureWindow
	opened  []*failureWindow // a queue, in the order in which the windows were opened
}

type failureWindow struct {
	of       netip.Prefix
	begin    time.Time
	failures int
}

// maxWindows bounds the memory of Failures: a few MiB.
const maxWindows = 1 << 15

// NewFailures returns a counter that allows limit failures of an address in each window.
// now is the clock; nil is time.Now.
func NewFailures(limit int, window time.Duration, now func() time.Time) *Failures {
	if now == nil {
		now = time.Now
	}
	return &Failures{limit: limit, window: window, now: now, windows: make(map[netip.Prefix]*failureWindow)}
}

// Fail records a failure of an address. If the address is over its limit, throttled is
// true and wait is the time until its window closes.
func (f *Failures) Fail(addr netip.Addr) (wait time.Duration, throttled bool) {
	network := networkOf(addr)
	now := f.now()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.dropLocked(now)
	w := f.windows[network]
	if w == nil {
		w = &failureWindow{of: network, begin: now}
		f.windows[network] = w
		f.opened = append(f.opened, w)
	}
	w.failures++
	return w.begin.Add(f.window).Sub(now), w.failures > f.limit
}

// dropLocked removes the windows that are closed, and the oldest if there are too many.
func (f *Failures) dropLocked(now time.Time) {
	n := 0
	for n < len(f.opened) && (now.Sub(f.opened[n].begin) >= f.window || len(f.opened)-n >= maxWindows) {
		delete(f.windows, f.opened[n].of)
		f.opened[n] = nil
		n++
	}
	f.opened = f.opened[n:]
}

// Addresses returns the number of addresses with an open window.
func (f *Failures) Addresses() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.dropLocked(f.now())
	return len(f.windows)
}

// networkOf returns the network under which an address is counted.
func networkOf(addr netip.Addr) netip.Prefix {
	addr = addr.Unmap().WithZone("")
	bits := 32
	if addr.Is6() {
		bits = 64
	}
	network, _ := addr.Prefix(bits) // of an invalid address: the zero prefix
	return network
}
