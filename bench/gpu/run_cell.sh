#!/usr/bin/env bash
# A cell of N workers, a card each, on a machine with N cards: contract of the exchange, one worker's speed and text beside
# theirs (by NCCL's calls, and by windows), and what dies and comes back (two workers). Within 10 minutes.
# usage: run_cell.sh N [OUT_DIR]      beside bin/ and lib/ of bundle.sh; SHAPES="smollm2-135m llama2-7b" by default
set -uo pipefail
cd "$(dirname "$0")"
n=${1:?how many cards} out=${2:-cell}
mkdir -p "$out"
export NCCL_NVLS_ENABLE=0
nvidia-smi --query-gpu=name,driver_version --format=csv,noheader > "$out/cards.txt"
nvidia-smi topo -m >> "$out/cards.txt" 2> /dev/null
timeout 120 bin/nccl_collective_contract_test > "$out/contract.log" 2>&1
echo "contract of the exchange: rc=$? $(grep -E '^\[  (PASSED|FAILED)' "$out/contract.log" | head -1)"

for shape in ${SHAPES:-smollm2-135m llama2-7b}; do
  model=$(mktemp -d -p /dev/shm)/$shape
  bin/pregate synth --shape "$shape" --dtype bf16 --experts 7 --shared 0.25 --own 0.25 --seed 1 --out "$model" 2> /dev/null
  for setup in "1 calls" "$n calls" "$n windows"; do
    read -r workers way <<< "$setup"
    WORKERS=$workers WORKER_FLAGS="--card-exchange $way" timeout 150 ./stream_load.sh bin "$model" \
      --streams "1,8,32" --prompt 128 --answer 64 --requests 4 \
      > "$out/load-$shape-$workers-$way.json" 2> "$out/load-$shape-$workers-$way.log"
    echo "load $shape, $workers workers, $way: rc=$?"
  done
  if [[ $n == 2 ]] && python3 -c 'import grpc' 2> /dev/null; then
    timeout 200 python3 cell_faults.py bin "$model" --device cuda --logs "$out" --scenarios together,kill \
      --worker-flag=--kv-cache-bytes=1GiB --worker-flag=--card-exchange=windows > "$out/faults-$shape.json" 2> "$out/faults-$shape.log"
    echo "faults $shape: rc=$?"
  fi
  rm -rf "$(dirname "$model")"
done

python3 - "$out" <<'PY'
import json, pathlib, sys
for path in sorted(pathlib.Path(sys.argv[1]).glob("load-*.json")):
    try:
        runs = json.loads(path.read_text())["runs"]
    except (ValueError, KeyError):
        print(path.stem, "no figures")
        continue
    for run in runs:
        print(f"{path.stem}: {run['streams']} streams, {run['tokens_per_s']:.0f} tokens/s, ITL p50 {run['itl_ms_p50']:.2f} ms, "
              f"TTFT p50 {run['ttft_ms_p50']:.1f} ms, answers {run['answers']}")
PY
