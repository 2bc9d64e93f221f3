#!/bin/sh
# Prints a Python that has Django and Django REST framework, and brings them if
# they are missing: from Debian's packages as root on Debian, else by pip into
# .venv. Where neither can be had it fails and says so.
set -eu
root=$(CDPATH= cd -- "$(dirname -- "$0")/.." && pwd)
venv="$root/.venv"

has() { [ -x "$1" ] && "$1" -c 'import django, rest_framework' >/dev/null 2>&1; }
first() {
	for python in "${MESSAGING_TEST_PYTHON:-}" /usr/bin/python3 "$venv/bin/python" "$(command -v python3 || true)"; do
		if [ -n "$python" ] && has "$python"; then
			echo "$python"
			return 0
		fi
	done
	return 1
}

first && exit 0
if [ "$(id -u)" = 0 ] && [ -f /etc/debian_version ]; then
	echo "installing Django REST framework from Debian's packages" >&2
	{ apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
		python3 python3-django python3-djangorestframework; } >&2 || true
	first && exit 0
fi
echo "installing Django REST framework into $venv" >&2
{ python3 -m venv "$venv" && "$venv/bin/pip" install --quiet 'django>=3.2,<7' 'djangorestframework>=3.12'; } >&2 || true
first && exit 0
echo "the tests need Python 3 with Django and Django REST framework; neither Debian's packages nor pip could bring them" >&2
exit 1
