#!/usr/bin/env bash
# A router, WORKERS workers (default 1), each on a card of its own, and a scheduler on this machine, and clients that
# stream from them. usage: [WORKERS=N] [WORKER_FLAGS="..."] [SCHEDULER_FLAGS="..."] stream_load.sh BIN_DIR MODEL_DIR [stream_bench's flags]
set -euo pipefail
bin=$1 model=$2 n=${WORKERS:-1}
shift 2
export NCCL_NVLS_ENABLE=0
at=$(mktemp -d)
trap 'kill $(jobs -p) 2> /dev/null; wait; rm -rf "$at"' EXIT
common=(--model "$model" --metrics-listen 127.0.0.1:0 --log-level warn)
"$bin/pregate-router" "${common[@]}" --listen "unix:$at/router" --threads 4 &
workers=
for ((rank = 0; rank < n; ++rank)); do
  # shellcheck disable=SC2086
  CUDA_VISIBLE_DEVICES=$rank "$bin/pregate-worker" "${common[@]}" --listen "unix:$at/worker$rank" --device cuda --dtype bf16 \
    --kv-cache-bytes 16GiB --rank "$rank" --world-size "$n" ${WORKER_FLAGS:-} &
  workers+=${workers:+,}unix:$at/worker$rank
done
# shellcheck disable=SC2086
"$bin/pregate-scheduler" "${common[@]}" --listen "unix:$at/scheduler" --router "unix:$at/router" --workers "$workers" \
  ${SCHEDULER_FLAGS:-} &
"$bin/stream_bench" --server "unix:$at/scheduler" "$@"
