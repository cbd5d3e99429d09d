#!/bin/bash
# Makes OUT/vmlinux and OUT/initrd: a Linux guest of the lab host's own kernel, busybox and linux-guest-init. Seconds.
# The kernel is unpacked here and booted by its PVH entry: emulated within an emulation, unpacking takes a minute.
# Usage: linux-guest.sh STAGE_WITH_ROOTFS OUT
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
stage=${1:?the folder with rootfs/}
out=${2:?an output folder}
root=$stage/rootfs
modules=$(echo "$root"/lib/modules/*)
version=$(basename "$modules")

"$here/unpack-kernel.py" "$stage/vmlinuz" "$out/vmlinux"

tree=$out/tree
mkdir -p "$tree"/{bin,dev,proc,sys,modules}
cp "$root/usr/bin/busybox" "$tree/bin/"
install -m 755 "$here/linux-guest-init" "$tree/init"
for module in e1000 igb igbvf; do
    chroot "$root" modprobe --show-depends -S "$version" "$module"
done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }' | while read -r file; do
    cp "$root$file" "$tree/modules/"
    basename "$file"
done > "$tree/modules/order"
(cd "$tree" && find . | cpio --quiet -o -H newc -R 0:0) > "$out/initrd"
rm -rf "$tree"
