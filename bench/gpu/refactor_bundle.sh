#!/usr/bin/env bash
# Packs what refactor_run.sh needs on a machine with a card and PyTorch but without our libraries: pregate-refactor built against
# that PyTorch's LibTorch, the test of its fused operations, pregate, their other shared libraries, the texts and the dense model.
#
#   bench/gpu/refactor_bundle.sh TORCH_DIR DENSE.gguf TEXTS TASKS [OUT_DIR]
#
# TORCH_DIR: the folder `torch` of a PyTorch of the version that the machine has (its headers and lib/ are used; it need not
# run here). TEXTS: a folder as --corpus takes it; TASKS: one with .jsonl files for `pregate eval task`. OUT_DIR is .bundle-refactor:
# bundle.tar.xz, and the model in parts of 25 MB (model.part.*), which may be brought one by one.
set -euo pipefail
cd "$(dirname "$0")/../.."
torch=$(realpath "${1:?usage: bench/gpu/refactor_bundle.sh TORCH_DIR DENSE.gguf TEXTS TASKS [OUT_DIR]}")
dense=$(realpath "${2:?DENSE.gguf}")
texts=$(realpath "${3:?TEXTS}")
tasks=$(realpath "${4:?TASKS}")
out_dir=${5:-.bundle-refactor}
build_dir=build/refactor-torch

cmake --preset refactor -B "$build_dir" -DPREGATE_TORCH_DIR="$torch" -DPREGATE_CUDA=ON -DPREGATE_TESTS=ON > /dev/null
cmake --build "$build_dir" --target pregate-refactor pregate refactor_fused_ops_test

stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
mkdir -p "$stage/bin" "$stage/lib" "$out_dir"
cp "$build_dir"/bin/pregate-refactor "$build_dir"/bin/pregate "$build_dir"/tests/refactor_fused_ops_test "$stage/bin/"
source bench/gpu/pack_libraries.sh
LD_LIBRARY_PATH=$torch/lib pack_libraries "$stage" \
  "^$torch/|/cuda|/lib(cu|nv|nccl)|/(libc|libm|libdl|libpthread|librt|libresolv|libgomp|libstdc\+\+|libgcc_s)\.so"
cp -r "$texts" "$stage/texts"
cp -r "$tasks" "$stage/tasks"
git describe --always --dirty > "$stage/commit"
tar -C "$stage" -cf - . | xz -T2 -3 > "$out_dir/bundle.tar.xz"
rm -f "$out_dir"/model.part.*
split --bytes=25M --suffix-length=1 "$dense" "$out_dir/model.part."
cp bench/gpu/refactor_run.sh "$out_dir/"
ls -l "$out_dir"
