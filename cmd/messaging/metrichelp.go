package main

import (
	"strings"
)

// metricHelp holds the help of each metric: its meaning, its unit, and when it matters. A
// broadcast counts once for each receiver, unless the text states otherwise.
var metricHelp = map[string]string{
	"messaging_build_info": "Always 1. Its labels are the version, the source revision and the Go release of this build; use them to find instances of older builds.",

	"messaging_messages_accepted_total":      "Messages stored and acknowledged since the start. A broadcast counts once for each receiver. A rate of 0 under load means that senders are refused or do not reach the service.",
	"messaging_messages_taken_total":         "Messages removed from queues by plain takes, since the start. If it is far below the accepted messages, queues grow.",
	"messaging_messages_persisted_total":     "Messages that the backend has stored since the start, including those that it had already. If it is far below the accepted messages, the drain falls behind.",
	"messaging_messages_leased_total":        "Messages delivered under a lease since the start. Each delivery counts.",
	"messaging_messages_acknowledged_total":  "Messages acknowledged since the start. If it is far below the leased messages, readers fail or their leases are too short.",
	"messaging_messages_redelivered_total":   "Leases that ended without an acknowledgement since the start. Their messages are delivered again. Growth means that readers fail, or that leases are too short.",
	"messaging_messages_evicted_total":       "Messages evicted from full queues since the start (MESSAGE_QUEUE_MAX_SIZE). Growth means that a user's messages are not read. The backend still receives them.",
	"messaging_messages_expired_total":       "Messages removed from their queue at the end of their time to live, since the start. The backend still receives them.",
	"messaging_messages_cleared_total":       "Messages removed from a queue by a clear, since the start. The backend still receives them.",
	"messaging_duplicates_total":             "Sends that repeated an idempotency key and stored nothing, since the start. Growth means that senders retry.",
	"messaging_messages_replayed_total":      "Messages that replays sent to the backend again, since the start.",
	"messaging_messages_redriven_total":      "Dead letters that redrives sent again, to the backend or to their queue, since the start. A broadcast counts once for each receiver.",
	"messaging_messages_trimmed_total":       "Messages removed from the log because of their age (MESSAGE_RETENTION_DAYS), since the start. Removals because of a full disk count in messaging_messages_trimmed_early_total.",
	"messaging_messages_retained_out_total":  "Deprecated: use messaging_messages_trimmed_total, which counts the same.",
	"messaging_messages_trimmed_early_total": "Messages removed from the log before their age, because the disk is full, since the start. Above 0, the disk is too small for MESSAGE_RETENTION_DAYS.",

	"messaging_drain_lag_messages":               "Entries of the log that the backend has not received. A broadcast is one entry. Growth means that the backend is slower than the senders, or unavailable.",
	"messaging_drain_lag_seconds":                "Age of the oldest message that the backend has not received, in seconds. Above a few minutes, check the backend and messaging_drain_stalled.",
	"messaging_dead_letters":                     "Stored dead letters, by kind: refused by the backend, or undeliverable to a reader. Receivers of a broadcast with the same reason share one. Above 0, check them (messaging dead-letters list).",
	"messaging_persist_failures_total":           "Failed requests to the backend since the start, by kind. The kind message_error counts the messages for which a response has errors. The kind that grows shows what is wrong with the backend.",
	"messaging_drain_stalled":                    "1 while the drain waits for an unavailable backend, else 0. Alert if it is 1 for some minutes: messages are kept and the lag grows.",
	"messaging_drain_waiting":                    "Deprecated: use messaging_drain_stalled, which has the same value.",
	"messaging_drain_off":                        "1 while nothing is sent to a backend because DJANGO_API_URL is off, else 0. If there should be a backend, 1 means that the settings are wrong.",
	"messaging_jobs_running":                     "Redrives and replays that are running. A job that does not end waits for the backend or for disk space.",
	"messaging_queue_messages":                   "Messages in all queues, including leased and delayed messages. Growth means that readers are slower than senders.",
	"messaging_leases":                           "Messages under a lease. Near QUEUE_MAX_LEASED in one queue, takes under a lease from it are refused with 429.",
	"messaging_long_polls":                       "Requests that wait for a message. Each one uses a connection (MAX_CONNECTIONS).",
	"messaging_waiting_readers":                  "Deprecated: use messaging_long_polls, which has the same value.",
	"messaging_fanouts":                          "Large broadcasts that are not in the queues of all receivers yet. Growth means that broadcasts arrive faster than they are distributed.",
	"messaging_http_request_seconds":             "Duration of requests, from the head to the end of the response, in seconds, by route, method and status. Long polls include their wait.",
	"messaging_http_connections":                 "Open connections. At MAX_CONNECTIONS, new connections wait.",
	"messaging_http_unauthenticated_connections": "Open connections without an accepted request, counted if tokens are set. At MAX_UNAUTHENTICATED, the oldest are closed.",
	"messaging_failed_logins_total":              "Calls with a wrong token, by result. Throttled ones are of an address with more than 20 in a minute. Growth means that somebody guesses, or that a client has an old token.",
	"messaging_http_requests_in_flight":          "Requests in progress, including long polls.",
	"messaging_inflight_bytes":                   "Bytes of request and response bodies in memory. At MAX_INFLIGHT_BYTES, requests are refused with 503.",
	"messaging_commit_changes":                   "Changes in one commit: sends, takes and others that share one fsync. High values under load are good, because many calls share one fsync.",
	"messaging_commit_messages":                  "Deprecated: use messaging_commit_changes, which counts the same.",
	"messaging_commit_fsync_seconds":             "Time until a commit is on the disk, in seconds. Every send waits for one. Above some 10 ms, the disk is slow.",
	"messaging_commit_bytes_total":               "Bytes that commits wrote to the write-ahead log, since the start.",
	"messaging_disk_free_bytes":                  "Free bytes on the disk of DATA_DIR. Below DISK_MIN_FREE, sends are refused and old messages are trimmed early.",
	"messaging_oldest_snapshot_seconds":          "Time for which a reader has held a snapshot that is not the newest, in seconds; 0 if there is none. Data removed since then stays on the disk. Above a few minutes, check the replays.",
	"messaging_store_bytes":                      "Bytes of the store on the disk. With messaging_disk_free_bytes it shows how long the disk lasts.",
	"messaging_store_memtable_bytes":             "Bytes of memory for written data that is not in a table yet.",
	"messaging_store_read_amplification":         "Number of places that a read of the store may have to search. Above some 20, background work does not keep up with writes.",

	"messaging_store_compaction_debt_bytes": "Bytes that background work still has to rewrite. Steady growth means that the disk is too slow for the writes.",
	"messaging_store_cache_hits_total":      "Blocks of the store found in memory, since the start.",
	"messaging_store_cache_misses_total":    "Blocks of the store read from the disk, since the start. Growth means that readers request old messages, or that there is too little memory.",
	"messaging_store_written_bytes_total":   "Bytes that the store wrote since the start, including background work. Divided by messaging_commit_bytes_total it is the write amplification.",
	"messaging_store_level_bytes":           "Bytes of the store's tables on the disk, by level. For debugging the store itself.",
	"messaging_store_level_files":           "Files of the store's tables, by level. For debugging the store itself.",
}

// helpOf returns the help of a metric. For metrics of the runtime and the process it names
// the source.
func helpOf(name string) string {
	switch help, ok := metricHelp[name]; {
	case ok:
		return help
	case strings.HasPrefix(name, "go_"):
		return "Metric of the Go runtime" + unitOf(name) + ": see the packages runtime and runtime/metrics. For debugging the program itself."
	case strings.HasPrefix(name, "process_"):
		return "Metric of the process" + unitOf(name) + ", as the operating system counts it. For planning the capacity of the machine."
	}
	return "No help is known."
}

// unitOf returns the unit that the name of a metric contains, or "".
func unitOf(name string) string {
	for _, unit := range []string{"seconds", "bytes"} {
		if strings.Contains(name, "_"+unit) {
			return ", in " + unit
		}
	}
	return ""
}
