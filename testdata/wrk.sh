#!/bin/sh
# Brings wrk, which the benchmarks of single sends load the service with, as root
# on Debian; elsewhere it says so.
set -eu
command -v wrk >/dev/null 2>&1 && exit 0
if [ "$(id -u)" = 0 ] && [ -f /etc/debian_version ]; then
	echo "installing wrk from Debian's packages" >&2
	{ apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends wrk; } >&2
fi
command -v wrk >/dev/null 2>&1 || { echo "wrk is needed: https://github.com/wg/wrk" >&2; exit 1; }
