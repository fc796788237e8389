#!/usr/bin/env bash
# Installs what `make test-production` runs against: Ceph with its S3 gateway, PostgreSQL, and `ip` for network
# namespaces. Where it cannot (no apt-get, not root, no reach) it says so and ends well: those tests then skip.
set -uo pipefail

packages=(radosgw ceph-mon ceph-osd ceph-common postgresql iproute2)

missing=()
for package in "${packages[@]}"; do
  status=$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null || true)
  [ "$status" = installed ] || missing+=("$package")
done
if [ ${#missing[@]} -eq 0 ]; then
  exit 0
fi
if ! command -v apt-get >/dev/null || [ "$(id -u)" -ne 0 ]; then
  echo "production packages: not installed, and only root may with apt-get: ${missing[*]}" >&2
  exit 0
fi
# Services that start by themselves are not wanted: the tests start their own, on ports and folders of their own.
# Debian's packages ask this file first.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
  printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod +x "$policy" && trap 'rm -f "$policy"' EXIT
fi
export DEBIAN_FRONTEND=noninteractive
for attempt in 1 2; do
  timeout 600 apt-get install --yes --no-install-recommends "${missing[@]}" >/dev/null && exit 0
  timeout 300 apt-get update >/dev/null || true
done
echo "production packages: could not be installed: ${missing[*]}" >&2
exit 0
