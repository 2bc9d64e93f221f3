package http

import (
	"cmp"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/julienschmidt/httprouter"

	"github.com/stayafrica/messaging"
)

// Queue is what is served. Errors are [*messaging.Error]s; any other is
// internal.
type Queue interface {
	// Busy says that a send would be refused; it is asked before a body is read.
	Busy() error
	Send(d messaging.Draft, o messaging.Once) (messaging.Receipt, error)
	SendAll(drafts []messaging.Draft, o messaging.Once) (messaging.Receipt, error)
	Broadcast(b messaging.Broadcast, o messaging.Once) (messaging.Receipt, error)
	Take(ctx context.Context, user messaging.UserID, o messaging.TakeOptions) (messaging.Handout, error)
	Peek(user messaging.UserID, limit int) ([]messaging.Message, error)
	Size(user messaging.UserID) (messaging.Counts, error)
	Clear(user messaging.UserID) (uint64, error)
	Acknowledge(user messaging.UserID, receipts []string) ([]messaging.Outcome, error)
	Reject(user messaging.UserID, receipts []string, delay time.Duration) ([]messaging.Outcome, error)
	Extend(user messaging.UserID, receipts []string, term time.Duration) ([]messaging.Outcome, error)
}

// DeadLetters is what was given up. ok is false for an id that is not there.
type DeadLetters interface {
	ListDeadLetters(f messaging.DeadLetterFilter) (messaging.DeadLetterPage, error)
	FindDeadLetter(id string) (letter messaging.DeadLetter, ok bool, err error)
	DropDeadLetter(id string) (ok bool, err error)
}

// Jobs is the work that goes on behind the calls. ok is false for an id that is
// not there.
type Jobs interface {
	Redrive(q messaging.RedriveRequest) (messaging.Job, error)
	Replay(q messaging.ReplayRequest) (messaging.Job, error)
	ListJobs() ([]messaging.Job, error)
	FindJob(id string) (job messaging.Job, ok bool, err error)
	CancelJob(id string) (job messaging.Job, ok bool, err error)
}

// Backend is what a server serves once it is there.
type Backend struct {
	Queue       Queue
	DeadLetters DeadLetters
	Jobs        Jobs
	Stats       func() messaging.Stats
	// DiskOK says whether sends are taken as far as the disk is concerned.
	DiskOK func() bool
}

// Token is one caller's secret. The name is for logs, the secret for no one.
type Token struct{ Name, Secret string }

// Config says whom a server lets in and how much it takes on. Zero values take
// the defaults named.
type Config struct {
	// Tokens opens every call but health; MetricsToken opens /metrics alone.
	Tokens       []Token
	MetricsToken string
	// AllowedHosts are the names under which the service may be called. Where it
	// is empty, LoopbackOnly allows the names of loopback and nothing else, and
	// without it any name is.
	AllowedHosts []string
	LoopbackOnly bool
	// MaxConnections (10,000) bounds connections, MaxInflightBytes (64 MiB) the
	// bodies being worked on, RequestTimeout (30 s) how long a request may take
	// to arrive and an answer to leave.
	MaxConnections   int
	MaxInflightBytes int64
	RequestTimeout   time.Duration
	// Metrics gets the server's own metrics and is what /metrics shows.
	Metrics *metrics.Set
	Logger  *slog.Logger
	// Now is the wall clock (default time.Now).
	Now func() time.Time
}

// Server serves the REST interface. Its methods are safe for concurrent use.
type Server struct {
	config   Config
	logger   *slog.Logger
	router   *httprouter.Router
	server   *http.Server
	access   access
	backend  atomic.Pointer[Backend]
	draining atomic.Bool
	places   *places
	inflight budget
	requests requestMetrics
	started  time.Time
}

// New prepares a server. It serves nothing before [Server.Serve], and only
// health before [Server.Open].
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
	s := &Server{
		config: config, logger: config.Logger, access: newAccess(&config),
		places: newPlaces(config.MaxConnections), started: config.Now(),
	}
	s.inflight.limit = config.MaxInflightBytes
	s.requests.set = config.Metrics
	s.router = s.routes()
	s.gauges()
	s.server = &http.Server{
		Handler: s,
		// OPTIONS * is refused like OPTIONS for a call, in our own words.
		DisableGeneralOptionsHandler: true,
		ReadHeaderTimeout:            min(10*time.Second, config.RequestTimeout),
		ReadTimeout:                  config.RequestTimeout,
		WriteTimeout:                 2 * config.RequestTimeout,
		IdleTimeout:                  2 * time.Minute,
		MaxHeaderBytes:               64 << 10,
		ConnState:                    s.places.state,
		ConnContext:                  s.places.context,
		ErrorLog:                     slog.NewLogLogger(levelDown{config.Logger.Handler()}, slog.LevelDebug),
	}
	return s
}

// levelDown writes what net/http has to say about connections at debug level:
// anyone can make it say much.
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
	set.NewGauge("messaging_http_connections", func() float64 { return float64(s.places.count()) })
	set.NewGauge("messaging_inflight_bytes", func() float64 { return float64(s.inflight.used.Load()) })
	set.NewGauge("messaging_http_requests_in_flight", func() float64 { return float64(s.requests.inFlight.Load()) })
}

// Open gives the server what it serves: from here on it is ready.
func (s *Server) Open(b Backend) { s.backend.Store(&b) }

// Drain turns readiness red; requests are still answered.
func (s *Server) Drain() { s.draining.Store(true) }

// Serve answers on a listener until [Server.Shutdown]; then it returns nil.
func (s *Server) Serve(l net.Listener) error {
	err := s.server.Serve(s.places.listener(l))
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// Shutdown closes the listener and waits for the requests that are being
// answered, until the context ends; then it closes their connections.
func (s *Server) Shutdown(ctx context.Context) error {
	s.draining.Store(true)
	s.server.SetKeepAlivesEnabled(false)
	if err := s.server.Shutdown(ctx); err != nil {
		return errors.Join(err, s.server.Close())
	}
	return nil
}

// Close cuts all connections off.
func (s *Server) Close() error { return s.server.Close() }

// open gives the backend, or the error that there is none yet.
func (s *Server) open() (*Backend, error) {
	b := s.backend.Load()
	if b == nil {
		err := messaging.Errorf(messaging.CodeNotReady, "the service is starting: try again in a second")
		err.RetryAfter = time.Second
		return nil, err
	}
	return b, nil
}

// writeMetrics writes the metrics in Prometheus' text format.
func (s *Server) writeMetrics(w io.Writer) {
	s.config.Metrics.WritePrometheus(w)
	metrics.WriteProcessMetrics(w)
}
