#!/usr/bin/env bash
# Builds a container image with pregate's four programs on a minimal Debian root, without a registry or a Docker engine.
# usage: deploy/images/build.sh [cpu|cuda] [--demo] [--tag NAME:TAG] [--bin DIR] [--context-only]
#   cpu | cuda      the variant (default cpu); cuda adds cuBLASLt, the CUDA runtime and NCCL
#   --demo          adds the demo model (987 MB, fetched by scripts/demo_model.sh), which the Helm chart serves by default
#   --tag           default pregate:VERSION-VARIANT, with --demo pregate:VERSION-VARIANT-demo
#   --bin DIR       take the programs from there; default: build them in build/image-VARIANT
#   --context-only  stop before the image and print the context's folder, for `docker build` and others
# SOURCE_DATE_EPOCH is the time of all files (default: the commit's). Equal programs and packages give an equal image.
set -euo pipefail
umask 022
cd "$(dirname "$0")/../.."

programs=(pregate pregate-router pregate-worker pregate-scheduler pregate-gateway)
version=$(sed -n 's/^project(pregate VERSION \([0-9.]*\).*/\1/p' CMakeLists.txt)
revision=$(git rev-parse HEAD 2>/dev/null || echo unknown)
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}

variant=cpu
demo=false
tag=
bin=
context_only=false
while [ $# -gt 0 ]; do
  case "$1" in
    cpu | cuda) variant=$1 ;;
    --demo) demo=true ;;
    --tag) tag=${2:?--tag needs NAME:TAG}; shift ;;
    --bin) bin=$(realpath "${2:?--bin needs a folder}"); shift ;;
    --context-only) context_only=true ;;
    *) sed -n '3,8p' "$0" | sed 's/^# \{0,1\}//' >&2; exit 2 ;;
  esac
  shift
done
demo_model=usr/share/pregate/models/smollm2-135m-moe5  # in the image; the chart's pods look for it there
if $demo; then tag=${tag:-pregate:$version-$variant-demo}; else tag=${tag:-pregate:$version-$variant}; fi
say() { echo "images: $*" >&2; }

build_programs() {
  local cuda=OFF
  [ "$variant" = cuda ] && cuda=ON
  bin=build/image-$variant/bin
  scripts/deps.sh build
  mkdir -p "build/image-$variant"
  cmake -B "build/image-$variant" --preset release -DPREGATE_BENCH=OFF -DPREGATE_CUDA=$cuda >"build/image-$variant/configure.log" 2>&1 ||
    { cat "build/image-$variant/configure.log" >&2; return 1; }
  cmake --build "build/image-$variant" --target "${programs[@]}" >&2
}

# A program linked to CUDA does not start without its libraries, and one that is not serves no card.
check_variant() {
  local linked=cpu libraries
  libraries=$(ldd "$bin/pregate-worker")
  if grep -qE 'libcudart|libcublas|libnccl' <<<"$libraries"; then linked=cuda; fi
  [ "$linked" = "$variant" ] && return
  say "variant $variant, but $bin/pregate-worker is built for $linked (PREGATE_CUDA)"
  return 1
}

# pack DIR ARCHIVE: equal files give equal bytes.
pack() {
  tar --create --file "$2" --directory "$1" --format=gnu --sort=name --owner=0 --group=0 \
    --numeric-owner --mode=u=rwX,go=rX --mtime="@$SOURCE_DATE_EPOCH" .
}

make_context() {
  local stage program
  stage=$(mktemp -d)
  # shellcheck disable=SC2064
  trap "rm -rf '$stage'" EXIT
  mkdir -p "$stage/usr/bin"
  for program in "${programs[@]}"; do
    [ -x "$bin/$program" ] || { say "no program $bin/$program"; return 1; }
    # The build folder's search path for libraries means nothing in an image.
    strip -o "$stage/usr/bin/$program" "$bin/$program"
    patchelf --remove-rpath "$stage/usr/bin/$program"
  done
  rm -rf "$context"
  mkdir -p "$context"
  pack "$stage" "$context/programs.tar"
  mkdir -p "$stage/demo"
  if $demo; then
    local model
    model=$(scripts/demo_model.sh "$bin")
    mkdir -p "$stage/demo/$demo_model"
    cp --link "$model"/* "$stage/demo/$demo_model/" 2>/dev/null || cp "$model"/* "$stage/demo/$demo_model/"
  fi
  pack "$stage/demo" "$context/demo.tar"
  deploy/images/rootfs.sh "$context" "${programs[@]/#/$bin/}"
  cp deploy/images/Containerfile "$context/"
}

if $context_only; then scripts/deps.sh images-context; else scripts/deps.sh images; fi
[ -n "$bin" ] || build_programs
check_variant
context=build/image-context-$variant
say "Debian root, libraries and programs into $context"
make_context
if $context_only; then
  echo "$context"
  exit 0
fi

say "image $tag"
devices=void
[ "$variant" = cuda ] && devices=all
# The docker format, because OCI's has no HEALTHCHECK.
buildah build --quiet --isolation chroot --format docker --layers --timestamp "$SOURCE_DATE_EPOCH" --tag "$tag" \
  --build-arg VERSION="$version" --build-arg REVISION="$revision" --build-arg VARIANT="$variant" \
  --build-arg VISIBLE_DEVICES="$devices" "$context" >/dev/null
rm -rf "$context"
echo "$tag"
