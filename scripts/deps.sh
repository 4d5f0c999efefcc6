#!/usr/bin/env bash
# Installs what pregate needs on Debian 12. usage: scripts/deps.sh [GROUP ...]   (default: build)
#   build     compiler, CMake, gRPC and the other libraries of the services
#   test      build, plus what the test suites use
#   refactor  build, plus LibTorch for `pregate refactor` (1.5 GB installed)
#   fetch     build, plus pip, which the quickstart gets its model with
#   venv      build, plus venv, which scripts/tools.sh keeps its Python packages in
#   monitoring  build, plus Prometheus and promtool; its service is switched off if it was not there before
set -euo pipefail

build=(g++ cmake ninja-build ccache pkg-config libgrpc++-dev libgrpc-dev protobuf-compiler
  protobuf-compiler-grpc libprotobuf-dev libabsl-dev libre2-dev libc-ares-dev libssl-dev
  prometheus-cpp-dev libcpp-httplib-dev nlohmann-json3-dev libspdlog-dev libcli11-dev
  libhwy-dev libpcre2-dev libgloo-dev python3 ca-certificates)
test=(libgtest-dev libgmock-dev libbenchmark-dev libsentencepiece-dev)
refactor=(libtorch-dev)
fetch=(python3-pip)
venv=(python3-venv)
monitoring=(prometheus)

packages=("${build[@]}")
for group in "$@"; do
  case "$group" in
    build) ;;
    test) packages+=("${test[@]}") ;;
    refactor) packages+=("${refactor[@]}") ;;
    fetch) packages+=("${fetch[@]}") ;;
    monitoring) packages+=("${monitoring[@]}") ;;
    venv) packages+=("${venv[@]}") ;;
    *) echo "deps.sh: unknown group '$group' (build, test, refactor, fetch, venv, monitoring)" >&2; exit 2 ;;
  esac
done

missing=()
for p in "${packages[@]}"; do
  dpkg-query -W -f='${db:Status-Status}\n' "$p" 2>/dev/null | grep -q '^installed$' || missing+=("$p")
done
[ ${#missing[@]} -eq 0 ] && exit 0

sudo=""
[ "$(id -u)" -eq 0 ] || sudo=sudo
echo "deps: installing ${#missing[@]} Debian packages: ${missing[*]}"
$sudo apt-get update -qq
DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null

# Tests start a Prometheus of their own; the package would leave one running on port 9090.
if [[ " ${missing[*]} " == *" prometheus "* && -d /run/systemd/system ]]; then
  $sudo systemctl disable --quiet --now prometheus
fi
