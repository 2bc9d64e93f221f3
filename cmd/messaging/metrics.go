package main

import (
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/stayafrica/messaging"
	"github.com/stayafrica/messaging/persist"
)

// commitMetrics are the measures of the commit point.
type commitMetrics struct {
	changes, fsync *metrics.PrometheusHistogram
	bytes          *metrics.Counter
}

func newCommitMetrics(set *metrics.Set) *commitMetrics {
	return &commitMetrics{
		changes: set.NewPrometheusHistogramExt("messaging_commit_messages", []float64{1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096, 16384}),
		fsync: set.NewPrometheusHistogramExt("messaging_commit_fsync_seconds",
			[]float64{0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 10}),
		bytes: set.NewCounter("messaging_commit_bytes_total"),
	}
}

func (c *commitMetrics) observe(changes, bytes int, took time.Duration) {
	c.changes.Update(float64(changes))
	c.fsync.Update(took.Seconds())
	c.bytes.Add(bytes)
}

// writeMetrics writes what other parts count already.
func (m *Main) writeMetrics(w io.Writer) {
	s := m.stats()
	for _, c := range []struct {
		name  string
		value uint64
	}{
		{"messaging_messages_accepted_total", s.Accepted},
		{"messaging_messages_taken_total", s.Taken},
		{"messaging_messages_persisted_total", s.Persisted},
		{"messaging_messages_leased_total", s.Leased},
		{"messaging_messages_acknowledged_total", s.Acknowledged},
		{"messaging_messages_redelivered_total", s.Redelivered},
		{"messaging_messages_evicted_total", s.Evicted},
		{"messaging_messages_expired_total", s.Expired},
		{"messaging_messages_cleared_total", s.Cleared},
		{"messaging_duplicates_total", s.Duplicates},
		{"messaging_messages_replayed_total", m.jobs.Replayed()},
		{"messaging_messages_redriven_total", m.jobs.Redriven()},
		{"messaging_messages_retained_out_total", s.Retained},
	} {
		metrics.WriteCounterUint64(w, c.name, c.value)
	}
	m.writeDrainMetrics(w, s)
	m.writeStoreMetrics(w, s)
}

func (m *Main) writeDrainMetrics(w io.Writer, s messaging.Stats) {
	metrics.WriteGaugeUint64(w, "messaging_drain_lag_messages", s.LagMessages)
	metrics.WriteGaugeFloat64(w, "messaging_drain_lag_seconds", s.LagTime.Seconds())
	for _, kind := range []messaging.DeadLetterKind{messaging.Refused, messaging.Undeliverable} {
		metrics.WriteGaugeUint64(w, fmt.Sprintf("messaging_dead_letters{kind=%q}", kind), m.store.Control().DeadLetters(kind))
	}
	if m.drain == nil {
		return
	}
	for _, v := range persist.Verdicts() {
		metrics.WriteCounterUint64(w, fmt.Sprintf("messaging_persist_failures_total{kind=%q}", v), m.drain.Failures(v))
	}
	waiting := uint64(0)
	if m.drain.Waiting() {
		waiting = 1
	}
	metrics.WriteGaugeUint64(w, "messaging_drain_waiting", waiting)
}

func (m *Main) writeStoreMetrics(w io.Writer, s messaging.Stats) {
	free, _ := m.engine.Disk()
	store := m.store.Stats()
	metrics.WriteGaugeFloat64(w, "messaging_queue_messages", float64(s.Queued))
	metrics.WriteGaugeFloat64(w, "messaging_leases", float64(s.Leases))
	metrics.WriteGaugeFloat64(w, "messaging_waiting_readers", float64(s.Waiting))
	metrics.WriteGaugeFloat64(w, "messaging_jobs_running", float64(m.jobs.Running()))
	metrics.WriteGaugeUint64(w, "messaging_disk_free_bytes", free)
	metrics.WriteGaugeUint64(w, "messaging_store_bytes", store.Bytes)
	metrics.WriteGaugeUint64(w, "messaging_store_compaction_debt_bytes", store.CompactionDebt)
	metrics.WriteGaugeUint64(w, "messaging_store_memtable_bytes", store.MemTableBytes)
	metrics.WriteGaugeFloat64(w, "messaging_store_read_amplification", float64(store.ReadAmplification))
	metrics.WriteCounterUint64(w, "messaging_store_written_bytes_total", store.WrittenBytes)
	for i, level := range store.Levels {
		label := strconv.Itoa(i)
		metrics.WriteGaugeFloat64(w, fmt.Sprintf("messaging_store_level_bytes{level=%q}", label), float64(level.Bytes))
		metrics.WriteGaugeFloat64(w, fmt.Sprintf("messaging_store_level_files{level=%q}", label), float64(level.Files))
	}
}
