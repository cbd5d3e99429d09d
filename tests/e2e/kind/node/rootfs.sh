#!/bin/bash
# Makes ROOT, a node's root file system, of Debian packages and the files beside this script.
# Usage: rootfs.sh ROOT PAUSE, where PAUSE names the image of pods' sandboxes
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=${1:?a folder} pause=${2:?an image}

# bookworm: the systemd of later releases does not start in a container of a machine with cgroups v1.
packages=systemd,systemd-sysv,containerd,runc,containernetworking-plugins,iptables,iproute2,kmod,mount,procps
mmdebstrap --mode=root --variant=minbase --format=directory --quiet \
    --aptopt='APT::Install-Recommends "false"' --aptopt='Acquire::Languages "none"' \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' \
    --include="$packages" bookworm "$root" "$("$here/../../../lab/image/debian-source.sh" bookworm)"
rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/* "$root"/var/log/*

# Of what systemd would start, the journal alone is left: a node's container must change nothing of the machine, be it
# a sysctl, a device's name or a format of programs.
find "$root"/usr/lib/systemd/system/*.wants "$root"/etc/systemd/system/*.wants -type l ! -name 'systemd-journal*' -delete
echo ReadKMsg=no >> "$root/etc/systemd/journald.conf"
units=$root/etc/systemd/system
install -m 644 "$here"/kubelet.{service,slice} "$units/"
mkdir -p "$units/multi-user.target.wants"
ln -s /etc/systemd/system/kubelet.service /usr/lib/systemd/system/containerd.service "$units/multi-user.target.wants/"
ln -sf /usr/lib/systemd/system/multi-user.target "$units/default.target"

install -m 755 "$here"/{entrypoint,kubelet-cgroups} "$root/usr/local/bin/"
mkdir -p "$root"/etc/{containerd,cni/net.d,kubernetes/manifests} "$root/kind/manifests"
sed "s,PAUSE,$pause," "$here/containerd.toml" > "$root/etc/containerd/config.toml"
install -m 644 "$here/bridge.conflist" "$root/etc/cni/net.d/10-bridge.conflist"
# kind applies this file, and there must be something in it
install -m 644 "$here/storage.yaml" "$root/kind/manifests/default-storage.yaml"
