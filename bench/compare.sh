#!/bin/sh
# Compares this tree with another revision: `make bench-compare BASE=<rev>`.
# It builds both, measures them in turn over HTTP (bench/suite), and runs the Go
# benchmarks of both in turn, COUNT times each. benchstat reports the differences.
# It fails if a send, batch or take over HTTP is slower in every round.
# BENCHSTAT is the command with its version. QUICK=1 takes two minutes.
set -eu
cd "$(dirname "$0")/.."
base=$(git rev-parse --verify --quiet "${BASE:?which revision? make bench-compare BASE=main}^{commit}") ||
	{ echo "BASE=$BASE is not a revision of this repository" >&2; exit 2; }
out=${OUT:-bench/results} count=${COUNT:-6}
dir=$(mktemp -d "${TMPDIR:-/tmp}/messaging-compare.XXXXXX")
trap 'git worktree remove --force "$dir/base" 2>/dev/null; rm -rf "$dir"' EXIT
trap 'exit 130' INT TERM
git worktree add --quiet --detach "$dir/base" "$base"
(cd "$dir/base" && go build -trimpath -o "$dir/messaging" ./cmd/messaging)
mkdir -p "$out"

status=0
go run ./bench/suite ${QUICK:+-quick} -base "$dir/messaging" -out "$out" || status=$?
newest() { ls -t "$out"/*-"$1".txt 2>/dev/null | head -1; }
cp "$(newest old)" "$dir/old.txt"
cp "$(newest new)" "$dir/new.txt"

benchmarks() { (cd "$1" && go test -run '^$' -bench "${BENCH:-.}" -benchmem -count 1 . ./wal ./engine ./http) | grep '^Benchmark\|^pkg:\|^cpu:' || true; }
for n in $(seq "$count"); do
	echo "Go benchmarks, round $n of $count"
	benchmarks "$dir/base" >> "$dir/old.txt"
	benchmarks . >> "$dir/new.txt"
done
$BENCHSTAT base="$dir/old.txt" this="$dir/new.txt" | tee "$out/benchstat.txt"
exit $status
