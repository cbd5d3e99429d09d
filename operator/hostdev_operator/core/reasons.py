"""The failure catalogue: every reason a condition can have, what to do, when it heals, and who says what of it.

Texts: libvirt 11.3 src/hypervisor/virhostdev.c, src/util/{virpci,virnetdev}.c, src/network/bridge_driver.c,
src/conf/domain_addr.c, src/qemu/; QEMU 10.0 hw/vfio, hw/pci; Linux 6.12 drivers/vfio, drivers/iommu, drivers/pci.
docs/troubleshooting.md is made from it: commands stand in backticks.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Retry(StrEnum):
    """When trying again makes sense."""

    NEVER = "never by itself"
    ON_EVENT = "when the host or the object changes"
    SOON = "soon"
    BACKOFF = "with growing delays"
    ON_RESTART = "when the guest is restarted or spec is changed"


@dataclass(frozen=True)
class Reason:
    """A row of the catalogue. ``words`` are substrings of the message of libvirt, QEMU or the kernel (LC_ALL=C).

    ``remedy`` is what the reader of the condition does next; ``topic`` the heading that it stands under.
    """

    name: str
    retry: Retry
    meaning: str
    remedy: str
    words: tuple[str, ...] = ()
    topic: str = ""

    def __str__(self) -> str:
        return self.name


CATALOGUE: dict[str, Reason] = {}
TOPICS: list[str] = []


def _topic(name: str) -> None:
    TOPICS.append(name)


def _row(name: str, retry: Retry, meaning: str, remedy: str, *words: str) -> Reason:
    row = Reason(name, retry, meaning, remedy, words, TOPICS[-1])
    CATALOGUE[name] = row
    return row


def from_words(message: str) -> Reason:
    """The reason for a message of libvirt or the kernel; LibvirtError if the catalogue does not know it.

    The first row wins, so those with narrow words stand before those with wide ones.
    """
    rows = CATALOGUE.values()
    return next((reason for reason in rows if any(word in message for word in reason.words)), LIBVIRT_ERROR)


# fmt: off
_topic("The object itself")
INVALID_SOURCE = _row("InvalidSource", Retry.NEVER,
    "The source cannot be read as a PCI address; or what a pool says of its PF, VFs or network makes no sense.",
    "Delete the assignment and make a new one; a pool can be mended (`kubectl edit vfpool NAME`). `lspci -D` lists"
    " addresses (0000:01:00.0), `virsh nodedev-list --cap pci` libvirt's names; source.match finds a device by what it"
    " is.")
NAMESPACE_NOT_ALLOWED = _row("NamespaceNotAllowed", Retry.ON_EVENT,
    "The assignment is not bound yet, and its namespace may not have it: no label, or not this guest or pool.",
    "An administrator runs the command that the message ends with; or delete the assignment. What a namespace may have:"
    " `kubectl get namespace NAME -o yaml`, hostdev.dev/assignments, hostdev.dev/guests and hostdev.dev/pools"
    " (docs/security.md). What is bound already is kept.")
NODE_NOT_FOUND = _row("NodeNotFound", Retry.ON_EVENT,
    "No agent reports the node that the object names.",
    "Compare spec.nodeName with `kubectl get devicehost`. If the node is missing there, look at the agent on that node:"
    " is it running, and what does its log say.")
NODE_GONE = _row("NodeGone", Retry.ON_EVENT,
    "The node that the assignment is bound to has no Node object any more, so nobody may be left to give its device"
    " back.",
    "If the host runs, nothing is lost: bring its node back (restart the kubelet). If it is off for good, and no guest"
    " of it runs any more, say so with the command that the message ends with: a deletion goes on then, and the guest"
    " gets its device where it is defined anew (docs/controller.md).")
GUEST_NOT_FOUND = _row("GuestNotFound", Retry.ON_EVENT,
    "No node (or not the named one) has the guest.",
    "Compare spec.domain with `virsh list --all`, and with status.guests of the DeviceHost. Define the guest (`virsh"
    " define FILE`), with the same UUID if the assignment was bound before; or delete the assignment.",
    "no domain with matching")
GUEST_AMBIGUOUS = _row("GuestAmbiguous", Retry.ON_EVENT,
    "Several nodes have a guest of that name.",
    "Say which one is meant: set spec.nodeName, or spec.domain.uuid (`virsh domuuid NAME`). Of a guest that has moved:"
    " undefine it on all nodes but one (`virsh undefine NAME`).")
GUEST_IDENTITY_CHANGED = _row("GuestIdentityChanged", Retry.ON_EVENT,
    "A guest of that name exists, but it has another UUID than the bound one.",
    "If the new guest shall have the device, delete the assignment and make a new one. Else define the old guest"
    " again, with the UUID of status.domainUUID.")
GUEST_TRANSIENT = _row("GuestTransient", Retry.ON_EVENT,
    "The guest has no persistent definition to write to.",
    "Make it persistent: `virsh dumpxml NAME > FILE`, then `virsh define FILE`.",
    "transient domains do not have any persistent config")

_topic("The device")
DEVICE_NOT_FOUND = _row("DeviceNotFound", Retry.ON_EVENT,
    "The node has no such device.",
    "Compare with `lspci -D -nn` on the node and with status.devices (`kubectl get devicehost NODE -o yaml`). A VF is"
    " there only while its PF has VFs. If the card is gone for good, delete the assignment.",
    "no node device with matching name", "not found: could not access", "no such host device")
NOT_ASSIGNABLE = _row("NotAssignable", Retry.NEVER,
    "Bridges, root ports and host bridges are never assigned.",
    "Delete the assignment and make a new one that names an endpoint behind it: `lspci -D -t` shows what is behind"
    " what.",
    "Non-endpoint PCI devices cannot be assigned", "assignment of PCIe type")
DEVICE_IN_USE = _row("DeviceInUse", Retry.ON_EVENT,
    "Somebody else has the device: another guest, assignment or libvirt network, or its own VFs.",
    "The message names the holder; `status.devices[].holder` of the DeviceHost does, too. Delete the other assignment,"
    " or take the device out of that guest (`virsh detach-device NAME FILE --config`) or network (`virsh net-edit`)."
    " For a PF: `echo 0 > /sys/bus/pci/devices/ADDRESS/sriov_numvfs`, once no guest has a VF.",
    "is in use by driver", "already in use by domain", "already in use by driver",
    "Cannot bind to PF with SR-IOV enabled")
GROUP_IN_USE = _row("GroupInUse", Retry.ON_EVENT,
    "Another guest or assignment has a device of the same IOMMU group.",
    "A group goes to one guest as a whole. Free the device that the message names, give both devices to the same"
    " guest, or put one card into a slot with a group of its own (status.groups of the DeviceHost). On deletion with"
    " spec.detach Live: shut the guest off.")
HOST_CRITICAL = _row("HostCritical", Retry.ON_EVENT,
    "The host, or another guest through the host, needs the device or a mate of its group.",
    "Choose another device, or move what the message names elsewhere (`umount`, `swapoff`, `vgchange -an`, `ip"
    " route`, `ip link set NETDEV nomaster`). What the host alone needs can be given up on purpose: `kubectl edit"
    " devicehost NODE`, `spec.criticalOverrides: [{device: ADDRESS, reason: TEXT}]`; without a second way in, the"
    " host may be lost.")
HOST_USE_UNKNOWN = _row("HostUseUnknown", Retry.BACKOFF,
    "What the host needs could not be read, so nothing is touched.",
    "The message says which file. Check the agent's mounts of the host's /proc and /sys, and its --host-root.")
IDENTITY_CHANGED = _row("IdentityChanged", Retry.NEVER,
    "Another device than the recorded one is at the address.",
    "Compare status.identity of the assignment with `lspci -D -nn -vv -s ADDRESS`. Put the recorded card back; or, if"
    " the new one is meant, delete the assignment and make a new one. Until then the hostdev is out of the guest's"
    " persistent XML, so that its next start does not take the other card.")
AMBIGUOUS_DEVICE = _row("AmbiguousDevice", Retry.ON_EVENT,
    "Several devices are meant by the source, or by the recorded fingerprint.",
    "The message lists them. Make a new assignment whose source.match fits one alone (serial, slotPath, or pfMAC with"
    " vfIndex), or has any: true if each of them will do.")
GROUP_NOT_FREE = _row("GroupNotFree", Retry.ON_EVENT,
    "groupPolicy RequireFree: another endpoint of the IOMMU group has a host driver.",
    "Free the endpoints that the message names (`virsh nodedev-detach pci_0000_01_00_1`); or delete the assignment"
    " and make a new one with groupPolicy DetachUnused or AssignAll.")
NOTHING_TO_ADOPT = _row("NothingToAdopt", Retry.ON_EVENT,
    "spec.adopt: the guest's persistent XML has no such hostdev or NIC, and none is added.",
    "Compare with `virsh dumpxml --inactive NAME`: which device, or which MAC address, does the guest have? `python -m"
    " hostdev_operator import` on the node writes assignments that fit. What the running guest alone has is written to"
    " its definition by `virsh attach-device NAME FILE --config`. To add it, make the assignment without adopt.")
ADOPTION_DIFFERS = _row("AdoptionDiffers", Retry.ON_EVENT,
    "spec.adopt: the guest has the device or NIC otherwise than spec says, and nothing is rewritten.",
    "The message has both values. Delete the assignment (nothing is changed by that) and make one that says what the"
    " guest has; or change the guest (`virsh edit NAME`) or the VF (`ip link set NETDEV vf INDEX`). To have it made as"
    " spec says, set spec.adopt to false once the device is adopted.")
HOST_USING = _row("HostUsing", Retry.ON_EVENT,
    "The host has begun to use the managed device while its guest is off.",
    "End that use before the guest starts (`umount`, `swapoff`, `ip link set NETDEV nomaster`), or delete the"
    " assignment. With spec.managed: false, in a new assignment, the host does not get the device between two runs.")
PAUSED = _row("Paused", Retry.ON_EVENT,
    "The node is paused (DeviceHost spec.paused): nothing is changed on it.",
    "When the work on the node is done: `kubectl patch devicehost NODE --type merge -p"
    " '{\"spec\":{\"paused\":false}}'`.")

_topic("The host")
IOMMU_DISABLED = _row("IOMMUDisabled", Retry.ON_EVENT,
    "The host has no active IOMMU.",
    "Enable VT-d or AMD-Vi in the firmware, add `intel_iommu=on` (Intel) to the kernel's command line, and reboot."
    " Then `ls /sys/kernel/iommu_groups` is not empty; `dmesg | grep -e DMAR -e AMD-Vi` says why it is.",
    "host doesn't support passthrough", "host doesn't support VFIO PCI passthrough", "no iommu_group found")
VFIO_MODULE_MISSING = _row("VFIOModuleMissing", Retry.BACKOFF,
    "The vfio-pci module is not to be had.",
    "`modprobe vfio-pci`, and list it in `/etc/modules-load.d`. If that fails, look at `dmesg`, at blacklist lines in"
    " `/etc/modprobe.d`, and whether the package with the running kernel's modules is installed (`uname -r`).",
    "VFIO device assignment is currently not supported", "Failed to load PCI driver module",
    "Failed to load PCI stub module", "No available IOMMU models", "/dev/vfio/vfio: No such file",
    "/dev/vfio/vfio': No such file")
INTERRUPT_REMAPPING_UNAVAILABLE = _row("InterruptRemappingUnavailable", Retry.ON_EVENT,
    "The host has no interrupt remapping: a guest could inject interrupts.",
    "Enable it in the firmware (VT-d, x2APIC) and reboot; `dmesg | grep -i remapping` shows it. Only if all guests"
    " are trusted: spec.preparation.unsafeInterrupts of the DeviceHost (docs/host.md). If `dmesg` complains of"
    " an RMRR instead, see FirmwareReservedMemory.",
    "No interrupt remapping support", "allow_unsafe_interrupts",
    "Failed to set iommu for container: Operation not permitted")
LIBVIRT_UNAVAILABLE = _row("LibvirtUnavailable", Retry.BACKOFF,
    "libvirt does not answer.",
    "`systemctl status libvirtd` (or virtqemud and virtnodedevd), `journalctl -u libvirtd`; `systemctl restart"
    " libvirtd` leaves guests running. Check that `virsh list` answers, and that the agent reaches `/run/libvirt`.",
    "Failed to connect socket", "unable to connect to server at", "client socket is closed", "Cannot recv data",
    "Cannot write data", "End of file while reading data", "End of file while writing data",
    "connection closed due to keepalive timeout")

_topic("VFs, pools and networks")
SRIOV_UNSUPPORTED = _row("SRIOVUnsupported", Retry.ON_EVENT,
    "The device cannot have VFs: it is no SR-IOV PF, or its driver does not offer it.",
    "`cat /sys/bus/pci/devices/ADDRESS/sriov_totalvfs` shows how many it could have. Turn SR-IOV on in the firmware and"
    " in the card's own setup, load the driver that can do it (`lspci -k -s ADDRESS`), or let spec.pf name a PF of"
    " status.devices (`kubectl get devicehost NODE -o yaml`).")
VF_COUNT_TOO_HIGH = _row("VFCountTooHigh", Retry.ON_EVENT,
    "The PF cannot have so many VFs, or the pool's range ends beyond them.",
    "The message says how many there can be. `kubectl edit vfpool NAME`: lower numVFs, or let pf.vfs end earlier. Some"
    " cards are told their limit in their firmware's setup.")
VFS_NOT_CREATED = _row("VFsNotCreated", Retry.BACKOFF,
    "The PF has no VFs, or not those of the pool.",
    "With externallyManaged: true somebody else must make them: `echo COUNT >"
    " /sys/bus/pci/devices/ADDRESS/sriov_numvfs`. Otherwise the kernel has refused: the message says why, `dmesg` says"
    " more (often too little PCI memory behind the bridge: `pci=realloc`, or a setting of the firmware).",
    "No usable Vf's present on SRIOV PF", "Could not get Virtual functions on",
    "is not an SR-IOV Virtual Function")
VFS_IN_USE = _row("VFsInUse", Retry.ON_EVENT,
    "The number of VFs is to be changed, which takes all of them away for a moment, and somebody uses one.",
    "The message names the users. Shut those guests off and take the VF out of their XML, delete the assignments, or"
    " take the VF's netdev out of its bridge; or leave numVFs as it is.")
POOL_CONFLICT = _row("PoolConflict", Retry.ON_EVENT,
    "Two pools want what only one can have: the same VFs, the same libvirt network, or different settings of one PF.",
    "The message names both; the older one has it. Give them ranges that do not overlap (pf.vfs), the same numVFs,"
    " externallyManaged, bindHostDriver and linkUp, and networks of different names; or delete one.")
POOL_NOT_FOUND = _row("PoolNotFound", Retry.ON_EVENT,
    "The node has no such pool, or its libvirt network is not defined.",
    "Compare source.pool.name with `kubectl get vfpool`, and the node with `kubectl get nodevfpool`: does the pool's"
    " nodeSelector select it? `virsh net-list --all` shows the networks.",
    "no network with matching")
POOL_INACTIVE = _row("PoolInactive", Retry.ON_EVENT,
    "The pool's libvirt network is not started.",
    "The pool's own conditions say why (`kubectl get nodevfpool`). A pool that is well starts its network by itself;"
    " by hand: `virsh net-start NAME`.",
    "' is not active")
POOL_EXHAUSTED = _row("PoolExhausted", Retry.ON_EVENT,
    "All VFs of the pool are taken.",
    "The message names the holders; so does status.vfs of the NodeVFPool. Shut one of those guests off, delete an"
    " assignment, or raise numVFs of the pool while none is in use.",
    "requires exclusive access to interfaces, but none are available")
POOL_IN_USE = _row("PoolInUse", Retry.ON_EVENT,
    "The pool is to be given back, and somebody still uses it.",
    "The message names the guests and assignments. Shut those guests off, take the network out of their XML (`virsh"
    " edit NAME`), and delete the assignments that name the pool.")
NETWORK_DIFFERS = _row("NetworkDiffers", Retry.ON_EVENT,
    "A libvirt network of that name is there already, and is not as the pool wants it.",
    "The message says what differs (`virsh net-dumpxml --inactive NAME`). Give the pool another network.name, make the"
    " pool or the network (`virsh net-edit NAME`) like the other, or let the pool replace it: network.adopt: Replace.")
PENDING_IDLE = _row("PendingIdle", Retry.ON_EVENT,
    "The libvirt network must be restarted for a change, and running guests are on it.",
    "Nothing is lost: guests keep what they have, and new ones get what the started network has. When the guests that"
    " the message names are off, the network is restarted by itself.")
PORTGROUP_UNKNOWN = _row("PortgroupUnknown", Retry.ON_EVENT,
    "The pool's network has no such portgroup; libvirt would silently ignore it, and with it the VLAN.",
    "Compare source.pool.portgroup with `virsh net-dumpxml NAME`; add it to network.portgroups of the pool, or make"
    " the assignment anew with one that is there.")
PF_DOWN = _row("PFDown", Retry.ON_EVENT,
    "The PF's netdev is down, or it has none: MAC and VLAN of its VFs cannot be set.",
    "`ip link set NETDEV up`, and let the host's network configuration do it at boot; or set linkUp: true in the pool."
    " A PF without netdev has no driver of the host, or another one (`lspci -k -s ADDRESS`).",
    "because the PF is not online", "has no network device name")
VF_CONFIG_REJECTED = _row("VFConfigRejected", Retry.BACKOFF,
    "The PF's driver refuses a setting of the VF, or does not keep it.",
    "The message names driver, VF and setting. Try it by hand (`ip link set NETDEV vf INDEX ...`) and look at `dmesg`;"
    " leave the setting out if the driver cannot do it. Some drivers refuse while the VF is being reset: that passes.",
    "Cannot set interface MAC", "Cannot set interface vlanid", "so its MAC address cannot be set to",
    "Unable to preserve mac/vlan tag")
NOT_VIRTUAL_FUNCTION = _row("NotVirtualFunction", Retry.NEVER,
    "spec.network is for VFs of SR-IOV cards: nobody can set MAC, VLAN or profile of another device from outside.",
    "Delete the assignment and make a new one: without spec.network (then the guest sets its MAC and VLAN itself), or"
    " with a VF as its source. status.devices[].sriov of the DeviceHost shows which devices are VFs.",
    "can only be set for SR-IOV VFs", "is not a VF device", "supported on SR-IOV Virtual Functions only")
MAC_IN_USE = _row("MACInUse", Retry.ON_EVENT,
    "Another assignment, or another guest's NIC, has the same MAC address.",
    "The message names it. Make the assignment anew with another spec.network.mac, or without one: then one is derived"
    " that nobody else has.")
NETWORK_PENDING = _row("NetworkPending", Retry.ON_RESTART,
    "Another MAC, VLAN or profile is asked for than the running guest's NIC has; it gets it at its next boot.",
    "Shut the guest off and start it. With spec.attach: Live the NIC is unplugged and plugged in anew at once, which"
    " interrupts the guest's network.")

_topic("Changing it")
IOMMU_GROUP_NOT_VIABLE = _row("IOMMUGroupNotViable", Retry.ON_EVENT,
    "A group member cannot be taken from its host driver.",
    "`ls -l /sys/bus/pci/devices/ADDRESS/iommu_group/devices/*/driver` shows who has a host driver. Free it if the"
    " host can spare it (`virsh nodedev-detach`), or put the card into another slot.",
    "is not viable")
FIRMWARE_RESERVED_MEMORY = _row("FirmwareReservedMemory", Retry.NEVER,
    "The firmware reserves memory of the device (RMRR, IVMD).",
    "`dmesg` names the device. Turn off what uses it in the firmware (USB legacy support, pre-boot DMA protection,"
    " the vendor's management agent), update the firmware, or take another slot or device.",
    "requested this device have a 1:1", "platform RMRR requirement",
    "Failed to set group container: Invalid argument")
NOT_DETACHED = _row("NotDetached", Retry.BACKOFF,
    "An unmanaged device is not on vfio-pci.",
    "It is detached again by itself. If that repeats, something binds it back: look at `lspci -k -s ADDRESS`, at udev"
    " rules, and at `driverctl list-overrides`.",
    "must be manually detached from the host")
NO_GUEST_PCI_SLOT = _row("NoGuestPCISlot", Retry.ON_EVENT,
    "The guest has no free PCI slot that fits: the running one to plug it in, or its persistent XML to add it at all.",
    "With spec.attach Auto or NextBoot the persistent XML has the device and a slot for it: shut the guest off and"
    " start it. Live refuses instead. For later hot plug, add controllers before a boot (`virsh edit NAME`):"
    " `<controller type='pci' model='pcie-root-port'/>` for each device; on q35, one `model='pcie-to-pci-bridge'` for"
    " all conventional ones.",
    "No more available PCI slots", "No PCI buses available", "requires hotplug capability",
    "does not support hotplugging", "Hot-plug failed: unsupported by the port", "no slot/function available for")
TOO_MANY_DEVICES = _row("TooManyDevices", Retry.ON_EVENT,
    "The guest has as many host devices as a guest of this node may have.",
    "Take a device away from the guest (delete an assignment, or `virsh detach-device NAME FILE --config`); or allow"
    " more: `kubectl patch devicehost NODE --type merge -p '{\"spec\":{\"limits\":{\"devicesPerGuest\":64}}}'`. Each"
    " needs a PCI slot of the guest as well.")
_ASK_AGAIN = (
    " To ask again: `kubectl patch deviceassignment NAME -n NAMESPACE --type merge -p"
    ' \'{"spec":{"detach":"WhenOff"}}\'`, then the same with Live.'
)
UNPLUG_PENDING = _row("UnplugPending", Retry.ON_RESTART,
    "The guest was asked to let go of the device and has not answered.",
    "Wait: its system needs time. One that has not booted, has crashed, is paused (`virsh resume NAME`) or has no"
    " hot-plug driver never answers: see `virsh domstate NAME` and its console. When the guest is off, it goes on"
    " without asking." + _ASK_AGAIN,
    "is already in the process of unplug")
UNPLUG_REJECTED = _row("UnplugRejected", Retry.ON_RESTART,
    "The guest, or its PCI slot, refuses to let go of the device.",
    "In the guest, end what uses the device (`umount`, `ip link set NETDEV down`), and look at its `dmesg`. Otherwise"
    " shut the guest off; spec.detach: WhenOff waits for that without asking it." + _ASK_AGAIN,
    "rejected by the guest", "guest is busy", "cannot hot unplug", "Hot-unplug failed: unsupported by the port")
MEMLOCK_EXCEEDED = _row("MemlockExceeded", Retry.ON_EVENT,
    "The guest's memory cannot be locked, as VFIO needs it.",
    "VFIO locks all of the guest's memory: compare `free -m` with `virsh dominfo NAME`. Raise its limit with"
    " `<hard_limit>` in `<memtune>` (`virsh edit NAME`), or `LimitMEMLOCK` of libvirtd's unit if libvirtd itself may"
    " not raise it; then start the guest again. `prlimit --memlock --pid PID` shows QEMU's limit.",
    "VFIO_MAP_DMA failed: Cannot allocate memory", "= -12 (Cannot allocate memory)", "RLIMIT_MEMLOCK (",
    "cannot limit locked memory", "cannot get locked memory limit", "Failed to adjust locked memory limit")
BOOT_FRAMEBUFFER_IN_USE = _row("BootFramebufferInUse", Retry.NEVER,
    "The firmware's framebuffer holds the device's memory.",
    "`grep -e BOOTFB -e efifb /proc/iomem` shows it. Make another card the firmware's primary display, or add"
    " `initcall_blacklist=sysfb_init` (older kernels: `video=efifb:off`) to the kernel's command line, and reboot.",
    "can't reserve [mem", "BOOTFB", "efifb")
DEVICE_RESET_FAILED = _row("DeviceResetFailed", Retry.NEVER,
    "The device did not come back from a reset.",
    "`lspci -vv -s ADDRESS` shows header type 7f if it is dead, `dmesg` says more. Power the host off and on: a warm"
    " reboot may not do. Update the card's firmware if it happens again.",
    "Unable to reset PCI device", "Unknown PCI header type", "Failed to read PCI config space",
    "Failed to restore PCI config space", "Unable to power on device", "; giving up", ", device inaccessible")
DETACH_BLOCKED = _row("DetachBlocked", Retry.ON_EVENT,
    "Taking the device from its host driver, or plugging it in or out, does not return.",
    "The kernel waits for what holds the device: `dmesg`, and `ps -eo pid,stat,wchan:32,cmd | grep ' D'`. End that"
    " use (`umount`, stop the process). A guest with very much memory takes minutes to get its first device. Nothing"
    " else is tried on the device meanwhile, others go on; often only a reboot ends it.")
DETACH_FAILED = _row("DetachFailed", Retry.ON_EVENT,
    "The device did not end on vfio-pci.",
    "`lspci -k -s ADDRESS` shows its driver, `dmesg` why vfio-pci did not take it. Look for udev rules or driverctl"
    " that bind it elsewhere, and try `virsh nodedev-detach pci_0000_01_00_0` by hand.")
REATTACH_BLOCKED = _row("ReattachBlocked", Retry.BACKOFF,
    "Giving the device back to its host driver does not return.",
    "The driver's probe hangs, or QEMU still holds the device: `dmesg`, and `ps -eo pid,stat,wchan:32,cmd | grep '"
    " D'`. The device stays claimed meanwhile, others go on; often only a reboot ends it.")
BIND_FAILED = _row("BindFailed", Retry.BACKOFF,
    "The original driver is not bound after the device was given back.",
    "Load the driver that the message names (`modprobe DRIVER`) and read `dmesg`. By hand: `echo ADDRESS >"
    " /sys/bus/pci/drivers_probe`. It is tried again, and the release ends when the driver is bound.")
VFIO_GROUP_BUSY = _row("VFIOGroupBusy", Retry.BACKOFF,
    "Another process has the VFIO group open.",
    "`fuser -v /dev/vfio/GROUP` names it; the group's number is in status.iommuGroup. End it: often a QEMU, DPDK or"
    " SPDK that was started without libvirt.",
    "Device or resource busy")
PERMISSION_DENIED = _row("PermissionDenied", Retry.BACKOFF,
    "The host denies it.",
    "Look at `dmesg` and at `journalctl -u libvirtd` for AppArmor or SELinux denials (`ausearch -m avc`), at the mode"
    " of `/dev/vfio/*`, and whether the agent may use libvirt's socket for writing.",
    "Permission denied", "Operation not permitted")
HOST_CHANGED = _row("HostChanged", Retry.SOON,
    "The host changed between looking and acting.",
    "Nothing: it is looked at again soon. If it stays, something else changes the same devices or guests.")
LIBVIRT_ERROR = _row("LibvirtError", Retry.BACKOFF,
    "libvirt refused for a reason that is not in the catalogue.",
    "Read the message, `journalctl -u libvirtd` and `/var/log/libvirt/qemu/NAME.log`. Please report the message, so"
    " that it gets a row here.")
STATE_DIRECTORY_FAILED = _row("StateDirectoryFailed", Retry.BACKOFF,
    "The record could not be written, so nothing was changed.",
    "Check the agent's state directory (`--state-dir`, `/var/lib/hostdev-operator`) on the node: `df -h`, `df -i`,"
    " read-only mounts, its mode and owner.")

_topic("Waiting")
AWAITING_APPROVAL = _row("AwaitingApproval", Retry.ON_EVENT,
    "spec.approval is Manual, of the object or of its DeviceHost, and the plan is not approved.",
    "Read status.plan: each action with its device, before and after, and what it interrupts. The message has the"
    " `kubectl patch` that approves just this plan, and what differs from a plan that was approved before. To approve"
    " nothing, delete the object. docs/approval.md has the rest.")
DRIFTED = _row("Drifted", Retry.ON_EVENT,
    "All stood as asked, and somebody else has changed it since. spec.driftPolicy is Report, or putting it right would"
    " take something from a running guest.",
    "The message says what would put it right; status.plan has each action with before and after. Find who changed it"
    " (`journalctl -u libvirtd`, the shell histories; a guest can eject a device itself). To have it put right set"
    " spec.driftPolicy to Correct, for good or for a moment; to keep the change, ask for it in spec, or delete the"
    " object with releasePolicy Keep. docs/drift.md has the rest.")
DRIFTS_AGAIN = _row("DriftsAgain", Retry.BACKOFF,
    "What was put right is changed again and again.",
    "Find who changes it: `journalctl -u libvirtd`, another tool that manages guests, networks or drivers, a script in"
    " cron, the guest itself (an ejected device). It is put right after growing delays, of five minutes at most. Where"
    " driftPolicy Correct has it done, Report leaves it as it is.")
GUEST_RUNNING = _row("GuestRunning", Retry.ON_EVENT,
    "A running guest holds the device; it is given back when the guest is off.",
    "Shut the guest off (`virsh shutdown NAME`). To take the device out of the running guest: `kubectl patch"
    " deviceassignment NAME --type merge -p '{\"spec\":{\"detach\":\"Live\"}}'`.")
# fmt: on
