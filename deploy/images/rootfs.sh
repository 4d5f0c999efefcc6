#!/usr/bin/env bash
# Makes a minimal Debian root, as a tar archive, with the shared libraries that programs need.
# usage: deploy/images/rootfs.sh OUT_DIR PROGRAM...
#   writes OUT_DIR/rootfs.tar, and OUT_DIR/cuda.tar with the CUDA libraries among them, which no Debian package owns
#
# The packages are those that own the libraries which ldd names, and base-files. They come from this machine's apt sources
# in the newest version there, so building again is how an image gets Debian's security updates. Their archives are only
# extracted: no maintainer script runs, so there is no shell, no dpkg and no apt inside. dpkg's database is written as dpkg
# would, for scanners and for `dpkg --root DIR --verify`; what is left out of a package (below) is left out of its list.
set -euo pipefail
umask 022
out=${1:?usage: deploy/images/rootfs.sh OUT_DIR PROGRAM...}
shift
[ $# -gt 0 ] || { echo "rootfs.sh: no program given" >&2; exit 2; }
epoch=${SOURCE_DATE_EPOCH:?rootfs.sh: SOURCE_DATE_EPOCH must be set, the time of every file that is made here}

# Documentation, translations, and glibc's converters between character sets, which nothing here calls.
leave_out=(--wildcards --exclude='./usr/share/man' --exclude='./usr/share/locale' --exclude='./usr/share/lintian'
  --exclude='./usr/share/bug' --exclude='./usr/lib/*/gconv')
cuda_names='^lib(cudart|cublas|cublasLt|nccl|nvJitLink|nvrtc)\.so'

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root
admin=$root/var/lib/dpkg

# "SONAME PATH" of every library, direct or not.
needed_libraries() {
  local program listing
  for program in "$@"; do
    listing=$(ldd "$program")
    if grep -q 'not found' <<<"$listing"; then
      echo "rootfs.sh: $program needs libraries that this machine lacks:" >&2
      grep 'not found' <<<"$listing" >&2
      return 1
    fi
    awk '$2 == "=>" {print $1, $3}' <<<"$listing"
  done | LC_ALL=C sort -u
}

# The packages that own the libraries whose paths are on stdin; one search of dpkg's database for all, since it is slow.
# /lib is a link to /usr/lib, and packages list their files under either.
packages_of() {
  local real candidates=() found owned
  while read -r real; do candidates+=("$real" "${real#/usr}"); done
  found=$(dpkg-query -S "${candidates[@]}" 2>/dev/null || true)
  owned=$(awk -F': ' '{print $NF}' <<<"$found")
  for real in "${candidates[@]}"; do
    grep -qxF -e "/usr${real#/usr}" -e "${real#/usr}" <<<"$owned" ||
      { echo "rootfs.sh: no Debian package owns $real" >&2; return 1; }
  done
  cut -d: -f1 <<<"$found" | LC_ALL=C sort -u
}

make_skeleton() {
  local dir
  mkdir -p "$admin/info" "$admin/updates"
  for dir in bin sbin lib lib64; do
    mkdir -p "$root/usr/$dir"
    ln -s "usr/$dir" "$root/$dir"
  done
  printf '1\n' >"$admin/info/format"
  : >"$admin/status"
  : >"$admin/available"
}

# The part of a package's file list, or of its checksums, that is in the root.
keep_present() {  # keep_present PREFIX_PATTERN: filters lines of stdin that are a path behind that prefix
  local line path
  while IFS= read -r line; do
    # shellcheck disable=SC2295
    path=${line#$1}  # a pattern
    if [ -e "$root/${path#/}" ] || [ -L "$root/${path#/}" ]; then printf '%s\n' "$line"; fi
  done
}

install_package() {  # install_package DEB
  local deb=$1 name
  dpkg-deb --fsys-tarfile "$deb" | tar -x -C "$root" --keep-directory-symlink "${leave_out[@]}"
  name=$(dpkg-deb --field "$deb" Package)
  if [ "$(dpkg-deb --field "$deb" Multi-Arch)" = same ]; then name+=:$(dpkg-deb --field "$deb" Architecture); fi
  find "$root/usr/share/doc" -mindepth 2 ! -name copyright \( -type f -o -type l \) -delete
  dpkg-deb --field "$deb" | sed '1a Status: install ok installed' >>"$admin/status"
  printf '\n' >>"$admin/status"
  dpkg-deb --fsys-tarfile "$deb" | tar -t | sed -e 's|^\./|/|' -e 's|/$||' -e 's|^$|/.|' |
    keep_present "" >"$admin/info/$name.list"
  dpkg-deb --ctrl-tarfile "$deb" | tar -x -O ./md5sums | keep_present '*  ' >"$admin/info/$name.md5sums"
}

add_user() {  # programs run as 65532; root is there because tools expect it
  printf 'root:x:0:0:root:/:/usr/sbin/nologin\npregate:x:65532:65532:pregate:/:/usr/sbin/nologin\n' >"$root/etc/passwd"
  printf 'root:x:0:\npregate:x:65532:\n' >"$root/etc/group"
  printf 'passwd: files\ngroup: files\nhosts: files dns\n' >"$root/etc/nsswitch.conf"
}

pack() {  # pack DIR ARCHIVE [TAR_OPTION ...]: equal trees give equal bytes
  tar --create --file "$2" --directory "$1" --format=gnu --sort=name --owner=0 --group=0 --numeric-owner \
    --mtime="@$epoch" "${@:3}" .
}

libraries=$(needed_libraries "$@")
packages=$(grep -vE "$cuda_names" <<<"$libraries" | cut -d' ' -f2 | xargs realpath | packages_of)
mkdir -p "$out" "$work/debs"
out=$(realpath "$out")

sudo=""
[ "$(id -u)" -eq 0 ] || sudo=sudo
$sudo apt-get update -qq
# shellcheck disable=SC2086
(cd "$work/debs" && apt-get download -qq -o APT::Sandbox::User= base-files $packages >/dev/null)

make_skeleton
for deb in "$work"/debs/*.deb; do install_package "$deb"; done
add_user
pack "$root" "$out/rootfs.tar"

# The vendor's libraries go to glibc's default folder, where they are found without a linker cache. The driver's,
# libcuda.so.1, comes from the host.
folder=$work/cuda/usr/lib/$(dpkg-architecture -qDEB_HOST_MULTIARCH)
mkdir -p "$folder"
{ grep -E "$cuda_names" <<<"$libraries" || true; } | while read -r soname path; do ln -s "$(realpath "$path")" "$folder/$soname"; done
pack "$work/cuda" "$out/cuda.tar" --dereference --mode=u=rwX,go=rX
