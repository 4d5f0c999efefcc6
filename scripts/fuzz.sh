#!/usr/bin/env bash
# Fuzzes every format that comes from outside, under AddressSanitizer and UBSan, with libFuzzer.
# usage: scripts/fuzz.sh [--seconds N | --inputs N] [--jobs N] [--list] [FORMAT ...]
#   --seconds N  a format (default: 60)
#   --inputs N   a format, instead of a time
#   --jobs N     formats at once (default: one a core)
#   --list       the formats' names
# Corpora grow in build/fuzz/corpus/FORMAT from seeds that our own writers make, and are read again by the next run.
# What crashed, took too long or too much memory lies in build/fuzz/findings/FORMAT. Exit status 1 when there is any.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD/build/fuzz
fuzzer=$root/bin/pregate-fuzz
budget=(-max_total_time=60)
jobs=$(nproc)
list=0
formats=()

usage() { sed -n '2,9p' "$0" | sed 's/^# \{0,1\}//'; }
mistake() { echo "fuzz.sh: $1" >&2; usage >&2; exit 2; }
number() { [[ ${2:-} =~ ^[1-9][0-9]*$ ]] || mistake "$1 needs a number above 0"; }

while [ $# -gt 0 ]; do
  case "$1" in
    --seconds) number "$@"; budget=(-max_total_time="$2"); shift 2 ;;
    --inputs) number "$@"; budget=(-runs="$2"); shift 2 ;;
    --jobs) number "$@"; jobs=$2; shift 2 ;;
    --list) list=1; shift ;;
    -h | --help) usage; exit 0 ;;
    -*) mistake "unknown option $1" ;;
    *) formats+=("$1"); shift ;;
  esac
done

scripts/build.sh fuzz pregate-fuzz >&2
mapfile -t all < <("$fuzzer" --list)
[ $list -eq 0 ] || { printf '%s\n' "${all[@]}"; exit 0; }
[ ${#formats[@]} -gt 0 ] || formats=("${all[@]}")
for format in "${formats[@]}"; do
  printf '%s\n' "${all[@]}" | grep -qx -- "$format" || mistake "unknown format $format (--list names them)"
done

# Readers of directories write each input: into memory where that is possible.
scratch=$(mktemp -d -p "$([ -w /dev/shm ] && echo /dev/shm || echo /tmp)" pregate-fuzz-XXXXXX)
trap 'rm -rf "$scratch"' EXIT
trap 'exit 130' INT TERM

fuzz() {  # fuzz FORMAT: its log in build/fuzz/logs, its line of the table on stdout
  local format=$1 corpus=$root/corpus/$1 findings=$root/findings/$1 log=$root/logs/$1.log status=0
  mkdir -p "$corpus" "$findings" "$root/logs"
  TMPDIR=$scratch "$fuzzer" "$format" --seeds "$corpus"
  local start=$SECONDS
  TMPDIR=$scratch "$fuzzer" "$format" "${budget[@]}" -artifact_prefix="$findings/" -print_final_stats=1 \
    -timeout_exitcode=77 -close_fd_mask=1 "$corpus" </dev/null >"$log" 2>&1 || status=$?
  stat() { sed -n "s/^stat::$1: *//p" "$log"; }
  local inputs coverage
  inputs=$(stat number_of_executed_units)
  coverage=$(grep -o 'cov: [0-9]*' "$log" | tail -n 1 | cut -d' ' -f2 || true)
  printf '%-22s %12s %8s %10s %8s %8s  %s\n' "$format" "${inputs:-?}" $((SECONDS - start)) \
    "$(stat average_exec_per_sec)" "${coverage:-?}" "$(stat peak_rss_mb)" "$([ $status -eq 0 ] && echo none || echo "FINDING: $log")"
  return $status
}

printf '%-22s %12s %8s %10s %8s %8s  %s\n' format inputs seconds inputs/s edges MiB findings
failed=0
running=0
for format in "${formats[@]}"; do
  if [ $running -eq "$jobs" ]; then
    wait -n || failed=1
    running=$((running - 1))
  fi
  fuzz "$format" &
  running=$((running + 1))
done
while [ $running -gt 0 ]; do
  wait -n || failed=1
  running=$((running - 1))
done
exit $failed
