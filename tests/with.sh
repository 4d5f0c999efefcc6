#!/usr/bin/env bash
# Runs a test where what it needs is there; elsewhere says what is missing and ends with 77, which CTest calls skipped.
# usage: with.sh NEED ... -- COMMAND      NEED: a program, or tools:GROUP, which scripts/tools.sh fetches
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
PATH=$PATH:/usr/sbin:/sbin # where Debian keeps ip, iptables and runc
skip() { echo "skipped: $*"; exit 77; }

while [ "$1" != -- ]; do
  case "$1" in
    tools:*)
      log=$("$root/scripts/tools.sh" "${1#tools:}" 2>&1) || skip "scripts/tools.sh ${1#tools:}: $(tail -n 1 <<<"$log")"
      ;;
    *) command -v "$1" >/dev/null || skip "no program $1 (scripts/test.sh installs it)" ;;
  esac
  shift
done
shift
exec "$@"
