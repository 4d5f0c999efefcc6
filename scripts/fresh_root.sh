#!/usr/bin/env bash
# Makes a minimal Debian 12 root as a new machine has it, with this machine's package sources, certificates and name service; or
# runs a command in one, with file systems and processes of its own and this machine's network. Needs root and mmdebstrap.
# usage: scripts/fresh_root.sh make DIR
#        scripts/fresh_root.sh enter DIR COMMAND...
set -euo pipefail
usage() { sed -n '4,5p' "$0" | sed 's/^# \{0,1\}//' >&2; exit 2; }

make_root() {
  local sources file
  sources=$(mktemp)
  # shellcheck disable=SC2064
  trap "rm -f '$sources'" EXIT
  # shellcheck disable=SC2016  # apt's own variables
  apt-get indextargets --format 'deb $(SITE) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' 'Origin: Debian' >"$sources"
  [ -s "$sources" ] || { echo "fresh_root.sh: apt has no lists of Debian packages; run apt-get update" >&2; return 1; }
  mmdebstrap --quiet --variant=minbase bookworm "$1" "$sources"
  # What this machine needs to reach the registries, and nothing else of it.
  for file in /etc/resolv.conf /etc/hosts /etc/pip.conf; do
    [ ! -e "$file" ] || cp --dereference "$file" "$1$file"
  done
  for file in /etc/apt/apt.conf.d/*; do
    ! grep -qi '^ *acquire::' "$file" 2>/dev/null || cp "$file" "$1$file"
  done
  mkdir -p "$1/usr/local/share/ca-certificates"
  find /usr/local/share/ca-certificates -name '*.crt' -exec cp {} "$1/usr/local/share/ca-certificates/" \; 2>/dev/null
}

# The environment of a login, and what names proxies and certificates.
enter() {
  local root=$1 variable passed=()
  shift
  while IFS= read -r variable; do passed+=("$variable"); done < <(env | grep -iE '^((http|https|no)_proxy|pip_[a-z_]*|ssl_cert_[a-z]*)=' || true)
  # shellcheck disable=SC2016
  exec unshare --mount --pid --fork --kill-child --mount-proc bash -ec '
    root=$1; shift
    mount --make-rprivate /
    mount --bind "$root" "$root"
    mount -t proc proc "$root/proc"
    mount --rbind /sys "$root/sys"
    mount --rbind /dev "$root/dev"
    mount -t tmpfs tmpfs "$root/run"
    mkdir -p "$root/.old"
    cd "$root"
    pivot_root . .old
    umount -l /.old
    exec "$@"' bash "$root" /usr/bin/env -i HOME=/root TERM="${TERM:-dumb}" LANG=C.UTF-8 \
    PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "${passed[@]}" "$@"
}

case "${1:-}" in
  make) [ $# -eq 2 ] || usage; make_root "$2" ;;
  enter) [ $# -ge 3 ] || usage; shift; enter "$@" ;;
  *) usage ;;
esac
