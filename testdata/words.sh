#!/bin/sh
# Fails where a retired name or phrase of testdata/words.txt is left, and names the
# place and what to write instead.
set -eu
cd "$(dirname "$0")/.."
status=0
tab=$(printf '\t')
while IFS="$tab" read -r pattern instead; do
	case "$pattern" in '' | '#'*) continue ;; esac
	if found=$(git grep -nIP "$pattern" -- '*.go' '*.py' '*.md' Makefile '*.sh' '*.yml' ':!CHANGELOG.md' ':!docs/adr' ':!LICENSES' ':!testdata/words.*'); then
		printf '%s\n' "$found" | sed "s|\$|    [write: $instead]|"
		status=1
	fi
done <testdata/words.txt
exit $status
