#!/usr/bin/env bash
# Runs a Python test with helm, kubernetes-validate and PyYAML, which it fetches first where they are missing.
# usage: with_tools.sh TEST.py [ARGS...]
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
mkdir -p "$root/.cache"
exec 9>"$root/.cache/tools.lock"
flock 9
"$root/scripts/tools.sh" helm
exec 9>&-
exec "$root/.cache/tools/venv/bin/python" "$@"
