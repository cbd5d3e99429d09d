#!/bin/bash
# Makes OUT/base.tar: what the Dockerfile's base image holds, from Debian packages alone, for machines that reach no image
# registry. The same packages make the same bytes (SOURCE_DATE_EPOCH).
# Usage: base.sh SUITE OUT
set -euo pipefail
suite=${1:?a Debian suite} out=${2:?an output folder}
sources=$(dirname "$0")/../tests/lab/image/debian-source.sh

lines=("$("$sources" "$suite")")
# Security updates are another archive; a machine that is no Debian names none, and goes without.
security=$(apt-get indextargets --format '$(ORIGIN) $(RELEASE) $(COMPONENT) $(REPO_URI)' 'Created-By: Packages' 2> /dev/null |
    awk '$1 == "Debian" && $2 ~ /-security$/ && $3 == "main" { print $4; exit }')
[ -z "$security" ] || lines+=("deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $security $suite-security main")

# As the slim images have it: no recommended packages, no documentation, no translations.
mmdebstrap --mode=root --variant=minbase --format=tar --quiet \
    --aptopt='APT::Install-Recommends "false"' --aptopt='Acquire::Languages "none"' \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/info/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/lintian/*' \
    --customize-hook='rm -rf "$1"/var/log/* "$1"/var/cache/ldconfig "$1"/var/lib/apt/lists/* "$1"/var/cache/apt/*.bin
        rm -f "$1"/etc/resolv.conf "$1"/etc/hostname "$1"/etc/machine-id' \
    "$suite" "$out/base.tar" "${lines[@]}"
