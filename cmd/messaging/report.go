package main

import (
	"context"
	"log/slog"
	"time"

	"github.com/stayafrica/messaging"
)

// reportInterval is the interval of the statistics in the log.
const reportInterval = time.Minute

// logStart logs the start, and a warning if anonymous callers are allowed.
func (m *Main) logStart(ctx context.Context, began time.Time) {
	c := &m.Config
	meta := m.store.Meta()
	backend := "off"
	if c.DjangoURL != "" {
		backend = redacted(c.DjangoURL) + c.DjangoPath
	}
	m.Logger.InfoContext(ctx, "ready",
		"version", version(), "address", m.listener.Addr().String(), "data_dir", c.DataDir, "backend", backend,
		"recovered_sequence", meta.Last, "recovered_queued", meta.Queued, "generation", meta.Generation,
		"took_seconds", time.Since(began).Seconds())
	m.logBacklog(ctx)
	if !c.Access.isClosed() && !c.loopback() {
		m.Logger.WarnContext(ctx, "ALLOW_ANONYMOUS is set: everyone who can reach the port can read and send")
	}
}

// report logs rates, lag and totals, one line per minute.
func (m *Main) report(ctx context.Context) error {
	ticker := time.NewTicker(reportInterval)
	defer ticker.Stop()
	before := m.stats()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		now := m.stats()
		m.logStats(ctx, before, now)
		before = now
	}
}

func (m *Main) logStats(ctx context.Context, before, now messaging.Stats) {
	rate := func(from, to uint64) float64 { return float64(to-from) / reportInterval.Seconds() }
	free, _ := m.engine.Disk()
	m.Logger.InfoContext(ctx, "stats",
		slog.Float64("accepted_per_second", rate(before.Accepted, now.Accepted)),
		slog.Float64("taken_per_second", rate(before.Taken, now.Taken)),
		slog.Float64("persisted_per_second", rate(before.Persisted, now.Persisted)),
		slog.Uint64("accepted", now.Accepted), slog.Uint64("taken", now.Taken), slog.Uint64("persisted", now.Persisted),
		slog.Uint64("persist_failures", now.Refused), slog.Uint64("persist_errors", now.Unreached),
		slog.Int64("queued", now.Queued), slog.Uint64("evicted", now.Evicted), slog.Uint64("trimmed", now.TrimmedByAge),
		slog.Uint64("lag_messages", now.LagMessages), slog.Float64("lag_seconds", now.LagTime.Seconds()),
		slog.Uint64("disk_free_bytes", free))
}
