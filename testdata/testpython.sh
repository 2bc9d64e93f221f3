#!/bin/sh
# Runs the tests of the Python package with the interpreter $1: on SQLite, on PostgreSQL,
# and those of foreign pages in a browser, side by side. The outputs of the second and the
# third follow that of the first. Fails if one does.
set -u
python=$1
cd "$(dirname "$0")/../python"
logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT
run() { "$python" -m pytest -q -ra -p no:cacheprovider "$@"; }
TEST_DATABASE=postgresql run --ignore-glob='tests/test_client*' --ignore=tests/test_demo.py --ignore=tests/test_foreign_pages.py tests >"$logs/postgresql" 2>&1 &
postgresql=$!
run tests/test_foreign_pages.py >"$logs/pages" 2>&1 &
pages=$!
run --ignore=tests/test_foreign_pages.py tests
sqlite=$?
wait "$postgresql"
status=$?
echo "== the same on PostgreSQL"
cat "$logs/postgresql"
wait "$pages"
browser=$?
echo "== foreign pages in a browser"
cat "$logs/pages"
[ "$sqlite" -eq 0 ] && [ "$status" -eq 0 ] && [ "$browser" -eq 0 ]
