#!/bin/bash
# Installs what the laboratory needs on this machine, only if it is missing. QEMU must be 8.0 or newer (it has igb).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
export DEBIAN_FRONTEND=noninteractive

declare -A package_of=(
    [mmdebstrap]=mmdebstrap [gcc]=gcc [mke2fs]=e2fsprogs [setpriv]=util-linux [cpio]=cpio [xz]=xz-utils [depmod]=kmod
    [zstd]=zstd
)
missing=()
for tool in "${!package_of[@]}"; do
    command -v "$tool" > /dev/null || missing+=("${package_of[$tool]}")
done
[ -e /usr/share/keyrings/debian-archive-keyring.gpg ] || missing+=(debian-archive-keyring)

qemu_major() { qemu-system-x86_64 --version 2> /dev/null | sed -n '1s/.*version \([0-9]*\)\..*/\1/p'; }
need_qemu=0
if [ "$(qemu_major)" -lt 8 ] 2> /dev/null || [ -z "$(qemu_major)" ] || ! command -v qemu-img > /dev/null; then
    need_qemu=1
fi
[ ${#missing[@]} = 0 ] && [ $need_qemu = 0 ] && exit 0

install=(apt-get install -y -q --no-install-recommends -o DPkg::Lock::Timeout=600)
apt-get update -q
[ ${#missing[@]} = 0 ] || "${install[@]}" "${missing[@]}"
if [ $need_qemu = 1 ]; then
    target=()
    if [ "$(. /etc/os-release && echo "$VERSION_CODENAME")" = bookworm ]; then
        backports=bookworm-backports
        if ! apt-get indextargets --format '$(RELEASE)' 'Created-By: Packages' | grep -qx "$backports"; then
            "$here/debian-source.sh" "$backports" > /etc/apt/sources.list.d/lab-backports.list
            apt-get update -q
        fi
        target=(-t "$backports")
    fi
    "${install[@]}" "${target[@]}" qemu-system-x86 qemu-utils
fi
[ "$(qemu_major)" -ge 8 ] || { echo "QEMU 8.0 or newer is needed (igb), found $(qemu_major)" >&2; exit 1; }
