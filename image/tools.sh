#!/bin/bash
# Installs what builds the image on this machine, only if it is missing.
set -euo pipefail
declare -A package_of=([buildah]=buildah [mmdebstrap]=mmdebstrap [runc]=runc)
missing=()
for tool in "${!package_of[@]}"; do
    command -v "$tool" > /dev/null || missing+=("${package_of[$tool]}")
done
[ -e /usr/share/keyrings/debian-archive-keyring.gpg ] || missing+=(debian-archive-keyring)
[ ${#missing[@]} = 0 ] && exit 0
apt-get update -q
DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends -o DPkg::Lock::Timeout=600 "${missing[@]}"
