#!/usr/bin/env bash
# `make load`: Locust for DURATION (60s) with USERS (50) against URL, or, where none is given, against a service that
# is started for it on a free port with an empty world, and ended with it. Writes reports/load.html.
# With URL, give NEARHIVE_JWT_SECRET and NEARHIVE_ADMIN_KEY of that service too.
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p reports

start_service() {
  directory=$(mktemp -d)
  NEARHIVE_JWT_SECRET=$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')
  NEARHIVE_ADMIN_KEY=$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')
  export NEARHIVE_JWT_SECRET NEARHIVE_ADMIN_KEY NEARHIVE_DATA_DIR="$directory/data"
  export NEARHIVE_EPOCH_S="${NEARHIVE_EPOCH_S:-5}" NEARHIVE_RATE_LIMITS=off NEARHIVE_SPEED_LIMIT=off NEARHIVE_LOG_LEVEL=warning
  .venv/bin/nearhive serve --port 0 --workers "${WORKERS:-2}" >"$directory/out" &
  service=$!
  trap 'kill "$service" 2>/dev/null; wait "$service" || true; rm -rf "$directory"' EXIT
  until URL=$(sed -n 's/^Nearhive is ready at //p' "$directory/out") && [ -n "$URL" ]; do
    kill -0 "$service" 2>/dev/null || { echo "The service did not start." >&2; exit 1; }
    sleep 0.1
  done
}

[ -n "${URL:-}" ] || start_service
.venv/bin/locust -f loadtest/locustfile.py --headless --only-summary --host "$URL" \
  --users "${USERS:-50}" --spawn-rate 10 --run-time "${DURATION:-60s}" --html reports/load.html
echo "Report: reports/load.html"
