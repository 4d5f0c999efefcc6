#!/usr/bin/env bash
# Keeps the API in shape (buf: fetched by scripts/tools.sh).
# usage: scripts/proto.sh lint | breaking | baseline [--break]
#   lint      style, as proto/buf.yaml says
#   breaking  refuses what an older client, or another program of the cluster, would stumble over: proto/ against proto/baseline
#   baseline  renews proto/baseline from proto/: at a release, in the commit that names it; what has been added since is
#             promised from then on. Runs `breaking` first; --break leaves that out, for a break that CHANGELOG.md announces
# PREGATE_PROTO_DIR names another folder than proto/ (the tests' changed copies).
set -euo pipefail
cd "$(dirname "$0")/.."

usage() { sed -n '3,8p' "$0" | sed 's/^# \{0,1\}//' >&2; exit 2; }
proto=${PREGATE_PROTO_DIR:-proto}

buf() {
  scripts/tools.sh buf >&2
  "$PWD/.cache/tools/bin/buf" "$@"
}
breaking() { buf breaking "$proto" --against "$proto/baseline"; }

# The promise is names, numbers and types. Without comments the frozen copy is a third of the size, and what a renewal
# changes is what is promised anew. (No string in these files has a "//".)
baseline() {
  rm -rf "$proto/baseline"
  (cd "$proto" && find grpc pregate -name '*.proto') | sort | while read -r file; do
    mkdir -p "$proto/baseline/$(dirname "$file")"
    sed -E 's@[[:space:]]*//.*@@; /^[[:space:]]*$/d' "$proto/$file" >"$proto/baseline/$file"
  done
  printf '# Frozen: scripts/proto.sh baseline writes this folder.\nversion: v2\n' >"$proto/baseline/buf.yaml"
  buf build "$proto/baseline" -o /dev/null
}

case "${1:-}" in
  lint) [ $# -eq 1 ] || usage; buf lint "$proto" ;;
  breaking) [ $# -eq 1 ] || usage; breaking ;;
  baseline)
    case "${2:-}" in
      "") breaking ;;
      --break) ;;
      *) usage ;;
    esac
    baseline
    ;;
  *) usage ;;
esac
