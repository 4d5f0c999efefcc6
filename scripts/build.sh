#!/usr/bin/env bash
# Configures and builds one CMake preset; programs land in build/PRESET/bin.
# usage: scripts/build.sh PRESET [target ...]      presets: core debug asan-ubsan fuzz tsan release refactor cuda
set -euo pipefail
cd "$(dirname "$0")/.."
preset=${1:?usage: scripts/build.sh PRESET [target ...]}
shift
groups=(build)
case "$preset" in
  release) ;;
  refactor) groups+=(refactor) ;;
  debug | cuda) groups+=(test refactor) ;;
  fuzz) groups+=(test fuzz) ;;
  *) groups+=(test) ;;
esac
scripts/deps.sh "${groups[@]}"
mkdir -p "build/$preset"
cmake --preset "$preset" >"build/$preset/configure.log" 2>&1 || { cat "build/$preset/configure.log" >&2; exit 1; }
cmake --build "build/$preset" ${1:+--target "$@"}
