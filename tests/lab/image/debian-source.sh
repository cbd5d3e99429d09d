#!/bin/bash
# Prints a one-line apt source for another suite of the Debian archive that this machine already uses.
# Asking apt itself works for both forms of its configuration (.list and .sources) and for any mirror.
# LAB_DEBIAN_MIRROR overrides it, for a machine that is not Debian.
# Usage: debian-source.sh SUITE
set -euo pipefail
suite=${1:?a suite, for example trixie}
mirror=${LAB_DEBIAN_MIRROR:-}
if [ -z "$mirror" ]; then
    codename=$(. /etc/os-release && echo "$VERSION_CODENAME")
    mirror=$(apt-get indextargets --format '$(ORIGIN) $(RELEASE) $(COMPONENT) $(REPO_URI)' 'Created-By: Packages' |
        awk -v release="$codename" '$1 == "Debian" && $2 == release && $3 == "main" { print $4; exit }')
fi
if [ -z "$mirror" ]; then
    echo "apt knows no Debian archive (after apt-get update): set LAB_DEBIAN_MIRROR to its address" >&2
    exit 1
fi
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main"
