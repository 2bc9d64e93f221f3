#!/bin/sh
# Brings what the rigs of power cuts make disks with, as root on Debian. Without
# it those rigs are skipped, with a word.
set -eu
command -v mkfs.xfs >/dev/null 2>&1 && command -v mkfs.ext4 >/dev/null 2>&1 && exit 0
if [ "$(id -u)" = 0 ] && [ -f /etc/debian_version ]; then
	echo "installing xfsprogs and e2fsprogs from Debian's packages" >&2
	{ apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends xfsprogs e2fsprogs; } >&2 || true
fi
