#!/bin/sh
# Queues MESSAGES (a million) messages over HTTP, kills the service with -9,
# measures how long it takes to be ready again, and then what it keeps resident
# when idle. Nothing is drained to anyone (DJANGO_API_URL=off), so all counts as
# drained. Needs wrk.
set -eu
cd "$(dirname "$0")/.."
messages=${MESSAGES:-1000000}
command -v wrk >/dev/null || { echo "bench/restart.sh needs wrk (apt-get install wrk)" >&2; exit 1; }
dir=$(mktemp -d "${DIR:-${TMPDIR:-/tmp}}/messaging-restart.XXXXXX")
url=http://127.0.0.1:18765
service=
trap 'kill $service 2>/dev/null; wait 2>/dev/null; rm -rf "$dir"' EXIT INT TERM
serve() { HTTP_PORT=18765 DATA_DIR="$dir/data" DJANGO_API_URL=off LOG_LEVEL=info bin/messaging serve 2>>"$dir/log" & service=$!; }
ready() { until bin/messaging ping --url $url >/dev/null 2>&1; do sleep 0.02; done; }
accepted() { bin/messaging stats --url $url | awk '$1 == "messages_processed" {print $2}'; }
resident() { awk '/^VmRSS/ {print int($2 / 1024)}' "/proc/$service/status"; }
serve; ready
while [ "$(accepted)" -lt "$messages" ]; do
	wrk -t1 -c256 -d5s -s bench/send.lua $url/api/messages/send >/dev/null
done
echo "queued $(accepted) messages, $(du -sm "$dir/data/messages" | cut -f1) MiB on disk, $(resident) MiB resident"
kill -9 $service; wait $service 2>/dev/null || true
before=$(date +%s%N)
serve; ready
after=$(date +%s%N)
echo "ready again after $(((after - before) / 1000000)) ms (by its own log $(grep -o '"took_ms":[0-9]*' "$dir/log" | tail -1 | cut -d: -f2) ms), $(bin/messaging stats --url $url | awk '$1 == "queue_messages" {print $2}') queued"
for seconds in 5 60; do sleep $seconds; echo "idle for $seconds s more: $(resident) MiB resident"; done
