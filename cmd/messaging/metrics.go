package main

import (
	"fmt"
	"io"
	"runtime"
	"strconv"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/persist"
)

// commitMetrics are the metrics of commits.
type commitMetrics struct {
	changes, fsync *metrics.PrometheusHistogram
	messages       *metrics.PrometheusHistogram // the deprecated name of changes
	bytes          *metrics.Counter
}

func newCommitMetrics(set *metrics.Set) *commitMetrics {
	sizes := []float64{1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096, 16384}
	return &commitMetrics{
		changes:  set.NewPrometheusHistogramExt("messaging_commit_changes", sizes),
		messages: set.NewPrometheusHistogramExt("messaging_commit_messages", sizes),
		fsync: set.NewPrometheusHistogramExt("messaging_commit_fsync_seconds",
			[]float64{0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 10}),
		bytes: set.NewCounter("messaging_commit_bytes_total"),
	}
}

func (c *commitMetrics) observe(changes, bytes int, took time.Duration) {
	c.changes.Update(float64(changes))
	c.messages.Update(float64(changes))
	c.fsync.Update(took.Seconds())
	c.bytes.Add(bytes)
}

// exposition writes series in the text format of Prometheus, with the type of each name
// once. The series of a name must be written one after the other. (The library's own
// writers repeat the type for every series, which Prometheus refuses.)
type exposition struct {
	w    io.Writer
	name string
}

func (e *exposition) counter(name, labels string, value uint64) {
	e.write("counter", name, labels, float64(value))
}

func (e *exposition) gauge(name, labels string, value float64) { e.write("gauge", name, labels, value) }

func (e *exposition) write(kind, name, labels string, value float64) {
	if name != e.name {
		metrics.WriteMetadataIfNeeded(e.w, name, kind)
		e.name = name
	}
	fmt.Fprintf(e.w, "%s%s %s\n", name, labels, strconv.FormatFloat(value, 'f', -1, 64)) // to a buffer
}

// label returns the label of a series that has one.
func label(name, value string) string { return fmt.Sprintf("{%s=%q}", name, value) }

// buildLabels returns the version, revision and Go version of the build as labels.
func buildLabels() string {
	return fmt.Sprintf("{version=%q,revision=%q,goversion=%q}", version(), revision(), runtime.Version())
}

// writeMetrics writes the values that other parts count.
func (m *Main) writeMetrics(w io.Writer) {
	s, e := m.stats(), &exposition{w: w}
	e.gauge("messaging_build_info", buildLabels(), 1)
	e.counter("messaging_messages_accepted_total", "", s.Accepted)
	e.counter("messaging_messages_taken_total", "", s.Taken)
	e.counter("messaging_messages_persisted_total", "", s.Persisted)
	e.counter("messaging_messages_leased_total", "", s.Leased)
	e.counter("messaging_messages_acknowledged_total", "", s.Acknowledged)
	e.counter("messaging_messages_redelivered_total", "", s.Redelivered)
	e.counter("messaging_messages_evicted_total", "", s.Evicted)
	e.counter("messaging_messages_expired_total", "", s.Expired)
	e.counter("messaging_messages_cleared_total", "", s.Cleared)
	e.counter("messaging_duplicates_total", "", s.Duplicates)
	e.counter("messaging_messages_replayed_total", "", m.jobs.Replayed())
	e.counter("messaging_messages_redriven_total", "", m.jobs.Redriven())
	e.counter("messaging_messages_trimmed_total", "", s.TrimmedByAge)
	e.counter("messaging_messages_retained_out_total", "", s.TrimmedByAge)
	e.counter("messaging_messages_trimmed_early_total", "", s.TrimmedEarly)
	m.writeDrainMetrics(e, s)
	m.writeStoreMetrics(e, s)
}

func (m *Main) writeDrainMetrics(e *exposition, s messaging.Stats) {
	e.gauge("messaging_drain_lag_messages", "", float64(s.LagMessages))
	e.gauge("messaging_drain_lag_seconds", "", s.LagTime.Seconds())
	for _, kind := range []messaging.DeadLetterKind{messaging.Refused, messaging.Undeliverable} {
		e.gauge("messaging_dead_letters", label("kind", string(kind)), float64(m.engine.DeadLetters().Count(kind)))
	}
	failures := func(persist.Class) uint64 { return 0 }
	if m.drain != nil {
		failures = m.drain.Failures
	}
	for _, c := range persist.Classes() {
		e.counter("messaging_persist_failures_total", label("kind", c.String()), failures(c))
	}
	e.gauge("messaging_drain_stalled", "", oneIf(s.Drain == messaging.DrainWaiting))
	e.gauge("messaging_drain_waiting", "", oneIf(s.Drain == messaging.DrainWaiting))
	e.gauge("messaging_drain_off", "", oneIf(s.Drain == messaging.DrainOff))
}

func oneIf(is bool) float64 {
	if is {
		return 1
	}
	return 0
}

func (m *Main) writeStoreMetrics(e *exposition, s messaging.Stats) {
	free, _ := m.engine.Disk()
	store := m.store.Stats()
	e.gauge("messaging_queue_messages", "", float64(s.Queued))
	e.gauge("messaging_leases", "", float64(s.Leases))
	e.gauge("messaging_long_polls", "", float64(s.Waiting))
	e.gauge("messaging_waiting_readers", "", float64(s.Waiting))
	e.gauge("messaging_fanouts", "", float64(s.Fanouts))
	e.gauge("messaging_jobs_running", "", float64(m.jobs.Running()))
	e.gauge("messaging_disk_free_bytes", "", float64(free))
	e.gauge("messaging_oldest_snapshot_seconds", "", m.log.OldestSnapshot().Seconds())
	e.gauge("messaging_store_bytes", "", float64(store.Bytes))
	e.gauge("messaging_store_compaction_debt_bytes", "", float64(store.CompactionDebt))
	e.counter("messaging_store_cache_hits_total", "", store.CacheHits)
	e.counter("messaging_store_cache_misses_total", "", store.CacheMisses)
	e.gauge("messaging_store_memtable_bytes", "", float64(store.MemTableBytes))
	e.gauge("messaging_store_read_amplification", "", float64(store.ReadAmplification))
	e.counter("messaging_store_written_bytes_total", "", store.WrittenBytes)
	for i, level := range store.Levels {
		e.gauge("messaging_store_level_bytes", label("level", strconv.Itoa(i)), float64(level.Bytes))
	}
	for i, level := range store.Levels {
		e.gauge("messaging_store_level_files", label("level", strconv.Itoa(i)), float64(level.Files))
	}
}
