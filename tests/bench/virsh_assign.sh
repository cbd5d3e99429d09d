#!/bin/bash
# Gives DEVICE to GUEST, which is shut off, by two virsh commands, and looks in sysfs that the mate's driver is right.
# It does the work and nothing else: whether anybody else uses the devices is the administrator's care.
# Usage: virsh_assign.sh GUEST DEVICE MATE   (addresses such as 0000:04:01.0; MATE is in DEVICE's IOMMU group)
set -euo pipefail
guest=$1 device=$2 mate=$3
fail() { echo "$*" >&2; exit 1; }
IFS=:. read -r domain bus slot function <<< "$device"

virsh -q nodedev-detach "pci_${mate//[:.]/_}"
[ "$(basename "$(readlink "/sys/bus/pci/devices/$mate/driver")")" = vfio-pci ] || fail "$mate is not on vfio-pci"

cat > "/tmp/$guest-hostdev.xml" << XML
<hostdev mode='subsystem' type='pci' managed='yes'>
  <source><address domain='0x$domain' bus='0x$bus' slot='0x$slot' function='0x$function'/></source>
</hostdev>
XML
virsh -q attach-device "$guest" "/tmp/$guest-hostdev.xml" --config
