#!/usr/bin/env bash
# Builds and tests everything; a ctest summary comes last.
# usage: scripts/test.sh [--fast]     --fast: the unit and contract suites of the debug preset only
# PREGATE_SHARED_DIR names a folder with golden cases and texts (default: ../shared); without it those tests are skipped.
set -euo pipefail
cd "$(dirname "$0")/.."
fast=false
case "${1:-}" in
  --fast) fast=true ;;
  "") ;;
  *) echo "usage: scripts/test.sh [--fast]" >&2; exit 2 ;;
esac
jobs=$(nproc)
failed=0

run_suite() {  # run_suite PRESET CTEST_ARGS...
  local preset=$1
  shift
  echo "== $preset: build"
  scripts/build.sh "$preset"
  echo "== $preset: test $*"
  ctest --test-dir "build/$preset" --output-on-failure "$@" || failed=1
}

if $fast; then
  run_suite debug -L 'unit|contract' -j "$jobs"
  exit $failed
fi
# Sanitizers first, so that the summary of the full suite is the last thing printed.
run_suite tsan -L 'unit|contract|sim' -j "$jobs"
run_suite asan-ubsan -L 'unit|contract|sim|integration' -LE slow
run_suite debug -L 'unit|contract|sim' -j "$jobs"
run_suite debug -L 'integration'
exit $failed
