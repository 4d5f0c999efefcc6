#!/usr/bin/env bash
# Refactors a model on a card, from the folder that refactor_bundle.sh made: tests the fused operations, calibrates once, then splits,
# tunes and evaluates for each share of kept neurons. A folder `base` beside this script is a work folder that was calibrated, or split
# for the one share, elsewhere: that costs the card no time then. A call goes on where the last one on this machine was stopped or killed; the same call again when all
# is done only collects. Results lie in $OUT: for each share report-KEEP.json, and of the last one its report.html, losses.jsonl and
# the artifact in parts of 15 MB (cat artifact.part.* > artifact.safetensors).
#
#   [KEEPS="0.6"] [TOKENS=5000000] [LIMIT=540] [FLAGS="..."] [TASKS="arc_easy piqa lambada_openai"] .bundle-refactor/refactor_run.sh
#
# LIMIT: seconds for this call, after which it saves and ends. FLAGS: further options of `pregate refactor run`, which decide the
# result and so must not change between calls: "--baselines all", say. TASKS: zero-shot tasks of parent, result and those baselines
# that can be served, after all else.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=${OUT:-$PWD/refactor-results}
work=${WORK:-/tmp/pregate-refactor}
begin=$SECONDS limit=${LIMIT:-540}
read -ra keeps <<< "${KEEPS:-0.6}"
read -ra flags <<< "${FLAGS:-}"
mkdir -p "$out" "$work"
[[ -x $work/bin/pregate-refactor || ! -f $here/bundle.tar.xz ]] || tar -C "$work" -xf "$here/bundle.tar.xz"
[[ -f $work/model.gguf ]] || { cat "$here"/model.part.* > "$work/model.part" && mv "$work/model.part" "$work/model.gguf"; }
torch_lib=$(python3 -c 'import pathlib, torch; print(pathlib.Path(torch.__file__).parent / "lib")')
export LD_LIBRARY_PATH=$torch_lib:/usr/local/cuda/lib64
log=$out/refactor.log
nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv,noheader | tee -a "$log"
cat "$work/commit" >> "$log"

if [[ ! -f $work/tested ]]; then
  PREGATE_REQUIRE_GPU=1 "$work/bin/refactor_fused_ops_test" > "$out/fused_ops.log" 2>&1 || { cat "$out/fused_ops.log"; exit 1; }
  touch "$work/tested"
fi

left() { echo $((limit - (SECONDS - begin))); }

# refactor NAME KEEP EVAL_WINDOWS FLAGS...: one call of the program in the time that is left.
refactor() {
  local name=$1 keep=$2 windows=$3
  shift 3
  (($(left) > 5)) || { echo "the time of this call is used up; call again"; exit 0; }
  "$work/bin/pregate" refactor run --dense "$work/model.gguf" --corpus "$work/texts" --keep "$keep" --device cuda \
    --tokens "${TOKENS:-5000000}" --eval-windows "$windows" --out "$work/moe-$name" --work "$work/run-$name" --time-limit-s "$(left)" \
    "${flags[@]}" "$@" 2>&1 | tee -a "$log"
}

(while sleep 5; do nvidia-smi --query-gpu=memory.used,utilization.gpu --format=csv,noheader; done > "$out/card.log") &
watcher=$!
trap 'kill $watcher 2> /dev/null || true' EXIT

if [[ -d $here/base && ! -d $work/run-base ]]; then
  cp -r "$here/base" "$work/run-base"
  touch "$work/calibrated"
fi
if [[ ! -f $work/calibrated ]]; then
  refactor base "${keeps[0]}" 0 --until calibrate
  [[ $(tail -n 2 "$log") == *"done until calibrate"* ]] || exit 0
  touch "$work/calibrated"
fi
for keep in "${keeps[@]}"; do
  [[ -d $work/run-$keep ]] || cp -al "$work/run-base" "$work/run-$keep"
  [[ -f $work/moe-$keep/config.json ]] || refactor "$keep" "$keep" "${EVAL_WINDOWS:-128}"
  [[ -f $work/moe-$keep/config.json ]] || exit 0
  cp "$work/run-$keep/report.json" "$out/report-$keep.json"
done
last=$work/run-${keeps[-1]}
cp "$last/report.html" "$last/losses.jsonl" "$out/"
split --bytes=15M --suffix-length=1 "$last/artifact.safetensors" "$out/artifact.part."

models=("$work/model.gguf" "$work/moe-${keeps[-1]}")
for baseline in ${TASKS:+parent parent-text dense random}; do
  artifact=$last/baseline-$baseline/artifact.safetensors model=$work/moe-baseline-$baseline
  [[ -f $artifact ]] || continue
  [[ -f $model/config.json ]] || "$work/bin/pregate" refactor --dense "$work/model.gguf" --apply "$artifact" --out "$model" >> "$log"
  models+=("$model")
done
for task in ${TASKS:-}; do
  for model in "${models[@]}"; do
    result=$work/task-$(basename "$model")-$task.json
    (($(left) > 20)) || { echo "the time of this call is used up; call again"; exit 0; }
    if [[ ! -f $result ]] && timeout "$(left)" "$work/bin/pregate" eval task --model "$model" \
      --task "$work/tasks/$task.jsonl" --device "${TASK_DEVICE:-cuda}" --json > "$result.part"; then
      mv "$result.part" "$result"
    fi
    [[ ! -f $result ]] || echo "$(basename "$model") $task $(cat "$result")" | tee -a "$log"
  done
done
