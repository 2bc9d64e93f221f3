package http

import (
	"log/slog"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/VictoriaMetrics/metrics"
)

// logins counts and logs failed logins, with at most one line a minute.
type logins struct {
	logger             *slog.Logger
	refused, throttled *metrics.Counter

	mu       sync.Mutex
	logged   time.Time
	unlogged int // failures after the last line
}

// loginPause is the shortest time between two lines about failed logins.
const loginPause = time.Minute

func newLogins(set *metrics.Set, logger *slog.Logger) *logins {
	return &logins{
		logger:    logger,
		refused:   set.NewCounter(`messaging_failed_logins_total{result="refused"}`),
		throttled: set.NewCounter(`messaging_failed_logins_total{result="throttled"}`),
	}
}

// failed records a failed login from an address.
func (l *logins) failed(addr netip.Addr, throttled bool) {
	if throttled {
		l.throttled.Inc()
	} else {
		l.refused.Inc()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	l.unlogged++
	if now.Sub(l.logged) < loginPause {
		return
	}
	l.logger.Warn("callers present wrong tokens", "failed", l.unlogged, "last_address", addr.String())
	l.logged, l.unlogged = now, 0
}

// address returns the address of the client of a request. It is invalid if that is not
// known.
func (s *Server) address(r *http.Request) netip.Addr {
	return s.config.TrustedProxies.Client(r.RemoteAddr, r.Header["X-Forwarded-For"])
}
