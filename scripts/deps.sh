#!/usr/bin/env bash
# Installs what pregate needs on Debian 12. usage: scripts/deps.sh [GROUP ...]   (default: build, which every group implies)
#   build           compiler, CMake, gRPC and the other libraries of the services
#   test            what the tests are built with, and what most suites run with
#   fuzz            clang and libFuzzer for scripts/fuzz.sh
#   refactor        LibTorch for `pregate refactor` (1.5 GB installed), and a BLAS library that is fast on a CPU
#   fetch           pip, which the quickstart gets its model with
#   venv            venv, which scripts/tools.sh keeps its Python packages in
#   monitoring      Prometheus and promtool; the service is switched off if it was not there before
#   browser         Chromium, which looks at the gateway's page
#   images          what makes and runs container images
#   images-context  what makes their contents, without buildah and podman
#   package         what makes the Debian package
#   fresh           what makes a minimal Debian root, to try things as on a new machine
set -euo pipefail

declare -A groups=(
  [build]="g++ cmake ninja-build ccache pkg-config libgrpc++-dev libgrpc-dev protobuf-compiler
    protobuf-compiler-grpc libprotobuf-dev libabsl-dev libre2-dev libc-ares-dev libssl-dev
    prometheus-cpp-dev nlohmann-json3-dev libspdlog-dev
    libhwy-dev libpcre2-dev libonig-dev libutf8proc-dev libgloo-dev libtomlplusplus-dev libboost1.81-dev libxxhash-dev python3 ca-certificates"
  [test]="libgtest-dev libgmock-dev libbenchmark-dev libsentencepiece-dev curl iproute2 iptables procps mount"
  [fuzz]="clang-14 libclang-rt-14-dev"
  [refactor]="libtorch-dev libopenblas0-pthread"
  [fetch]="python3-pip"
  [venv]="python3-venv"
  [monitoring]="prometheus"
  [browser]="chromium fonts-dejavu-core"
  [images]="binutils dpkg-dev patchelf buildah podman runc netavark aardvark-dns iptables shellcheck"
  [images-context]="binutils dpkg-dev patchelf"
  [package]="binutils dpkg-dev file"
  [fresh]="mmdebstrap git"
)

packages=()
for group in build "$@"; do
  [ -n "${groups[$group]:-}" ] || { echo "deps.sh: unknown group '$group' (${!groups[*]})" >&2; exit 2; }
  read -r -d '' -a of_group <<<"${groups[$group]}" || true
  packages+=("${of_group[@]}")
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
