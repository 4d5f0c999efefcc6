#!/usr/bin/env bash
# Proves README's commands on a new machine: each runs on a clone of the last commit in a minimal Debian 12 root of its own, which
# has nothing but apt. Fails where a command fails, or where a test was skipped for want of a program.
# usage: scripts/fresh_machine.sh [--ccache DIR] [COMMAND ...]
#   COMMAND       by default scripts/quickstart.sh and scripts/test.sh; quote one with arguments
#   --ccache DIR  a compiler cache to use, for time's sake
# Needs root, 12 GB of disk under TMPDIR (default /var/tmp), and without a cache most of an hour on two cores.
set -euo pipefail
cd "$(dirname "$0")/.."
cache=
commands=()
while [ $# -gt 0 ]; do
  case "$1" in
    --ccache) cache=$(realpath "${2:?--ccache needs a folder}"); shift ;;
    -*) sed -n '4,6p' "$0" | sed 's/^# \{0,1\}//' >&2; exit 2 ;;
    *) commands+=("$1") ;;
  esac
  shift
done
[ ${#commands[@]} -gt 0 ] || commands=(scripts/quickstart.sh scripts/test.sh)
[ "$(id -u)" -eq 0 ] || { echo "fresh_machine.sh: not root" >&2; exit 1; }
scripts/deps.sh fresh

work=$(mktemp -d -p "${TMPDIR:-/var/tmp}" pregate-fresh.XXXXXX)
trap 'rm -rf "$work"' EXIT
scripts/fresh_root.sh make "$work/base"
echo "fresh machine: $(du -sm "$work/base" | cut -f1) MB, $(dpkg-query --admindir="$work/base/var/lib/dpkg" -W | wc -l) packages"

failed=0
for command in "${commands[@]}"; do
  root=$work/root
  cp -a "$work/base" "$root"
  git clone --quiet --no-local . "$root/root/pregate"
  if [ -n "$cache" ]; then
    mkdir -p "$root/root/.cache"
    cp -a "$cache" "$root/root/.cache/ccache"
  fi
  echo "fresh machine: $command"
  begun=$SECONDS
  if ! scripts/fresh_root.sh enter "$root" bash -c "cd /root/pregate && $command" 2>&1 | tee "$work/log"; then failed=1; fi
  echo "fresh machine: $command took $((SECONDS - begun)) s"
  # A clone without ../shared, and a machine that may not nest containers or networks, are no missing step.
  if grep -E '^ *[0-9]+ skipped: (no program|scripts/)' "$work/log"; then
    echo "fresh machine: nothing installed what these tests need" >&2
    failed=1
  fi
  rm -rf "$root"
done
exit $failed
