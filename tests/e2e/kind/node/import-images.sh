#!/bin/bash
# Gives ROOT's containerd the images of ARCHIVE: it is started in ROOT itself, for as long as that takes.
# Usage: import-images.sh ROOT ARCHIVE
set -euo pipefail
root=${1:?a root file system} archive=${2:?an archive of images}
touch "$root/kind/images.tar"
# shellcheck disable=SC2016
exec unshare --mount --pid --fork --kill-child bash -euc '
    mount --bind "$2" "$1/kind/images.tar"
    mount -t tmpfs tmpfs "$1/run"
    mount -t tmpfs tmpfs "$1/tmp"
    mount -t proc proc "$1/proc"
    exec chroot "$1" bash -euc "$3"
' - "$root" "$archive" '
    printf "version = 2\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n" > /tmp/containerd.toml
    containerd --config /tmp/containerd.toml > /tmp/log 2>&1 &
    for _ in {1..600}; do ! ctr version > /dev/null 2>&1 || break; sleep 0.1; done
    ctr --namespace k8s.io images import --no-unpack --digests /kind/images.tar || { cat /tmp/log; exit 1; }
    kill %1
    wait %1 || true
'
