#!/usr/bin/env bash
# Runs a container's command in a root of its own, as its securityContext asks: read-only, another user, no capabilities.
# Expects to be in fresh mount and network namespaces. The image is this machine's /usr and the programs of BIN.
# usage: sandbox.sh ROOT BIN ETC USER GROUP FSGROUP [HOST_DIR:MOUNT_PATH:ro|rw ...] -- ENV=VALUE ... COMMAND ARGS...
set -euo pipefail
root=$1 bin=$2 etc=$3 user=$4 group=$5 fsgroup=$6
shift 6
mount --make-rprivate /
mount -t tmpfs -o mode=755 pod "$root"
mkdir -p "$root"/{usr,etc,proc,dev,programs}
ln -s usr/bin "$root/bin"
ln -s usr/lib "$root/lib"
ln -s usr/lib64 "$root/lib64"
bind() {  # bind FROM TO ro|rw
  mkdir -p "$root$2"
  mount --bind "$1" "$root$2"
  mount -o "remount,bind,$3" "$root$2"
}
bind /usr /usr ro
bind "$bin" /programs ro
bind "$etc" /etc ro
mount -t proc proc "$root/proc"
for device in null zero urandom; do
  : >"$root/dev/$device"
  mount --bind "/dev/$device" "$root/dev/$device"
done
while [ "$1" != -- ]; do
  IFS=: read -r from to mode <<<"$1"
  bind "$from" "$to" "$mode"
  shift
done
shift
mount -o remount,ro "$root"
exec chroot "$root" /usr/bin/setpriv --reuid "$user" --regid "$group" --groups "$fsgroup" --no-new-privs \
  --bounding-set=-all --inh-caps=-all /usr/bin/env -i PATH=/programs "$@"
