#!/usr/bin/env bash
# Builds the Debian package (CPU device; build/package) and prints its path. `apt-get install ./FILE` brings the libraries it needs.
# usage: scripts/package.sh
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/deps.sh package >&2
scripts/build.sh package >&2
cpack --config build/package/CPackConfig.cmake -B build/package/deb >&2
ls "$PWD"/build/package/deb/*.deb
