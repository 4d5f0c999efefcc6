#!/usr/bin/env bash
# Fuzzes every format that comes from outside, under AddressSanitizer and UBSan, with libFuzzer.
# usage: scripts/fuzz.sh [--seconds N | --inputs N] [--jobs N] [--list] [FORMAT ...]
#   --seconds N  a format (default: 60)
#   --inputs N   a format, instead of a time: new ones, beside those of its corpus
#   --jobs N     formats at once (default: one a core)
#   --list       the formats' names
# Corpora grow in build/fuzz/corpus/FORMAT from seeds that our own writers make, and are read again by the next run.
# What crashed, took too long or too much memory lies in build/fuzz/findings/FORMAT. Exit status 1 when there is any, or when a format
# ended before its time.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD/build/fuzz
fuzzer=$root/bin/pregate-fuzz
seconds=60
inputs=0
jobs=$(nproc)
list=0
formats=()

usage() { sed -n '2,10p' "$0" | sed 's/^# \{0,1\}//'; }
mistake() { echo "fuzz.sh: $1" >&2; usage >&2; exit 2; }
number() { [[ ${2:-} =~ ^[1-9][0-9]*$ ]] || mistake "$1 needs a number above 0"; }

while [ $# -gt 0 ]; do
  case "$1" in
    --seconds) number "$@"; seconds=$2; inputs=0; shift 2 ;;
    --inputs) number "$@"; inputs=$2; shift 2 ;;
    --jobs) number "$@"; jobs=$2; shift 2 ;;
    --list) list=1; shift ;;
    -h | --help) usage; exit 0 ;;
    -*) mistake "unknown option $1" ;;
    *) formats+=("$1"); shift ;;
  esac
done

scripts/build.sh fuzz pregate-fuzz >&2
names=$("$fuzzer" --list)
[ $list -eq 0 ] || { echo "$names"; exit 0; }
[ ${#formats[@]} -gt 0 ] || mapfile -t formats <<<"$names"
for format in "${formats[@]}"; do
  grep -qx -- "$format" <<<"$names" || mistake "unknown format $format (--list names them)"
done

# Readers of directories write each input: into memory where that is possible.
scratch=$(mktemp -d -p "$([ -w /dev/shm ] && echo /dev/shm || echo /tmp)" pregate-fuzz-XXXXXX)
trap 'rm -rf "$scratch"' EXIT
set -m  # each format is a process group, which ends as a whole
trap 'jobs -p | sed "s/^/-/" | xargs -r kill -- || true; wait; exit 130' INT TERM

fuzz() {  # fuzz FORMAT: its log in build/fuzz/logs, its line of the table on stdout
  local format=$1 corpus=$root/corpus/$1 findings=$root/findings/$1 log=$root/logs/$1.log status=0
  mkdir -p "$corpus" "$findings" "$root/logs"
  TMPDIR=$scratch "$fuzzer" "$format" --seeds "$corpus"
  # libFuzzer counts what it reads from the corpus too.
  local budget=-max_total_time=$seconds begin=$SECONDS
  [ "$inputs" -eq 0 ] || budget=-runs=$((inputs + $(find "$corpus" -type f | wc -l)))
  TMPDIR=$scratch "$fuzzer" "$format" "$budget" -artifact_prefix="$findings/" -print_final_stats=1 -close_fd_mask=1 \
    "$corpus" </dev/null >"$log" 2>&1 || status=$?
  stat() { sed -n "s/^stat::$1: *//p" "$log"; }
  local executed edges outcome=none
  executed=$(stat number_of_executed_units)
  edges=$(grep -ao 'cov: [0-9]*' "$log" | tail -n 1 | cut -d' ' -f2 || true)
  # 72: libFuzzer was told to end; above 128: it was killed.
  if [ $status -eq 72 ] || [ $status -gt 128 ] || { [ $status -eq 0 ] && [ "${executed:-0}" -lt "$inputs" ]; }; then
    outcome="ENDED EARLY: $log" status=1
  elif [ $status -ne 0 ]; then
    outcome="FINDING: $log"
  fi
  printf '%-22s %12s %8s %10s %8s %8s  %s\n' "$format" "${executed:-?}" $((SECONDS - begin)) "$(stat average_exec_per_sec)" \
    "${edges:-?}" "$(stat peak_rss_mb)" "$outcome"
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
