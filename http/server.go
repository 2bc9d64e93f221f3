package http

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/julienschmidt/httprouter"
	"golang.org/x/time/rate"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/auth"
	"github.com/stayafrica/messaging/limits"
)

// Queue is the queue service behind the interface. Its errors are [*messaging.Error]s;
// any other error is internal.
type Queue interface {
	// Busy returns an error if a send would be refused. It is called before a body is
	// read.
	Busy() error
	Send(d messaging.Draft, o messaging.IdempotencyKey) (messaging.SendResult, error)
	SendAll(drafts []messaging.Draft, o messaging.IdempotencyKey) (messaging.SendResult, error)
	Broadcast(b messaging.Broadcast, o messaging.IdempotencyKey) (messaging.SendResult, error)
	Take(ctx context.Context, user messaging.UserID, o messaging.TakeOptions) (messaging.Delivery, error)
	Peek(user messaging.UserID, limit int) ([]messaging.Message, error)
	Size(user messaging.UserID) (messaging.Counts, error)
	Clear(user messaging.UserID) (uint64, error)
	Acknowledge(user messaging.UserID, receipts []string) ([]messaging.Outcome, error)
	Nack(user messaging.UserID, receipts []string, delay time.Duration) ([]messaging.Outcome, error)
	Extend(user messaging.UserID, receipts []string, term time.Duration) ([]messaging.Outcome, error)
}

// DeadLetters is the store of dead letters. ok is false for an id that does not exist.
type DeadLetters interface {
	ListDeadLetters(f messaging.DeadLetterFilter) (messaging.DeadLetterPage, error)
	FindDeadLetter(id string) (letter messaging.DeadLetter, ok bool, err error)
	DropDeadLetter(id string) (ok bool, err error)
}

// Jobs are the background jobs. ok is false for an id that does not exist.
type Jobs interface {
	Redrive(q messaging.RedriveRequest) (messaging.Job, error)
	Replay(q messaging.ReplayRequest) (messaging.Job, error)
	ListJobs() ([]messaging.Job, error)
	FindJob(id string) (job messaging.Job, ok bool, err error)
	CancelJob(id string) (job messaging.Job, ok bool, err error)
}

// Backend holds the services that a server serves after [Server.Open].
type Backend struct {
	Queue       Queue
	DeadLetters DeadLetters
	Jobs        Jobs
	Stats       func() messaging.Stats
	// DiskOK reports whether the disk has space for sends.
	DiskOK func() bool
}

// Config is the access control and the limits of a server. A zero value selects the
// default in parentheses.
type Config struct {
	// Access decides who may call (default everyone). Health needs no token.
	Access *auth.Access
	// TrustedProxies are the proxies whose X-Forwarded-For names the client.
	TrustedProxies auth.Proxies
	// Audit is called for each entry of the audit log, concurrently; nil for none.
	// AuditMessages adds sends and reads.
	Audit         func(AuditEvent)
	AuditMessages bool
	// TLS is the configuration of TLS; nil serves plain HTTP.
	TLS *tls.Config
	// MaxUnauthenticated (a tenth of MaxConnections) is the limit of connections without
	// an accepted request, if calls need a token. Above it the oldest are closed.
	MaxUnauthenticated int
	// MaxConnections (10,000) is the limit of connections, MaxInflightBytes (64 MiB)
	// the limit of memory of requests in progress, and RequestTimeout (30 s) the
	// longest time for a request to arrive and for a response to leave.
	MaxConnections   int
	MaxInflightBytes int64
	RequestTimeout   time.Duration
	// Metrics is the set that /metrics writes; the server adds its own metrics to it.
	Metrics *metrics.Set
	// MetricHelp returns the help of a metric in /metrics; without it metrics have
	// none.
	MetricHelp func(name string) string
	Logger     *slog.Logger
	// Now is the wall clock (default time.Now).
	Now func() time.Time
}

// Server serves the REST interface. Its methods are safe for concurrent use.
type Server struct {
	config   Config
	logger   *slog.Logger
	router   *httprouter.Router
	server   *http.Server
	access   *auth.Access
	callers  *limits.Callers
	failures *limits.Failures
	logins   *logins
	// auditedLogins bounds the failed logins in the audit log.
	auditedLogins *rate.Limiter
	ids           *requestIDs
	backend       atomic.Pointer[Backend]
	draining      atomic.Bool
	limiter       *connLimiter
	inflight      *limits.Budget
	requests      requestMetrics
	started       time.Time
}

// New returns a server. It accepts no connections before [Server.Serve]. Before
// [Server.Open], every call that needs the backend returns not_ready.
func New(config Config) *Server {
	config.MaxConnections = cmp.Or(config.MaxConnections, 10_000)
	config.MaxInflightBytes = cmp.Or(config.MaxInflightBytes, 64<<20)
	config.RequestTimeout = cmp.Or(config.RequestTimeout, 30*time.Second)
	if config.Metrics == nil {
		config.Metrics = metrics.NewSet()
	}
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	if config.Now == nil {
		config.Now = time.Now
	}
	if config.Access == nil {
		config.Access = auth.New(auth.Config{})
	}
	s := &Server{
		config: config, logger: config.Logger, access: config.Access, callers: limits.NewCallers(),
		failures: limits.NewFailures(failedLogins, failedLoginWindow, nil), logins: newLogins(config.Metrics, config.Logger),
		auditedLogins: newLoginLimiter(), ids: newRequestIDs(),
		limiter: newConnLimiter(config.MaxConnections, maxUnauthenticated(config), config.Logger), started: config.Now(),
	}
	s.inflight = limits.NewBudget(config.MaxInflightBytes)
	s.requests.set = config.Metrics
	s.router = s.routes()
	s.gauges()
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true) // HTTP/2: docs/adr/0008
	s.server = &http.Server{
		Handler: s,
		// The server refuses OPTIONS * itself, like OPTIONS for a call.
		DisableGeneralOptionsHandler: true,
		ReadHeaderTimeout:            min(10*time.Second, config.RequestTimeout),
		ReadTimeout:                  config.RequestTimeout,
		WriteTimeout:                 2 * config.RequestTimeout,
		IdleTimeout:                  2 * time.Minute,
		MaxHeaderBytes:               64 << 10,
		ConnState:                    s.limiter.state,
		ConnContext:                  s.limiter.context,
		Protocols:                    protocols,
		ErrorLog:                     slog.NewLogLogger(levelDown{config.Logger.Handler()}, slog.LevelDebug),
	}
	return s
}

// maxUnauthenticated returns the limit of unauthenticated connections; 0 for none.
func maxUnauthenticated(config Config) int {
	if !config.Access.Closed() {
		return 0
	}
	return cmp.Or(config.MaxUnauthenticated, max(1, config.MaxConnections/10))
}

// levelDown writes the log of net/http at debug level, because any client can cause many
// entries.
type levelDown struct{ slog.Handler }

// Handle implements [slog.Handler].
func (h levelDown) Handle(ctx context.Context, r slog.Record) error {
	r.Level = slog.LevelDebug
	if !h.Enabled(ctx, r.Level) {
		return nil
	}
	return h.Handler.Handle(ctx, r)
}

func (s *Server) gauges() {
	set := s.config.Metrics
	set.NewGauge("messaging_http_connections", func() float64 { return float64(s.limiter.count()) })
	set.NewGauge("messaging_http_unauthenticated_connections", func() float64 { return float64(s.limiter.unauthenticated()) })
	set.NewGauge("messaging_inflight_bytes", func() float64 { return float64(s.inflight.Used()) })
	set.NewGauge("messaging_http_requests_in_flight", func() float64 { return float64(s.requests.inFlight.Load()) })
}

// Open sets the backend. The server is ready after that.
func (s *Server) Open(b Backend) { s.backend.Store(&b) }

// Drain makes the server not ready; it still serves requests.
func (s *Server) Drain() { s.draining.Store(true) }

// Serve serves requests on a listener until [Server.Shutdown]; then it returns nil.
func (s *Server) Serve(l net.Listener) error {
	l = s.limiter.listener(l, s.config.TLS != nil)
	if s.config.TLS != nil {
		l = tls.NewListener(l, s.config.TLS)
	}
	err := s.server.Serve(l)
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// Shutdown closes the listener and waits for the requests in progress. If the context
// ends first, it closes their connections.
func (s *Server) Shutdown(ctx context.Context) error {
	s.draining.Store(true)
	s.server.SetKeepAlivesEnabled(false)
	if err := s.server.Shutdown(ctx); err != nil {
		return errors.Join(err, s.server.Close())
	}
	return nil
}

// Close closes the listener and all connections at once.
func (s *Server) Close() error { return s.server.Close() }

// open returns the backend, or a not_ready error if there is none yet.
func (s *Server) open() (*Backend, error) {
	b := s.backend.Load()
	if b == nil {
		err := messaging.Errorf(messaging.CodeNotReady, "the service is starting: try again in a second")
		err.RetryAfter = time.Second
		return nil, err
	}
	return b, nil
}

// writeMetrics writes the metrics in Prometheus' text format, with their help.
func (s *Server) writeMetrics(w io.Writer) {
	if s.config.MetricHelp == nil {
		s.config.Metrics.WritePrometheus(w)
		metrics.WriteProcessMetrics(w)
		return
	}
	var text bytes.Buffer
	s.config.Metrics.WritePrometheus(&text)
	metrics.WriteProcessMetrics(&text)
	writeWithHelp(w, text.Bytes(), s.config.MetricHelp)
}
