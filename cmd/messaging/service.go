package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"strconv"
	"syscall"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/engine"
	rest "github.com/stayafrica/messaging/http"
	"github.com/stayafrica/messaging/persist"
	"github.com/stayafrica/messaging/storage"
	"github.com/stayafrica/messaging/wal"
)

// Main is the whole service. It starts the listener, storage, log, engine and drain in
// this order, and stops them in the reverse order.
//
// Storage, log and engine are the core: if the core fails, the process ends. The services
// around it are supervised.
type Main struct {
	Config Config
	Logger *slog.Logger
	// Fatal ends the process after a failure of the disk. It must not return.
	Fatal func(error)
	// Faults is empty, except in the negative control of a test.
	Faults Faults
	// Listening is called with the address when the listener is open, Ready when
	// everything is recovered. Both may be nil.
	Listening func(addr net.Addr)
	Ready     func()

	// Hangups receives each SIGHUP; nil for none.
	Hangups <-chan struct{}

	access    *access
	endAccess context.CancelFunc
	audit     *auditLog
	metrics   *metrics.Set
	commits   *commitMetrics
	server    *rest.Server
	files     openFiles
	listener  net.Listener
	store     *storage.Store
	log       *wal.Log
	engine    *engine.Engine
	// recovered is the backlog when the store was opened.
	recovered backlog
	oldest    oldestPlace
	drain     *persist.Drain // nil when the drain is off
	django    *persist.Django
	jobs      *persist.Jobs
	evidence  persist.Evidence // of the backend; the drain and the jobs share it
	// graceOver ends with the shutdown grace, and ends the requests to the backend.
	graceOver context.Context
}

// Run serves until ctx ends, and then stops in order. force outlives ctx. When force
// ends, every grace period ends at once.
func (m *Main) Run(ctx, force context.Context) error {
	began := time.Now()
	graceOver, endGrace := context.WithCancel(force)
	defer endGrace()
	m.graceOver = graceOver
	metrics.ExposeMetadata(true) // the library has no switch for one set
	m.metrics = metrics.NewSet()
	m.commits = newCommitMetrics(m.metrics)
	serving, err := m.listen(ctx)
	if err != nil {
		return err
	}
	supervisor := newSupervisor(m.Logger)
	err = m.open(supervisor)
	if err != nil {
		return errors.Join(err, m.server.Close(), <-serving, m.close())
	}
	m.logStart(ctx, began)
	debug.FreeOSMemory() // recovery's memory is not needed again, and collections are rare (gcPercent)

	// The services outlive ctx: they stop after the listener.
	services, stopServices := context.WithCancel(context.WithoutCancel(ctx))
	defer stopServices()
	supervised := make(chan error, 1)
	go func() { supervised <- supervisor.serve(services) }()

	var failure error
	select {
	case <-ctx.Done():
	case failure = <-serving:
	case failure = <-supervised:
		supervised <- nil
	}
	grace, cancel := m.grace(force)
	defer cancel()
	context.AfterFunc(grace, endGrace)
	return errors.Join(failure, m.stop(grace, serving, func() error {
		stopServices()
		return <-supervised
	}))
}

// listen opens the listener. The server reports that it is not ready until it is opened.
// The channel receives the error with which the server ends.
func (m *Main) listen(ctx context.Context) (<-chan error, error) {
	c := &m.Config
	var err error
	if m.files, err = limitOpenFiles(ctx, c.MaxConnections, m.Logger); err != nil {
		return nil, err
	}
	config := rest.Config{
		TrustedProxies: c.Access.TrustedProxies, AuditMessages: c.Access.AuditMessages,
		MaxConnections: m.files.connections, MaxUnauthenticated: c.MaxUnauthenticated, MaxInflightBytes: c.MaxInflight,
		RequestTimeout: c.RequestTimeout, Metrics: m.metrics, MetricHelp: helpOf, Logger: m.Logger,
	}
	if err = m.openAccess(ctx, &config); err != nil {
		return nil, err
	}
	m.server = rest.New(config) //nolint:contextcheck // requests bring their own contexts
	address := net.JoinHostPort(c.Addr, strconv.Itoa(c.Port))
	m.listener, err = new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, listenFault(c, address, err)
	}
	if m.Listening != nil {
		m.Listening(m.listener.Addr())
	}
	serving := make(chan error, 1)
	go func() { serving <- m.server.Serve(m.listener) }()
	return serving, nil
}

// openAccess opens the audit log and the access control, and adds them to the
// configuration of the server.
func (m *Main) openAccess(ctx context.Context, config *rest.Config) (err error) {
	c := &m.Config
	if m.audit, err = openAuditLog(c.Access.AuditLog, os.Stderr, m.Logger); err != nil {
		return err
	}
	// Calls are checked until the listener is closed, so the key set outlives ctx.
	keys, end := context.WithCancel(context.WithoutCancel(ctx))
	if m.access, err = openAccess(keys, c, m.audit, m.Logger); err != nil {
		end()
		return errors.Join(err, m.audit.Close())
	}
	m.endAccess = end
	m.access.warn(ctx)
	config.Access = m.access.control
	if m.audit != nil {
		config.Audit = m.audit.record
	}
	if m.access.tls != nil {
		config.TLS = m.access.tls.server()
	}
	return nil
}

// reloads returns the service that loads files again.
func (m *Main) reloads() *reloader {
	r := &reloader{logger: m.Logger, hangups: m.Hangups, audit: m.audit}
	m.access.watch(r)
	return r
}

// listenFault returns an error that states why the service cannot listen on an address,
// and which setting to change.
func listenFault(c *Config, address string, err error) error {
	_, unknown := errors.AsType[*net.DNSError](err)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return errors.Join(storage.InUse(c.DataDir), fmt.Errorf("the address %s is in use: stop the process that uses it, or set HTTP_PORT", address))
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return usagef("HTTP_ADDR %q must be an address of this machine, such as 127.0.0.1, or 0.0.0.0 for all of them", c.Addr)
	case errors.Is(err, syscall.EACCES):
		return usagef("HTTP_PORT %d cannot be listened on: this user has no permission; set one from 1024", c.Port)
	case unknown:
		return usagef("HTTP_ADDR %q must be an address of this machine: the name is not known", c.Addr)
	}
	return fmt.Errorf("the address %s cannot be listened on (see HTTP_ADDR and HTTP_PORT): %w", address, err)
}

// open recovers the core and prepares the services around it.
func (m *Main) open(supervisor *supervisor) error {
	c := &m.Config
	var err error
	if m.store, err = storage.Open(storage.Config{
		Dir: c.DataDir, MaxOpenFiles: m.files.tables, MinFree: uint64(c.DiskMinFree), //nolint:gosec // not negative
		Fatal: m.Fatal, NoSync: m.Faults.NoSync, Logger: m.Logger,
	}); err != nil {
		return err
	}
	if m.log, err = wal.Open(wal.Config{Store: m.store, CacheBytes: int(c.CacheBytes), Observe: m.commits.observe, Early: m.Faults.Early}); err != nil {
		return err
	}
	config := engine.Config{
		Store: m.store, Log: m.log, QueueMax: c.QueueMax, Retention: c.Retention, Logger: m.Logger,
		IdempotencyWindow: c.IdempotencyWindow, MaxDeliveries: uint32(c.MaxDeliveries), Weights: c.Weights, //nolint:gosec // at most a million
		DeadLetterRetention: c.DeadLetterRetention, MaxLeased: c.MaxLeased, RetryBackoff: c.RetryBackoff,
		Held:    func(end uint64) uint64 { return m.jobs.Keep(end) },
		MinFree: uint64(c.DiskMinFree), Free: func() (uint64, error) { return storage.Free(c.DataDir) }, //nolint:gosec // not negative
	}
	if c.DjangoURL != "" {
		config.DrainPosition = func() messaging.Position { return m.drain.Position() }
	}
	if m.engine, err = engine.Open(config); err != nil {
		return err
	}
	if err = m.openDrain(); err != nil {
		return err
	}
	if m.drain != nil {
		supervisor.add("drain", m.drain.Run)
	}
	if err = m.engine.MeasureDisk(); err != nil {
		return err
	}
	if err = m.openJobs(); err != nil {
		return err
	}
	supervisor.add("jobs", m.jobs.Run)
	for _, service := range m.engine.Services() {
		supervisor.add(service.Name, service.Run)
	}
	supervisor.add("progress", m.checkpointLoop)
	supervisor.add("reporter", m.report)
	supervisor.add("reloader", m.reloads().Run)
	m.metrics.RegisterMetricsWriter(m.writeMetrics)
	m.server.Open(rest.Backend{
		Queue: m.engine, DeadLetters: m.engine.DeadLetters(), Jobs: m.jobs, Stats: m.stats,
		DiskOK: func() bool { _, ok := m.engine.Disk(); return ok },
	})
	if m.Ready != nil {
		m.Ready()
	}
	return nil
}

// openJobs creates the jobs. Redrives and replays that a stop interrupted continue.
func (m *Main) openJobs() (err error) {
	c := &m.Config
	config := persist.JobsConfig{
		Store: m.engine.DeadLetters(), History: m.log, Evidence: &m.evidence, DeadLetters: m.engine.DeadLetters(), Letters: m.engine.DeadLetters(),
		BatchSize: c.BatchSize, BatchBytes: int(c.BatchBytes), MaxAttempts: c.MaxAttempts, MaxBackoff: c.MaxBackoff, Logger: m.Logger,
	}
	if m.django != nil {
		config.Sink = m.django
	}
	m.jobs, err = persist.NewJobs(config)
	return err
}

// openDrain reads the backlog and creates the drain, unless the backend is off.
func (m *Main) openDrain() (err error) {
	c := &m.Config
	if err = m.openBacklog(); err != nil || c.DjangoURL == "" {
		return err
	}
	header := c.DjangoHeaders.Clone()
	if header == nil {
		header = make(http.Header)
	}
	if c.DjangoSecret != "" {
		header.Set("X-Erlang-Secret", c.DjangoSecret)
	}
	if c.DjangoToken != "" {
		header.Set("Authorization", c.DjangoScheme+" "+c.DjangoToken)
	}
	backendTLS, err := c.Access.djangoTLS()
	if err != nil {
		return err
	}
	m.django = persist.NewDjango(persist.DjangoConfig{
		TLS: backendTLS,
		URL: c.DjangoURL + c.DjangoPath, Header: header, SigningKeys: c.SigningKeys, Timeout: c.PersistTimeout, Connections: c.Concurrency,
		Duplicate: c.DuplicatePattern, Permanent: c.PermanentPattern, Trust2xx: c.Trust2xx,
	})
	m.drain, err = persist.New(persist.Config{
		Evidence: &m.evidence,
		Source:   m.log, Store: m.engine.DeadLetters(), Sink: deadlineSink{m.django, m.graceOver}, BatchSize: c.BatchSize, BatchBytes: int(c.BatchBytes),
		Linger: c.Linger, Concurrency: c.Concurrency, MaxAttempts: c.MaxAttempts, MaxBackoff: c.MaxBackoff,
		Grace: c.ShutdownGrace, Logger: m.Logger,
	})
	return err
}

// close closes what is open, in reverse order.
func (m *Main) close() error {
	var errs []error
	if m.django != nil {
		m.django.Close()
	}
	if m.store != nil {
		m.store.StopWaiting()
	}
	if m.log != nil {
		errs = append(errs, m.log.Close(), m.saveWatermark())
	}
	if m.store != nil {
		errs = append(errs, m.store.Close())
	}
	m.endAccess()
	errs = append(errs, m.audit.Close())
	return errors.Join(errs...)
}

// stats returns the statistics of the engine and the drain.
func (m *Main) stats() messaging.Stats {
	s := m.engine.Stats()
	m.drainStats(&s)
	return s
}
