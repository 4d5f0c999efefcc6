#!/usr/bin/env bash
# Runs a Python test with helm, kubernetes-validate and PyYAML, which it fetches first where they are missing.
# usage: with_tools.sh TEST.py [ARGS...]
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
"$root/scripts/tools.sh" helm
exec "$root/.cache/tools/venv/bin/python" "$@"
