#!/bin/bash
# Makes OUT/base.img from a built root file system, the files of image/root, our two programs and the test guest.
# Half a minute, so a change of any of those files is cheap. Usage: disk.sh STAGE_WITH_ROOTFS OUT
# Environment: LAB_CPU, LAB_KERNEL_ARGS, as the laboratory will be run (libvirt's cache depends on the processor).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
stage=${1:?the folder with rootfs/}
out=${2:?an output folder}

# Hard links instead of a copy; --remove-destination keeps the stage's own files as they are.
cp -al "$stage/rootfs" "$out/tree"
cp -r --remove-destination --preserve=mode "$here/root/." "$out/tree/"
cp --remove-destination "$here"/../{command_daemon,local_apic}.py "$out/tree/lab/"
gcc -m32 -O1 -ffreestanding -nostdlib -fno-pic -no-pie -static -Wall -Wextra -Werror \
    -Wl,--build-id=none -Wl,-T,"$here/../guest/guest.ld" -o "$out/tree/lab/guest.elf" "$here/../guest/guest.c"
rm -rf "$out/tree"/{boot,var/cache/apt,var/lib/apt/lists}
mkdir -p "$out/tree"/{boot,opt/site-packages,share}

truncate -s 4G "$out/base.img"
# Tables are written now, since a lazy start would have a kernel thread write them in every boot.
mke2fs -q -t ext4 -E lazy_itable_init=0,lazy_journal_init=0 -d "$out/tree" "$out/base.img"
rm -rf "$out/tree"

# One boot without network and devices fills libvirt's cache of QEMU's capabilities, in the base itself. Now and then the
# emulated second processor never gets a timer interrupt and the boot hangs: such a boot is tried again.
for attempt in 1 2 3; do
    timeout --kill-after=5 180 qemu-system-x86_64 -nodefaults -no-user-config -display none -no-reboot \
        -machine q35 -accel tcg,thread=multi -cpu "$LAB_CPU" -smp 2 -m 2G -serial "file:$out/warm.log" \
        -kernel "$stage/vmlinuz" -initrd "$stage/initrd" -append "$LAB_KERNEL_ARGS lab.warm" \
        -drive "file=$out/base.img,if=none,id=root,format=raw,cache=unsafe" -device virtio-blk-pci,drive=root || true
    grep -q '^LAB .* ready' "$out/warm.log" && exit 0
done
tail -n 40 "$out/warm.log"
exit 1
