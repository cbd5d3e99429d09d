#!/bin/bash
# Makes COUNT VFs of the PF with netdev PF, and the libvirt network NAME that hands them out, as an administrator does.
# PROBE 1: the host's driver binds each VF, the kernel's default; 0: it binds none (sriov_drivers_autoprobe).
# Usage: virsh_pool.sh PF COUNT NAME PROBE
set -euo pipefail
pf=$1 count=$2 name=$3 probe=$4
device="/sys/class/net/$pf/device"

[ "$probe" = 1 ] || echo 0 > "$device/sriov_drivers_autoprobe"
echo "$count" > "$device/sriov_numvfs"
ip link set "$pf" up

cat > "/tmp/$name-network.xml" << XML
<network>
  <name>$name</name>
  <forward mode='hostdev' managed='yes'><pf dev='$pf'/></forward>
</network>
XML
virsh -q net-define "/tmp/$name-network.xml"
virsh -q net-autostart "$name"
virsh -q net-start "$name"
