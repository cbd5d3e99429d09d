"""Domain XML for the guests of the tests.

The test guest (tests/lab/guest) runs a few seconds after `virsh start`. The Linux guest has drivers and needs minutes.
"""

from __future__ import annotations

import re
import shutil
from typing import TYPE_CHECKING, Literal

from tests.lab import image

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.lab.host import LabHost

Machine = Literal["q35", "pc"]

# Put there by image/disk.sh.
KERNEL = "/lab/guest.elf"
# Put there by install_linux_guest.
LINUX_FOLDER = "linux-guest"
LINUX_KERNEL, LINUX_INITRD = f"/share/{LINUX_FOLDER}/vmlinux", f"/share/{LINUX_FOLDER}/initrd"
LINUX_MEMORY = 192

# Of image.KERNEL_ARGS, what makes an emulated boot shorter; twice as much here.
LINUX_ARGS = (
    "console=ttyS0 quiet panic=-1 mitigations=off tsc=reliable no_timer_check lpj=6000000 nokaslr nowatchdog "
    "init_on_alloc=0 audit=0 apparmor=0 rcupdate.rcu_expedited=1 cryptomgr.notests"
)

# Six root ports (one carries the conventional bus), since hot plug never adds a controller.
_Q35_CONTROLLERS = "\n".join(
    [
        "<controller type='pci' index='0' model='pcie-root'/>",
        *(f"<controller type='pci' index='{index}' model='pcie-root-port'/>" for index in range(1, 7)),
        "<controller type='pci' index='7' model='pcie-to-pci-bridge'/>",
    ]
)


def log_path(name: str) -> str:
    """Give the file in the laboratory host that holds what the guest prints."""
    return f"/var/log/guest-{name}.log"


def hostdev_xml(address: str, *, managed: bool = True, alias: str | None = None) -> str:
    """Give libvirt's <hostdev> for a host PCI device, whose address has the form 0000:04:01.0."""
    domain, bus, slot, function = re.split("[:.]", address)
    source = f"domain='0x{domain}' bus='0x{bus}' slot='0x{slot}' function='0x{function}'"
    named = f"<alias name='{alias}'/>" if alias else ""
    return (
        f"<hostdev mode='subsystem' type='pci' managed='{'yes' if managed else 'no'}'>"
        f"<source><address {source}/></source>{named}</hostdev>"
    )


def guest_xml(
    name: str,
    *,
    machine: Machine = "q35",
    uuid: str | None = None,
    refuse: bool = False,
    hostdevs: Iterable[str] = (),
    extra_devices: str = "",
) -> str:
    """Give the XML of a test guest.

    Args:
        name: of the domain; its console is the file log_path(name).
        machine: q35 has free root ports and a conventional bus; pc (i440fx) takes conventional devices alone.
        uuid: libvirt makes one up without it.
        refuse: whether the guest ignores unplug requests.
        hostdevs: addresses of host devices that are given to it as managed ones, or whole <hostdev> elements.
        extra_devices: more XML inside <devices>.
    """
    command_line = "refuse" if refuse else "answer"
    os = f"<kernel>{KERNEL}</kernel><cmdline>{command_line}</cmdline>"
    return _domain_xml(name, os, 64, machine, uuid, [*map(_hostdev, hostdevs), extra_devices])


def linux_guest_xml(
    name: str,
    *,
    machine: Machine = "q35",
    uuid: str | None = None,
    hostdevs: Iterable[str] = (),
    extra_devices: str = "",
) -> str:
    """Give the XML of a Linux guest, whose files install_linux_guest puts there; its arguments are guest_xml's.

    Besides the test guest's lines it prints `GUEST driver BB:DD.F e1000` when one of its drivers has bound a device.
    """
    os = f"<kernel>{LINUX_KERNEL}</kernel><initrd>{LINUX_INITRD}</initrd><cmdline>{LINUX_ARGS}</cmdline>"
    return _domain_xml(name, os, LINUX_MEMORY, machine, uuid, [*map(_hostdev, hostdevs), extra_devices])


def install_linux_guest(lab: LabHost) -> None:
    """Put the Linux guest's kernel and initial RAM disk into the laboratory host, built where they are missing."""
    folder = lab.machine.share / LINUX_FOLDER
    shutil.copytree(image.ensure_linux_guest(lab.machine.image), folder, dirs_exist_ok=True)


def _hostdev(text: str) -> str:
    return text if text.lstrip().startswith("<") else hostdev_xml(text)


def _domain_xml(name: str, os: str, memory: int, machine: Machine, uuid: str | None, devices: Iterable[str]) -> str:
    return f"""<domain type='qemu'>
  <name>{name}</name>
  {f"<uuid>{uuid}</uuid>" if uuid else ""}
  <memory unit='MiB'>{memory}</memory>
  <vcpu>1</vcpu>
  <os>
    <type arch='x86_64' machine='{machine}'>hvm</type>
    {os}
  </os>
  <features><acpi/></features>
  <cpu mode='custom' match='exact'><model>qemu64</model></cpu>
  <on_reboot>restart</on_reboot>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    {_Q35_CONTROLLERS if machine == "q35" else ""}
    <controller type='usb' model='none'/>
    <serial type='file'><source path='{log_path(name)}'/></serial>
    <memballoon model='none'/>
    {"".join(devices)}
  </devices>
</domain>
"""


def define(lab: LabHost, name: str, xml: str) -> None:
    """Define a domain in the laboratory host."""
    lab.write(f"/tmp/{name}.xml", xml)
    lab.virsh("define", f"/tmp/{name}.xml")


def guest_log(lab: LabHost, name: str) -> str:
    """Read what the guest has printed in its current run; empty before its first."""
    return lab.run(f"cat {log_path(name)} 2> /dev/null || true").stdout


def wait_for_guest(lab: LabHost, name: str, text: str, timeout: float = 60) -> str:
    """Wait until the guest has printed a text (extended regular expression); returns its console.

    Raises LabCommandTimeoutError after `timeout` seconds.
    """
    path = log_path(name)
    loop = 'until grep -aqE "$1" "$2" 2> /dev/null; do sleep 0.1; done'
    lab.run(["bash", "-c", loop, "-", text, path], timeout=timeout)
    return guest_log(lab, name)
