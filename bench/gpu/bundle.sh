#!/usr/bin/env bash
# Packs programs built here for the GPU machine, which has CUDA, NCCL and glibc and nothing else of
# ours (BUILDING: "The GPU machine"): programs, their other shared libraries, run.sh and its tools.
#
#   bench/gpu/bundle.sh [--no-build] [BUILD_DIR [OUT_DIR]]
#
# BUILD_DIR build/gpu (configured here when missing: release with tests), OUT_DIR .bundle. The result
# is OUT_DIR/bundle.tar.xz beside a copy of run.sh; on the GPU machine: OUT_DIR/run.sh.
set -euo pipefail
cd "$(dirname "$0")/../.."

build=true
if [[ ${1:-} == --no-build ]]; then
  build=false
  shift
fi
build_dir=${1:-build/gpu}
out_dir=${2:-.bundle}
programs=(cuda_device_contract_test cuda_wait_limit_test cuda_step_test cuda_step_counts_test nccl_collective_contract_test
          gpu_matmul_probe gpu_step_bench gpu_step_kernel_bench gpu_compare_logits expert_slots_bench stream_bench router_bench
          pregate pregate-router pregate-worker pregate-scheduler)

if $build; then
  if [[ ! -f $build_dir/build.ninja ]]; then
    cmake --preset release -B "$build_dir" -DPREGATE_TESTS=ON -DPREGATE_BENCH=ON -DPREGATE_CUDA=ON
  fi
  cmake --build "$build_dir" --target "${programs[@]}" gpu_kernel_trace
fi

stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
mkdir -p "$stage/bin" "$stage/lib" "$out_dir"
for program in "${programs[@]}"; do
  file=$(find "$build_dir/bin" "$build_dir/tests" -maxdepth 1 -type f -name "$program" | head -1)
  if [[ -z $file ]]; then
    echo "bundle: $program is not built, left out" >&2
    continue
  fi
  cp "$file" "$stage/bin/"
done
# Its own libraries come with it, as programs' do.
[[ ! -f $build_dir/bin/libgpu_kernel_trace.so ]] || cp "$build_dir/bin/libgpu_kernel_trace.so" "$stage/bin/"
source bench/gpu/pack_libraries.sh
pack_libraries "$stage" '/(libc|libm|libdl|libpthread|librt|libresolv|libcublas|libcublasLt|libcudart|libnccl|libcuda)\.so'
cp bench/gpu/run.sh bench/gpu/run_cell.sh bench/gpu/stream_load.sh bench/gpu/*.py "$stage/" 2>/dev/null || true
protoc -I proto --include_imports --descriptor_set_out="$stage/inference.desc" proto/pregate/v1/inference.proto
git describe --always --dirty > "$stage/commit"
tar -C "$stage" -cf - . | xz -T2 -3 > "$out_dir/bundle.tar.xz"
cp bench/gpu/run.sh "$out_dir/run.sh" 2>/dev/null || true
ls -l "$out_dir"
