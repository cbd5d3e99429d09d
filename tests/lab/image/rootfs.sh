#!/bin/bash
# Builds OUT/rootfs (Debian trixie), OUT/vmlinuz and OUT/initrd. The slow stage: keyed by this file and packages.txt.
# Usage: rootfs.sh OUT
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=${1:?an output folder}
root=$out/rootfs

source_line=$("$here/debian-source.sh" trixie)
packages=$(grep -v '^#' "$here/packages.txt" | paste -sd,)
# Debian's initramfs is large and slow to unpack under emulation; ours is made below, so its generator stays off.
# Firmware blobs, documentation and translations would only make the disk larger.
mmdebstrap --mode=root --variant=apt --format=directory --quiet \
    --aptopt='APT::Install-Recommends "false"' --aptopt='Acquire::Languages "none"' \
    --dpkgopt='force-confold' --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' \
    --essential-hook='mkdir -p "$1/etc/initramfs-tools" && echo update_initramfs=no > "$1/etc/initramfs-tools/update-initramfs.conf"' \
    --include="$packages" trixie "$root" "$source_line"

# Modules: without those that no emulated device needs, and uncompressed, since xz under emulation costs seconds.
modules=$(echo "$root"/lib/modules/*)
version=$(basename "$modules")
for useless in sound drivers/media drivers/net/wireless drivers/infiniband drivers/iio drivers/staging drivers/gpu/drm/amd \
    drivers/gpu/drm/i915 drivers/gpu/drm/nouveau drivers/gpu/drm/radeon drivers/gpu/drm/xe drivers/hwmon drivers/scsi; do
    rm -rf "${modules:?}/kernel/$useless"
done
find "$modules" -name '*.ko.xz' -print0 | xargs -0 -P "$(nproc)" -n 64 xz --decompress
depmod -b "$root" "$version"
cp "$root/boot/vmlinuz-$version" "$out/vmlinuz"

# The initial RAM disk: busybox and the modules of the root disk, in the order in which they must be loaded.
tree=$out/initrd.tree
mkdir -p "$tree"/{bin,dev,root,modules}
cp "$root/usr/bin/busybox" "$tree/bin/"
install -m 755 "$here/initrd-init" "$tree/init"
for module in crc32c_generic virtio_pci virtio_blk ext4; do
    chroot "$root" modprobe --show-depends -S "$version" "$module"
done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }' | while read -r file; do
    cp "$root$file" "$tree/modules/"
    basename "$file"
done > "$tree/modules/order"
(cd "$tree" && find . | cpio --quiet -o -H newc -R 0:0) > "$out/initrd"
rm -rf "$tree"
