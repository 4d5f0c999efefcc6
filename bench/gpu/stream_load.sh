#!/usr/bin/env bash
# A router, a worker on the card and a scheduler on this machine, and clients that stream from them.
# usage: stream_load.sh BIN_DIR MODEL_DIR [stream_bench's flags]
set -euo pipefail
bin=$1 model=$2
shift 2
at=$(mktemp -d)
trap 'kill $(jobs -p) 2> /dev/null; wait; rm -rf "$at"' EXIT
common=(--model "$model" --metrics-listen 127.0.0.1:0 --log-level warn)
"$bin/pregate-router" "${common[@]}" --listen "unix:$at/router" --threads 4 &
"$bin/pregate-worker" "${common[@]}" --listen "unix:$at/worker" --device cuda --dtype bf16 --kv-cache-bytes 16GiB &
"$bin/pregate-scheduler" "${common[@]}" --listen "unix:$at/scheduler" --router "unix:$at/router" \
  --workers "unix:$at/worker" &
"$bin/stream_bench" --server "unix:$at/scheduler" "$@"
