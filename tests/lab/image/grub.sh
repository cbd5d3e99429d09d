#!/bin/bash
# Makes OUT/boot.img, a disk with GRUB alone, and OUT/root.img, the lab host's root disk with kernel, initrd and GRUB's
# own files in it, as on a host whose firmware starts GRUB from its disk. Packages are unpacked, not installed. Seconds.
# Usage: grub.sh STAGE_WITH_ROOTFS BASE_DISK OUT
# Environment: LAB_GRUB_ARGS, the kernel's command line, which also stands in /etc/default/grub.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
stage=${1:?the folder with rootfs/}
base=${2:?the base disk}
out=${3:?an output folder}

tree=$out/tree
mmdebstrap --mode=root --variant=extract --format=directory --quiet --aptopt='APT::Install-Recommends "false"' \
    --aptopt='Acquire::Languages "none"' --include=grub-common,grub2-common,grub-pc-bin trixie "$tree" \
    "$("$here/debian-source.sh" trixie)"

# The core image finds the disk that has grub.cfg (its parser knows no semicolons). Its own first sector is right behind boot.img, where that looks for it.
printf '%s\n' 'search --no-floppy --file --set=root /boot/grub/grub.cfg' 'set prefix=($root)/boot/grub' > "$tree/early.cfg"
unshare --mount bash -euc '
    mount --bind "$1" "$1"
    mount --bind "$2" "$1/mnt"
    chroot "$1" /mnt/usr/bin/grub-mkimage -O i386-pc -d /mnt/usr/lib/grub/i386-pc -c /mnt/early.cfg -p /boot/grub \
        -o /mnt/core.img biosdisk part_msdos ext2 search search_fs_file normal configfile linux test echo
' bash "$stage/rootfs" "$tree"
cat "$tree/usr/lib/grub/i386-pc/boot.img" "$tree/core.img" > "$out/boot.img"
truncate -s 4M "$out/boot.img"

files=$out/files
kernel=$(basename "$stage"/rootfs/lib/modules/*)
mkdir -p "$files"/{boot/grub/i386-pc,etc/default,usr/bin,usr/sbin,usr/share}
cp "$stage/vmlinuz" "$files/boot/vmlinuz-$kernel"
cp "$stage/initrd" "$files/boot/initrd.img-$kernel"
cp "$tree"/usr/lib/grub/i386-pc/*.{mod,lst} "$files/boot/grub/i386-pc/"
cp -r "$tree/etc/grub.d" "$files/etc/"
cp "$tree"/usr/bin/grub-{mkrelpath,script-check,editenv,file} "$files/usr/bin/"
cp "$tree"/usr/sbin/{grub-mkconfig,grub-probe,update-grub} "$files/usr/sbin/"
cp -r "$tree/usr/share/grub" "$files/usr/share/"
cat > "$files/etc/default/grub" << END
# If you change this file, run 'update-grub' afterwards to update /boot/grub/grub.cfg.
GRUB_DEFAULT=0
GRUB_TIMEOUT=0
GRUB_DISTRIBUTOR=Laboratory
GRUB_CMDLINE_LINUX_DEFAULT="quiet"
GRUB_CMDLINE_LINUX="$LAB_GRUB_ARGS"
GRUB_TERMINAL=console
END
cat > "$files/boot/grub/grub.cfg" << END
set timeout=0
menuentry 'Laboratory, before update-grub' {
    linux /boot/vmlinuz-$kernel root=/dev/vda ro $LAB_GRUB_ARGS
    initrd /boot/initrd.img-$kernel
}
END

cp --sparse=always "$base" "$out/root.img"
(cd "$files" && find . -mindepth 1 \( -type d -printf 'mkdir /%P\n' \) -o \( -type f -printf "write $files/%P /%P\n" \)) \
    > "$out/commands"
debugfs -w -f "$out/commands" "$out/root.img" > "$out/debugfs.log" 2>&1
debugfs -R "stat /usr/sbin/grub-mkconfig" "$out/root.img" 2> /dev/null | grep -q 'Mode: *0755'
rm -rf "$tree" "$files" "$out/commands"
