#!/usr/bin/env bash
# Builds the Python package: build/python/pregate-VERSION-py3-none-any.whl, whose path it prints.
# usage: scripts/python_package.sh [OUT_DIR]
# The version is project(VERSION) of CMakeLists.txt; the code of the proto files is made here, so that it is nobody's to keep in step.
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-build/python}
mkdir -p "$out"
out=$(cd "$out" && pwd)
scripts/tools.sh grpc wheel >&2
python=$PWD/.cache/tools/venv/bin/python

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp -r clients/python/{pyproject.toml,README.md,pregate} "$work"
cp LICENSE "$work"
sed -nE 's/^project\(pregate VERSION ([0-9.]+).*/\1/p' CMakeLists.txt >"$work/VERSION"
"$python" -m grpc_tools.protoc -Iproto --python_out="$work" --pyi_out="$work" --grpc_python_out="$work" \
  pregate/v1/inference.proto
touch "$work/pregate/v1/__init__.py"
# Equal sources give an equal wheel.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 315532800)}
export SOURCE_DATE_EPOCH
(cd "$work" && "$python" -m pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation --wheel-dir "$out" .) >&2
ls "$out"/pregate-"$(cat "$work/VERSION")"-py3-none-any.whl
