#!/bin/bash
# Takes back what virsh_pool.sh made: network, VFs, link, and the kernel's default of sriov_drivers_autoprobe.
# Usage: virsh_pool_release.sh PF NAME
set -euo pipefail
pf=$1 name=$2
device="/sys/class/net/$pf/device"

virsh -q net-destroy "$name"
virsh -q net-undefine "$name"
ip link set "$pf" down
echo 0 > "$device/sriov_numvfs"
echo 1 > "$device/sriov_drivers_autoprobe"
