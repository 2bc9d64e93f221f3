#!/bin/sh
# Runs the tests of the Python package with the interpreter $1, on SQLite and on
# PostgreSQL side by side: each uses one processor. The output of the second follows
# that of the first. Fails if either does.
set -u
python=$1
cd "$(dirname "$0")/../python"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
TEST_DATABASE=postgresql "$python" -m pytest -q -ra -p no:cacheprovider --ignore-glob='tests/test_client*' --ignore=tests/test_demo.py tests >"$log" 2>&1 &
postgresql=$!
"$python" -m pytest -q -ra -p no:cacheprovider tests
sqlite=$?
wait "$postgresql"
status=$?
echo "== the same on PostgreSQL"
cat "$log"
[ "$sqlite" -eq 0 ] && [ "$status" -eq 0 ]
