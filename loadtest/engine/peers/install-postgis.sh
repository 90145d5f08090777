#!/usr/bin/env bash
# Makes sure that PostgreSQL 15 with PostGIS 3 is there. As root on Debian it installs it; else it says so and fails.
set -euo pipefail
there() { [ -x /usr/lib/postgresql/15/bin/postgres ] && [ -e /usr/share/postgresql/15/extension/postgis.control ]; }

there && exit
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
  echo "PostGIS is not installed: sudo apt-get install postgresql-15-postgis-3" >&2
  exit 1
fi
# A policy of Debian's own kind (101 = do not start) keeps the service of PostgreSQL from being started.
policy=/usr/sbin/policy-rc.d made=
if [ ! -e $policy ]; then
  printf '#!/bin/sh\nexit 101\n' >$policy && chmod 755 $policy && made=yes
fi
apt-get update -qq >&2 || true # then with the lists that are there
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends postgresql-15 postgresql-15-postgis-3 >&2 || true
[ -z "$made" ] || rm -f $policy
there || { echo "PostGIS could not be installed by apt-get" >&2; exit 1; }
