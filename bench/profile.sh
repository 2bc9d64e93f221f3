#!/bin/sh
# Profiles the processor time of the service under sends: `make profile`.
# CONNECTIONS (64) and SECONDS_EACH (20) configure the load. LOAD may be another
# command that drives the service at $URL. Writes bench/results/cpu.pprof, which
# `go tool pprof -http=: bench/results/cpu.pprof` shows as a flame graph.
set -eu
cd "$(dirname "$0")/.."
go=${GO:-go} port=${PORT:-18765} out=bench/results/cpu.pprof
dir=$(mktemp -d "${DIR:-${TMPDIR:-/tmp}}/messaging-profile.XXXXXX")
mkdir -p bench/results
$go build -trimpath -tags profile -o "$dir/messaging" ./cmd/messaging
URL=http://127.0.0.1:$port
export URL
MESSAGING_CPU_PROFILE=$out HTTP_PORT=$port DATA_DIR="$dir/data" DJANGO_API_URL=off LOG_LEVEL=warn "$dir/messaging" serve &
service=$!
trap 'kill $service 2>/dev/null; wait 2>/dev/null; rm -rf "$dir"' EXIT INT TERM
until "$dir/messaging" ping --url "$URL" >/dev/null 2>&1; do sleep 0.1; done
if [ -n "${LOAD:-}" ]; then
	sh -c "$LOAD"
else
	sh testdata/wrk.sh
	wrk -t2 -c"${CONNECTIONS:-64}" -d"${SECONDS_EACH:-20}s" -s bench/send.lua "$URL/api/messages/send"
fi
kill $service
wait $service || true
$go tool pprof -top -cum "$out" 2>/dev/null | head -60
