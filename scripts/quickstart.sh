#!/usr/bin/env bash
# From a fresh Debian 12 machine to a streamed answer: builds pregate, fetches SmolLM2-135M-Instruct, cuts it into
# five experts with the artifact under models/, starts router, worker and scheduler on loopback and asks a question.
# usage: scripts/quickstart.sh [--keep] [--prompt TEXT] [--dtype f32|bf16]
#   --keep     leave the cluster running and print the next command to try
set -euo pipefail
cd "$(dirname "$0")/.."

keep=false
prompt="What is a mixture of experts? Answer in two sentences."
dtype=bf16
while [ $# -gt 0 ]; do
  case "$1" in
    --keep) keep=true ;;
    --prompt) prompt=${2:?--prompt needs a text}; shift ;;
    --dtype) dtype=${2:?--dtype needs f32 or bf16}; shift ;;
    *) sed -n '2,6p' "$0" | sed 's/^# \{0,1\}//' >&2; exit 2 ;;
  esac
  shift
done

bin=build/release/bin
run=.cache/quickstart/run
start_s=$SECONDS
bold='' plain=''
[ -t 1 ] && [ -z "${NO_COLOR:-}" ] && bold=$'\033[1m' plain=$'\033[0m'
step() { printf '%s[%3ds] %s%s\n' "$bold" $((SECONDS - start_s)) "$*" "$plain"; }

pids=()
end() {
  for pid in "${pids[@]}"; do kill -TERM "$pid" 2>/dev/null || true; done
  for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
}
trap end EXIT
trap 'exit 130' INT TERM

step "installing packages and building (build/release; the first time takes minutes)"
scripts/build.sh release pregate pregate-router pregate-worker pregate-scheduler

step "making the demo model, where it is not there"
model=$(scripts/demo_model.sh "$bin")

rm -rf "$run"
mkdir -p "$run"
start() {  # start NAME PROGRAM ARGS...: waits until the program has written its addresses
  local name=$1
  shift
  # A session of its own lets --keep outlive this shell.
  setsid "$@" --listen 127.0.0.1:0 --metrics-listen 127.0.0.1:0 --port-file "$run/$name.json" >"$run/$name.log" 2>&1 &
  local pid=$!
  pids+=("$pid")
  for _ in $(seq 600); do
    [ -s "$run/$name.json" ] && return 0
    kill -0 "$pid" 2>/dev/null || { echo "quickstart: $name did not start; its log:" >&2; cat "$run/$name.log" >&2; exit 1; }
    sleep 0.1
  done
  echo "quickstart: $name did not open its port in 60 s; see $run/$name.log" >&2
  exit 1
}
address() { python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["listen"])' "$run/$1.json"; }

step "starting router, worker and scheduler (logs in $run)"
start router "$bin/pregate-router" --model "$model"
start worker "$bin/pregate-worker" --model "$model" --dtype "$dtype"
start scheduler "$bin/pregate-scheduler" --model "$model" \
  --router "$(address router)" --workers "$(address worker)"

step "asking: $prompt"
"$bin/pregate" generate --server "$(address scheduler)" --wait-s 60 --chat --prompt "$prompt" \
  --max-tokens 64 --temperature 0 --show-routes

if $keep; then
  trap - EXIT
  step "serving on $(address scheduler); try:"
  echo "  $bin/pregate generate --server $(address scheduler) --chat --prompt 'Why is the sky blue?' --max-tokens 48"
  echo "stop with: kill ${pids[*]}"
else
  step "stopping"
fi
