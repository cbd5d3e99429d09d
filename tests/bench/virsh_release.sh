#!/bin/bash
# Takes back what virsh_assign.sh gave. Usage: virsh_release.sh GUEST DEVICE MATE DRIVER   (MATE's host driver)
set -euo pipefail
guest=$1 mate=$3 driver=$4
fail() { echo "$*" >&2; exit 1; }

virsh -q detach-device "$guest" "/tmp/$guest-hostdev.xml" --config
virsh -q nodedev-reattach "pci_${mate//[:.]/_}"
[ "$(basename "$(readlink "/sys/bus/pci/devices/$mate/driver")")" = "$driver" ] || fail "$mate is not on $driver"
