#!/bin/bash
# Compiles the Python files of a folder by the laboratory's own Python, natively: emulated it would take a minute.
# The bytecode is unchecked, so no import looks at a source file: the folder must be replaced as a whole.
# Usage: compile.sh STAGE_WITH_ROOTFS FOLDER PATH_IN_THE_LABORATORY
set -euo pipefail
unshare --mount bash -euc '
    mount --bind "$1" "$1"
    mount --bind "$2" "$1/mnt"
    chroot "$1" python3 -m compileall -q -j 0 -s /mnt -p "$3" --invalidation-mode unchecked-hash /mnt
' bash "${1:?the folder with rootfs/}/rootfs" "${2:?a folder}" "${3:?a path in the laboratory}"
