#!/bin/sh
# Writes LICENSES/: the licenses and notices of everything that is linked into the program,
# and an index. Run it by `make licenses` after a change of go.mod.
set -eu
cd "$(dirname "$0")/.."
go=${GO:-go}
rm -rf LICENSES
mkdir LICENSES
index=LICENSES/README.md
cat >"$index" <<'EOT'
# Licenses

The program `messaging` contains the modules below, and the standard library of Go. Their licenses and notices are in the directories of this directory.
`make licenses` writes it from `go.mod`; a test fails if a module is missing.

| module | version | files |
| --- | --- | --- |
EOT
copy() { # module, version, directory
	target=LICENSES/$1
	mkdir -p "$target"
	files=
	for file in "$3"/*; do
		name=${file##*/}
		case $(printf %s "$name" | tr a-z A-Z) in
		LICENSE* | LICENCE* | COPYING* | NOTICE* | PATENTS*)
			[ -f "$file" ] || continue
			cp "$file" "$target/$name"
			chmod 644 "$target/$name"
			files="$files [$name]($1/$name)"
			;;
		esac
	done
	if [ -z "$files" ]; then
		echo "no license of $1 is found in $3" >&2
		exit 1
	fi
	printf '| %s | %s |%s |\n' "$1" "$2" "$files" >>"$index"
}
copy go "" "$("$go" env GOROOT)"
CGO_ENABLED=0 GOOS=linux GOARCH=amd64 "$go" list -deps -f '{{with .Module}}{{if not .Main}}{{.Path}} {{.Version}} {{.Dir}}{{end}}{{end}}' ./cmd/messaging |
	LC_ALL=C sort -u | while read -r module version dir; do copy "$module" "$version" "$dir"; done
