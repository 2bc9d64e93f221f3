package main

import (
	"strings"
)

// metricHelp says of each metric what it is, in which unit, and when it matters. A
// message of a broadcast counts once for each receiver, unless the text says
// otherwise.
var metricHelp = map[string]string{
	"messaging_build_info": "Always 1. Its labels name the version, the revision of the source and the Go release that this program was built from; they show which instances run an older one.",

	"messaging_messages_accepted_total":      "Messages that were stored and answered for since the start. A broadcast counts once for each receiver. A rate of 0 under load means that senders are refused or do not reach the service.",
	"messaging_messages_taken_total":         "Messages that plain takes removed from queues since the start. Far below the accepted ones, queues grow.",
	"messaging_messages_persisted_total":     "Messages that the backend has stored since the start, those it had already included. Far below the accepted ones, the drain falls behind.",
	"messaging_messages_leased_total":        "Messages that were delivered under a lease since the start, each delivery counted.",
	"messaging_messages_acknowledged_total":  "Messages that were acknowledged since the start. Far below the leased ones, readers fail or their leases are too short.",
	"messaging_messages_redelivered_total":   "Leases that ended without an acknowledgement since the start; their messages are delivered again. Growth means that readers fail, or that leases are too short.",
	"messaging_messages_evicted_total":       "Messages that left a full queue for newer ones since the start (MESSAGE_QUEUE_MAX_SIZE). Growth means that a user's messages are not read; the backend still gets them.",
	"messaging_messages_expired_total":       "Messages that left their queue because their time to live was over, since the start. The backend still gets them.",
	"messaging_messages_cleared_total":       "Messages that a clear removed from a queue, since the start. The backend still gets them.",
	"messaging_duplicates_total":             "Sends that repeated an idempotency key and stored nothing, since the start. Growth means that senders retry.",
	"messaging_messages_replayed_total":      "Messages that replays have sent to the backend again, since the start.",
	"messaging_messages_redriven_total":      "Dead letters that redrives have sent where they failed to go, since the start; a broadcast counts once for each receiver.",
	"messaging_messages_trimmed_total":       "Messages that were removed from the log at their age (MESSAGE_RETENTION_DAYS), since the start. Those of a full disk are in messaging_messages_trimmed_early_total.",
	"messaging_messages_retained_out_total":  "Deprecated: use messaging_messages_trimmed_total, which counts the same.",
	"messaging_messages_trimmed_early_total": "Messages that were removed from the log before their age, because the disk is full, since the start. Above 0 the disk is too small for MESSAGE_RETENTION_DAYS.",

	"messaging_drain_lag_messages":       "Entries of the log that the backend has yet to get, of which a broadcast is one whatever its receivers. Growth means that the backend is slower than the senders, or out of order.",
	"messaging_drain_lag_seconds":        "Age of the oldest message that the backend has yet to get, in seconds. Above some minutes, look at the backend and at messaging_drain_stalled.",
	"messaging_dead_letters":             "Dead letters that are kept, by kind: refused by the backend, or undeliverable to a reader; receivers of a broadcast with one reason share one. Above 0 somebody should look at them (messaging dead-letters list).",
	"messaging_persist_failures_total":   "Requests to the backend that failed since the start, by kind; of the kind message_error, the messages that an answer has errors for. Growth says what is wrong with the backend.",
	"messaging_drain_stalled":            "1 while the drain waits for a backend that is out of order, else 0. Alert on 1 for some minutes: messages are kept and the lag grows.",
	"messaging_drain_waiting":            "Deprecated: use messaging_drain_stalled, which has the same value.",
	"messaging_drain_off":                "1 while nothing goes to a backend because DJANGO_API_URL is off, else 0. 1 where there should be a backend is a mistake in the settings.",
	"messaging_jobs_running":             "Redrives and replays that run now. One that never ends waits for the backend or for room on the disk.",
	"messaging_queue_messages":           "Messages in all queues, those under a lease and those due later included. Growth means that readers are slower than senders.",
	"messaging_leases":                   "Messages that are under a lease now. Near QUEUE_MAX_LEASED in one queue, takes there are answered with 429.",
	"messaging_long_polls":               "Requests that wait for a message now. Each holds a connection (MAX_CONNECTIONS).",
	"messaging_waiting_readers":          "Deprecated: use messaging_long_polls, which has the same value.",
	"messaging_fanouts":                  "Large broadcasts that are not in all queues of their receivers yet. Growth means that broadcasts come faster than they are spread.",
	"messaging_http_request_seconds":     "How long requests took from their head to the end of their answer, in seconds, by route, method and status. Long polls include their wait.",
	"messaging_http_connections":         "Connections that are open now. At MAX_CONNECTIONS new ones wait.",
	"messaging_http_requests_in_flight":  "Requests that are being worked on now, long polls included.",
	"messaging_inflight_bytes":           "Bytes of bodies and answers that are held now. At MAX_INFLIGHT_BYTES requests are answered with 503.",
	"messaging_commit_changes":           "Changes in one commit: sends, takes and others that share an fsync. High values under load are good, as many calls share the disk's time.",
	"messaging_commit_messages":          "Deprecated: use messaging_commit_changes, which counts the same.",
	"messaging_commit_fsync_seconds":     "How long commits took to be on the disk, in seconds. Every send waits for one; above some 10 ms the disk is slow.",
	"messaging_commit_bytes_total":       "Bytes that commits have written to the write-ahead log since the start.",
	"messaging_disk_free_bytes":          "Free bytes on the disk of DATA_DIR. Below DISK_MIN_FREE sends are refused and old messages are trimmed early.",
	"messaging_oldest_snapshot_seconds":  "For how long a reader has held a snapshot that is not the newest, in seconds; 0 where none does. What was removed since stays on the disk: above some minutes, look at replays.",
	"messaging_store_bytes":              "Bytes of the store on the disk. With messaging_disk_free_bytes it says how long the disk lasts.",
	"messaging_store_memtable_bytes":     "Bytes of memory that hold what was written and is in no table yet.",
	"messaging_store_read_amplification": "Places that a read of the store may have to look at. Above some 20, background work does not keep up with writes.",

	"messaging_store_compaction_debt_bytes": "Bytes that background work has yet to rewrite. Steady growth means that the disk is too slow for what is written.",
	"messaging_store_cache_hits_total":      "Blocks of the store that were found in memory, since the start.",
	"messaging_store_cache_misses_total":    "Blocks of the store that were read from the disk, since the start. Growth means that readers ask for old messages, or that memory is short.",
	"messaging_store_written_bytes_total":   "Bytes that the store has written since the start, background work included. Divided by messaging_commit_bytes_total it is the write amplification.",
	"messaging_store_level_bytes":           "Bytes of the store's tables on the disk, by level. For those who look into the store itself.",
	"messaging_store_level_files":           "Files of the store's tables, by level. For those who look into the store itself.",
}

// helpOf returns the help of a metric: of those of the runtime and the process,
// where it is from.
func helpOf(name string) string {
	switch help, ok := metricHelp[name]; {
	case ok:
		return help
	case strings.HasPrefix(name, "go_"):
		return "Of the Go runtime" + unitOf(name) + ": see the packages runtime and runtime/metrics. For those who look into the program itself."
	case strings.HasPrefix(name, "process_"):
		return "Of the process" + unitOf(name) + ", as the operating system counts it. For the capacity of the machine."
	}
	return "No help is known."
}

// unitOf is the unit that the name of a metric has in it.
func unitOf(name string) string {
	for _, unit := range []string{"seconds", "bytes"} {
		if strings.Contains(name, "_"+unit) {
			return ", in " + unit
		}
	}
	return ""
}
