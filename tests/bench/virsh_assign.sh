#!/bin/bash
# Gives DEVICE to GUEST, which is shut off, as an administrator would by hand: looks first, changes, looks again.
# Usage: virsh_assign.sh GUEST DEVICE MATE   (addresses such as 0000:04:01.0; MATE is in DEVICE's IOMMU group)
set -euo pipefail
guest=$1 device=$2 mate=$3
fail() { echo "$*" >&2; exit 1; }
IFS=:. read -r domain bus slot function <<< "$device"
source="<address domain='0x$domain' bus='0x$bus' slot='0x$slot' function='0x$function'/>"

[ "$(virsh -q domstate "$guest")" = "shut off" ] || fail "$guest runs"
for other in $(virsh -q list --all --name); do
    [[ "$(virsh -q dumpxml "$other")" != *"$source"* ]] || fail "$other has $device"
done
for address in "$device" "$mate"; do
    for interface in "/sys/bus/pci/devices/$address/net/"*; do
        [ ! -e "$interface" ] || [ -z "$(ip route show dev "${interface##*/}")" ] || fail "the host uses $address"
    done
done

virsh -q nodedev-detach "pci_${mate//[:.]/_}"
[ "$(basename "$(readlink "/sys/bus/pci/devices/$mate/driver")")" = vfio-pci ] || fail "$mate is not on vfio-pci"

cat > "/tmp/$guest-hostdev.xml" << XML
<hostdev mode='subsystem' type='pci' managed='yes'><source>$source</source></hostdev>
XML
virsh -q attach-device "$guest" "/tmp/$guest-hostdev.xml" --config
[[ "$(virsh -q dumpxml "$guest" --inactive)" = *"$source"* ]] || fail "$guest does not have $device"
