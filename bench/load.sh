#!/bin/sh
# Compares durable sends over HTTP with an empty net/http + httprouter handler,
# in turn, in one run: medians of ROUNDS rounds at CONNECTIONS connections.
# Needs wrk. DIR is where the data directory is made (default: a temporary one).
set -eu
cd "$(dirname "$0")/.."
rounds=${ROUNDS:-5} seconds=${SECONDS_EACH:-5} connections=${CONNECTIONS:-64}
command -v wrk >/dev/null || { echo "bench/load.sh needs wrk (apt-get install wrk)" >&2; exit 1; }
dir=$(mktemp -d "${DIR:-${TMPDIR:-/tmp}}/messaging-load.XXXXXX")
go build -o "$dir/empty" ./bench/empty
HTTP_PORT=18765 DATA_DIR="$dir/data" DJANGO_API_URL=off LOG_LEVEL=warn bin/messaging serve & service=$!
"$dir/empty" -addr 127.0.0.1:18799 & empty=$!
trap 'kill $service $empty 2>/dev/null; wait 2>/dev/null; rm -rf "$dir"' EXIT INT TERM
until bin/messaging ping --url http://127.0.0.1:18765 >/dev/null 2>&1; do sleep 0.1; done
rate() { wrk -t1 -c"$2" -d"$3"s -s bench/send.lua "http://127.0.0.1:$1/api/messages/send" | awk '/Requests\/sec/ {print $2} /Non-2xx/ {print "errors:", $0 > "/dev/stderr"}'; }
echo "warming up (until the log's files are used again)"
rate 18765 256 12 >/dev/null
for round in $(seq "$rounds"); do
	s=$(rate 18765 "$connections" "$seconds"); e=$(rate 18799 "$connections" "$seconds")
	echo "$s $e" >> "$dir/rates"
	echo "round $round: send $s/s, empty handler $e/s"
done
awk -v c="$connections" '
	function median(a, n,   i, j, t) { for (i = 1; i <= n; i++) for (j = i + 1; j <= n; j++) if (a[j] < a[i]) { t = a[i]; a[i] = a[j]; a[j] = t } return a[int((n + 1) / 2)] }
	{ s[NR] = $1; e[NR] = $2; r[NR] = $1 / $2 }
	END { printf "%d connections, %d rounds: send %.0f/s, empty %.0f/s, ratio %.2f (%.2f to %.2f)\n", c, NR, median(s, NR), median(e, NR), median(r, NR), r[1], r[NR] }' "$dir/rates"
