package main

import (
	"context"
	"log/slog"
	"syscall"
	"time"

	"github.com/stayafrica/messaging"
	rest "github.com/stayafrica/messaging/http"
	"github.com/stayafrica/messaging/storage"
)

// reportInterval is how often the log says how things go.
const reportInterval = time.Minute

// storageFiles is how many descriptors are kept for the store, the drain and
// whatever else is not a client's connection: running out of them inside the
// store would end the process.
const storageFiles = 1536

// logStart is the one line that says what was started.
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
		"took_ms", time.Since(began).Milliseconds())
	if len(c.Tokens) == 0 && !c.loopback() {
		m.Logger.WarnContext(ctx, "ALLOW_ANONYMOUS is set: everyone who can reach the port can read and send")
	}
}

// report writes one line a minute: rates, lag, totals.
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
		slog.Int64("queued", now.Queued), slog.Uint64("evicted", now.Evicted), slog.Uint64("retained_out", now.Retained),
		slog.Uint64("lag_messages", now.LagMessages), slog.Float64("lag_seconds", now.LagTime.Seconds()),
		slog.Uint64("disk_free_bytes", free))
}

// otherFiles is how many of those are not for the store's tables.
const otherFiles = storageFiles - storage.MaxOpenFiles

// fewestTables is how many tables the store keeps open at the least: with a
// limit so low that not even this leaves room for the rest, it is slow.
const fewestTables = 64

// tableLimit is how many tables the store may keep open. Where the limit on open
// files is low the connections have been lowered as far as they can be, and the
// store must not use what its write-ahead log needs: it ends the process when it
// cannot be rotated.
func tableLimit() int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return storage.MaxOpenFiles
	}
	have := int(min(limit.Cur, 1<<30)) - otherFiles - rest.HealthPlaces - fewestConnections
	return min(storage.MaxOpenFiles, max(fewestTables, have))
}

// fewestConnections is how many connections there may be whatever the limit.
const fewestConnections = 16

// connectionLimit lowers the number of connections to what the process may have
// descriptors for.
func connectionLimit(ctx context.Context, want int, logger *slog.Logger) int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return want
	}
	have := int(min(limit.Cur, 1<<30)) - storageFiles - rest.HealthPlaces
	if have >= want {
		return want
	}
	have = max(have, fewestConnections)
	logger.WarnContext(ctx, "the limit on open files is too low for MAX_CONNECTIONS: raise it (ulimit -n, LimitNOFILE)",
		"open_files", limit.Cur, "max_connections", want, "in_force", have)
	return have
}
