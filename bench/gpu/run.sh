#!/usr/bin/env bash
# Runs on the GPU machine, from the folder that bundle.sh made: tests of the CUDA device (also under
# compute-sanitizer), logits against the CPU, times of decode and prefill beside their floors, what
# clients of a server see, the paper's figures, a dense model and PyTorch beside, and a table by
# kernel. Every stage has a time limit; one that fails is recorded and the next one runs. Leaves gpu-CARD.json and the logs in $OUT (default: ./gpu-results).
#
#   [STAGES="tests sanitizer small bench paper dense peers router stream slots trace large"] [MOE=DIR] .bundle/run.sh
#
# Stage "paper": latency against the experts that a batch names (its Figure 3(b)), and router, attention and experts apart (its
# Table 8). "dense": the dense parent in the same engine. "peers": plain PyTorch and transformers, which the machine's python3 has.
# Stage "families" (not in the default): FAMILIES holds models that tests/compare/refactor_families.py
# --keep made, each of which a CPU's and a card's cluster answer from.
# Stage "operate" (not in the default): a cell over mutual TLS with the worker on the card.
# MOE: a real MoE (models/smollm2-135m-moe5 applied to SmolLM2); with it, stage "serve" lets a CPU's
# and a card's cluster answer the same greedy requests over gRPC, and "slots" times that model.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=${OUT:-$PWD/gpu-results}
stages=${STAGES:-tests sanitizer small bench paper dense peers router stream slots trace large}
work=${WORK:-/tmp/pregate-gpu}
models=${MODELS:-/dev/shm/pregate-models}
mkdir -p "$out" "$work" "$models"
[[ -x $work/bin/pregate || ! -f $here/bundle.tar.xz ]] || tar -C "$work" -xf "$here/bundle.tar.xz"
bin=$work/bin
python_libraries=${LD_LIBRARY_PATH:-}  # PyTorch brings its own CUDA
export PREGATE_REQUIRE_GPU=1 LD_LIBRARY_PATH=/usr/local/cuda/lib64 PATH=$PATH:/usr/local/cuda/bin
export WORK_DIR=$work

wants() { [[ " $stages " == *" $1 "* ]]; }

# stage NAME SECONDS COMMAND...: its output goes to NAME.log, its JSON (stdout) to NAME.json.
stage() {
  local name=$1 limit=$2 start=$SECONDS status
  shift 2
  timeout "$limit" "$@" > "$out/$name.json" 2> "$out/$name.log"
  status=$?
  echo "$name $status $((SECONDS - start))" >> "$out/stages.txt"
  echo "== $name: status $status, $((SECONDS - start)) s"
  [[ $status == 0 ]] || tail -n 5 "$out/$name.log"
}

synth() { # NAME FLAGS...: in the background, so that the tests run meanwhile
  local name=$1
  shift
  [[ -f $models/$name/config.json ]] ||
    timeout 300 "$bin/pregate" synth --dtype bf16 --out "$models/$name" "$@" > "$out/synth-$name.log" 2>&1
}

: > "$out/stages.txt"
nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv,noheader | tee "$out/card.txt"
{
  if wants bench || wants paper || wants stream || wants trace || wants large; then
    synth llama2-7b --shape llama2-7b --experts 7 --shared 0.25 --own 0.25
  fi
  if wants dense; then synth llama2-7b-dense --shape llama2-7b; fi
} &
synth_pid=$!

if wants tests; then
  stage contract 60 "$bin/cuda_device_contract_test"
  stage wait-limit 60 "$bin/cuda_wait_limit_test"
  stage step 60 "$bin/cuda_step_test"
  stage counts 30 "$bin/cuda_step_counts_test"
  NCCL_NVLS_ENABLE=0 stage nccl 90 "$bin/nccl_collective_contract_test"
fi
if wants sanitizer; then
  stage memcheck-contract 120 compute-sanitizer --tool memcheck --error-exitcode 3 \
    "$bin/cuda_device_contract_test" --gtest_filter='-*LinearBits*:*StepKernel*'
  # NCCL under it takes longer to join than the test allows, and probes kernels that are not there.
  stage memcheck-step 100 compute-sanitizer --tool memcheck --error-exitcode 3 "$bin/cuda_step_test" \
    --gtest_filter='-*ranks*:*exchange*'
  stage memcheck-counts 60 compute-sanitizer --tool memcheck --error-exitcode 3 \
    "$bin/cuda_step_counts_test" --gtest_filter='-*Capture*'
  stage racecheck-contract 120 compute-sanitizer --tool racecheck --error-exitcode 3 \
    "$bin/cuda_device_contract_test" --gtest_filter='*Attention*Agrees*:*Ffn*Agrees*:*BuildGroups*'
  # Small shapes: the step kernel; ring products, split attention and that of warpgroups, which more rows have; cluster products.
  for tool in memcheck racecheck; do
    for kernels in "step-kernel *StepKernel*-*ShapesOfRealModels*:*LongContexts*:*Graph*:*MoreRows*:*Prompts*" \
      "more-rows *StepKernel*MoreRows*" "clusters *StepKernel*Prompts*"; do
      stage "$tool-${kernels%% *}" 240 compute-sanitizer --tool "$tool" --error-exitcode 3 "$bin/cuda_device_contract_test" \
        --gtest_filter="${kernels#* }"
    done
  done
fi
if wants small; then
  synth smollm2 --shape smollm2-135m --experts 7 --shared 0.25 --own 0.25
  stage logits-smollm2 100 "$bin/gpu_compare_logits" --model "$models/smollm2"
fi
wait "$synth_pid"
if wants bench; then
  stage step-bench 180 "$bin/gpu_step_bench" --model "$models/llama2-7b" --batches 1,2,4,8,16,32,64,128
  stage step-bench-4k 60 "$bin/gpu_step_bench" --model "$models/llama2-7b" --batches 1,8,32 --context 4000 --steps 10 \
    --prefill 4096
  stage step-bench-late 60 "$bin/gpu_step_bench" --model "$models/llama2-7b" --batches 1,2,4,8,16,32,64,128 --late --repeats 1
  stage step-bench-forced 60 "$bin/gpu_step_bench" --model "$models/llama2-7b" --batches 128 --experts-in-batch 1,7
  for mixed in 512,8 512,32 2048,32; do
    stage "step-mixed-${mixed/,/-}" 30 "$bin/gpu_step_bench" --model "$models/llama2-7b" --batches 1 --steps 20 --repeats 1 \
      --late --mixed "$mixed"
  done
  for shape in "1 590 1" "8 590 2" "8 590 7" "1 4096 1" "1 32000 1"; do
    # shellcheck disable=SC2086
    stage "step-kernel-${shape// /-}" 20 "$bin/gpu_step_kernel_bench" $shape
  done
fi
if wants paper; then
  stage paper-experts 60 "$bin/gpu_step_bench" --model "$models/llama2-7b" --batches 5,8,32 --experts-in-batch 1,2,3,4,5,6,7 \
    --steps 30 --repeats 1
  # All four batches by launches: up to eight rows the step kernel is one launch, whose parts a trace cannot tell apart.
  KERNEL_TRACE=$out/paper-parts.csv CUDA_INJECTION64_PATH=$bin/libgpu_kernel_trace.so stage paper-parts 60 \
    "$bin/gpu_step_bench" --model "$models/llama2-7b" --batches 5,10,20,30 --profile --profile-steps 8 --launches
fi
if wants dense; then
  stage step-bench-dense 60 "$bin/gpu_step_bench" --model "$models/llama2-7b-dense" --batches 1,8,32,128
fi
if wants peers; then
  stage peers 120 env LD_LIBRARY_PATH="$python_libraries" python3 "$work/transformers_peer.py"
fi
if wants router; then
  stage router-cuda 30 "$bin/router_bench" --shape paper --device cuda --prompts 1,11,101,256,401 --json on
  stage router-cpu 60 "$bin/router_bench" --shape paper --threads 1,4 --prompts 1,11,101,256,401 --json on
fi
if wants stream; then
  stage stream 120 "$work/stream_load.sh" "$bin" "$models/llama2-7b" --streams 1,8,32 --prompt 128 --answer 64
fi
if wants slots; then
  stage slots 120 "$bin/expert_slots_bench" --model "${MOE:-$models/llama2-7b}" --device cuda --slots 2,3,5,0 \
    --batches 1,8 --steps 48 --prefill 256
  NCCL_NVLS_ENABLE=0 stage exchange-alone 60 "$bin/expert_slots_bench" --model "${MOE:-$models/llama2-7b}" --device cuda \
    --slots 0 --batches 1,8 --steps 48 --prefill 256 --exchange-alone
fi
if wants serve; then
  NCCL_NVLS_ENABLE=0 stage serve 240 python3 "$work/serve_compare.py" "$bin" "$MOE"
fi
if wants families; then
  for model in "$FAMILIES"/*/; do
    NCCL_NVLS_ENABLE=0 stage "family-$(basename "$model")" 120 python3 "$work/serve_compare.py" "$bin" "$model"
  done
fi
if wants operate; then
  NCCL_NVLS_ENABLE=0 stage operate 120 python3 "$work/operate_check.py" "$bin"
fi
if wants trace; then
  KERNEL_TRACE=$out/trace.csv CUDA_INJECTION64_PATH=$bin/libgpu_kernel_trace.so stage trace 60 \
    "$bin/gpu_step_bench" --model "$models/llama2-7b" --batches 1,8,32,128 --profile
fi
if wants large; then
  stage logits-llama2-7b 300 "$bin/gpu_compare_logits" --model "$models/llama2-7b" --sides cpu-f32,cpu-bf16,cuda-bf16
fi
python3 "$work/report.py" "$out"
tar -C "$out" -czf "$out/logs.tar.gz" --remove-files $(cd "$out" && ls *.log *.json stages.txt card.txt | grep -v '^gpu-') $(cd "$out" && ls ./*.csv 2> /dev/null)
