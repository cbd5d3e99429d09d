#!/bin/bash
# Makes OUT/site.img: the Python packages of a hash-checked lock file, for the laboratory's Python, with bytecode.
# Usage: site.sh STAGE_WITH_ROOTFS LOCK PYTHON OUT   (PYTHON: an interpreter that has pip)
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
stage=${1:?the folder with rootfs/}
lock=${2:?a lock file}
python=${3:?an interpreter}
out=${4:?an output folder}

mkdir -p "$out/tree"
# Two platforms, since wheels name either the old or the new form of the same C library baseline.
"$python" -m pip --quiet --disable-pip-version-check install --no-cache-dir --no-warn-conflicts \
    --target "$out/tree" --python-version 3.13 --only-binary=:all: --platform manylinux2014_x86_64 \
    --platform manylinux_2_28_x86_64 --no-deps --require-hashes --no-compile -r "$lock"
"$here/compile.sh" "$stage" "$out/tree" /opt/site-packages

size=$(du -sm "$out/tree" | cut -f1)
truncate -s "$((size * 5 / 4 + 32))M" "$out/site.img"
mke2fs -q -t ext4 -O ^has_journal -L site -d "$out/tree" "$out/site.img"
rm -rf "$out/tree"
