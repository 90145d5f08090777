#!/usr/bin/env bash
# Makes sure that what the tests run beside Python is there: a Redis of the distribution, and what makes faults.
# As root on Debian it installs what is missing; else it says what to install, and fails.
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin

# Each line: command, Debian package.
needed() {
  echo redis-server redis-server # the footing "one server"
  if [ "$(uname)" = Linux ]; then
    echo gcc gcc      # a library that makes disk calls fail and moves a server's clock
    echo ip iproute2  # network namespaces, for partitions
    echo nft nftables # and the cuts between them
    echo ps procps
  fi
}

missing() {
  needed | while read -r command package; do
    command -v "$command" >/dev/null || echo "$package"
  done
  if [ "$(uname)" = Linux ] && ! echo '#include <stdio.h>' | gcc -E - >/dev/null 2>&1; then
    echo libc6-dev
  fi
}

# A policy of Debian's own kind (101 = do not start) keeps the service of redis-server from being started.
install_packages() {
  local policy=/usr/sbin/policy-rc.d made= said
  if [ ! -e $policy ]; then
    printf '#!/bin/sh\nexit 101\n' >$policy && chmod 755 $policy && made=yes
  fi
  said=$(apt-get update -qq 2>&1) || echo "$said" >&2 # then with the lists that are there
  said=$(DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" 2>&1) || echo "$said" >&2
  [ -z "$made" ] || rm -f $policy
  if [ -d /run/systemd/system ] && [[ " $* " == *" redis-server "* ]]; then
    systemctl disable --quiet redis-server 2>/dev/null || true # the tests start their own
  fi
}

packages=$(missing | tr '\n' ' ')
if [ -n "$packages" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  echo "Installing the system packages that the tests need: $packages"
  # shellcheck disable=SC2086 # one argument a package
  install_packages $packages
  packages=$(missing | tr '\n' ' ')
fi
if [ -n "$packages" ]; then
  echo "The tests need system packages that are not installed: $packages" >&2
  echo "On Debian: sudo apt-get install $packages   On macOS: brew install redis" >&2
  exit 1
fi
if [ "$(id -u)" != 0 ] || [ "$(uname)" != Linux ]; then
  echo "Not root on Linux: tests of full disks and of network partitions will be skipped."
fi
