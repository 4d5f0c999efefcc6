#!/usr/bin/env bash
# Builds and tests; a ctest summary comes last.
# usage: scripts/test.sh [--fast | --sanitizers | --suite LABEL]
#   (none)        every suite of the debug preset
#   --fast        its unit, contract and fuzz suites only
#   --suite LABEL the tests of one label: unit, contract, fuzz, sim, integration, security, tokenizer, gguf, chart, images, monitoring, clients,
#                 docs, package
#   --sanitizers  TSan over the preset without gRPC, ASan+UBSan over all suites, then the same as without a flag
# PREGATE_SHARED_DIR names a folder with golden cases and texts (default: ../shared); without it those tests are skipped, or use texts of their own (tokenizer).
set -euo pipefail
cd "$(dirname "$0")/.."
jobs=$(nproc)
failed=0

# What a suite runs with, beyond what it is built with: groups of scripts/deps.sh, by label. Python packages and other
# tools are fetched by the tests themselves (scripts/tools.sh).
declare -A needs=([chart]=venv [clients]="venv browser" [images]="venv images" [monitoring]=monitoring
  [docs]="venv images monitoring" [package]="package fresh")

install() {  # install LABEL...: a machine that cannot install skips what needs it
  local groups=() label
  for label in "$@"; do
    # shellcheck disable=SC2206
    groups+=(${needs[$label]:-})
  done
  [ ${#groups[@]} -eq 0 ] || scripts/deps.sh "${groups[@]}" || echo "test.sh: suites that lack a program are skipped" >&2
}

run_suite() {  # run_suite PRESET CTEST_ARGS...
  local preset=$1
  shift
  echo "== $preset: build"
  scripts/build.sh "$preset"
  echo "== $preset: test $*"
  ctest --test-dir "build/$preset" --output-on-failure -j "$jobs" "$@" || failed=1
  # CTest names what was skipped, but not why.
  grep -h '^skipped: ' "build/$preset/Testing/Temporary/LastTest.log" | sort | uniq -c || true
}

case "${1:-}" in
  --fast) run_suite debug -L 'unit|contract|fuzz' ;;
  --suite)
    install "${2:?--suite needs a label}"
    run_suite debug --no-tests=error -L "^$2\$"
    ;;
  --sanitizers)
    install "${!needs[@]}"
    run_suite tsan
    run_suite asan-ubsan
    run_suite debug
    ;;
  "")
    install "${!needs[@]}"
    run_suite debug
    ;;
  *) sed -n '3,9p' "$0" | sed 's/^# \{0,1\}//' >&2; exit 2 ;;
esac
exit $failed
