#!/bin/bash
# Installs what makes and runs the kind cluster on this machine, only if it is missing. No service is started by it.
set -euo pipefail
export DEBIAN_FRONTEND=noninteractive

declare -A package_of=(
    [dockerd]=docker.io [containerd]=containerd [runc]=runc [iptables]=iptables [ip]=iproute2 [mmdebstrap]=mmdebstrap
    [unshare]=util-linux
)
missing=()
for tool in "${!package_of[@]}"; do
    command -v "$tool" > /dev/null || missing+=("${package_of[$tool]}")
done
[ -e /usr/share/keyrings/debian-archive-keyring.gpg ] || missing+=(debian-archive-keyring)
if ! command -v docker > /dev/null; then
    apt-cache show docker-cli > /dev/null 2>&1 && missing+=(docker-cli) || missing+=(docker.io)
fi
[ ${#missing[@]} = 0 ] && exit 0

# Docker's packages would start a daemon of the machine's own: invoke-rc.d asks this file first.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' > "$policy"
    chmod 755 "$policy"
fi
apt-get update -q
apt-get install -y -q --no-install-recommends -o DPkg::Lock::Timeout=600 "${missing[@]}"
