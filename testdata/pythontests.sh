#!/bin/sh
# Brings what the tests of the Python package need beside testdata/python.sh, as
# root on Debian: requests, httpx, pytest-django, SimpleJWT, mypy, PostgreSQL with its driver, and a
# browser; it lets no server start by itself. Elsewhere requests and pytest-django
# come by pip into .venv, and the tests say which of them are skipped for want of the
# rest. Prints the Python.
set -eu
root=$(CDPATH= cd -- "$(dirname -- "$0")/.." && pwd)
python=$(sh "$root/testdata/python.sh")

has() { "$python" -c "import $1" >/dev/null 2>&1; }
missing() {
	has requests || echo python3-requests
	has pytest_django || echo python3-pytest-django
	has httpx || echo python3-httpx
	has psycopg2 || echo python3-psycopg2
	has rest_framework_simplejwt || echo python3-djangorestframework-simplejwt
	has selenium || echo python3-selenium
	has mypy || echo python3-mypy
	ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 || command -v postgres >/dev/null 2>&1 || echo postgresql
	command -v chromium >/dev/null 2>&1 || command -v google-chrome >/dev/null 2>&1 || echo chromium
	command -v chromedriver >/dev/null 2>&1 || echo chromium-driver
}
packages=$(missing | tr '\n' ' ')
if [ -n "$packages" ] && [ "$python" = /usr/bin/python3 ] && [ "$(id -u)" = 0 ] && [ -f /etc/debian_version ]; then
	echo "installing ${packages}from Debian's packages" >&2
	policy=/usr/sbin/policy-rc.d
	if [ ! -e "$policy" ]; then
		trap 'rm -f "$policy"' EXIT
		printf '#!/bin/sh\nexit 101\n' >"$policy"
		chmod +x "$policy"
	fi
	apt-get update -qq >&2 || true
	# One that cannot be had must not keep the others away.
	for package in $packages; do
		DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$package" >&2 || true
	done
elif ! has requests || ! has pytest_django; then
	echo "installing requests and pytest-django into $root/.venv" >&2
	[ "$python" = "$root/.venv/bin/python" ] || python3 -m venv --system-site-packages "$root/.venv" >&2
	python=$root/.venv/bin/python
	"$root/.venv/bin/pip" install --quiet requests httpx pytest-django selenium mypy 'django>=3.2,<7' >&2 || true
fi
if ! has requests || ! has pytest_django; then
	echo "the tests of the Python package need requests and pytest-django; neither Debian's packages nor pip could bring them" >&2
	exit 1
fi
echo "$python"
