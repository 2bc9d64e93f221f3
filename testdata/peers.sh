#!/bin/sh
# Brings the servers that the service is compared with, as root on Debian, and
# lets none of them start by itself. Elsewhere it says which are missing: the
# benchmarks leave those out.
set -eu
missing() {
	command -v redis-server >/dev/null 2>&1 || echo redis-server
	command -v redis-benchmark >/dev/null 2>&1 || echo redis-tools
	command -v beanstalkd >/dev/null 2>&1 || echo beanstalkd
	ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 || command -v postgres >/dev/null 2>&1 || echo postgresql
	[ -x /usr/lib/rabbitmq/bin/rabbitmq-server ] || command -v rabbitmq-server >/dev/null 2>&1 || echo rabbitmq-server
}
packages=$(missing | tr '\n' ' ')
[ -n "$packages" ] || exit 0
if [ "$(id -u)" = 0 ] && [ -f /etc/debian_version ]; then
	echo "installing ${packages}from Debian's packages" >&2
	policy=/usr/sbin/policy-rc.d
	if [ ! -e "$policy" ]; then
		trap 'rm -f "$policy"' EXIT
		printf '#!/bin/sh\nexit 101\n' >"$policy"
		chmod +x "$policy"
	fi
	# shellcheck disable=SC2086 # a list
	{ apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $packages; } >&2 || true
	packages=$(missing | tr '\n' ' ')
fi
[ -z "$packages" ] || echo "missing, and left out of the benchmarks: $packages" >&2
