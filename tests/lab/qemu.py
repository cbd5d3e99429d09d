"""The QEMU process of the laboratory: its machine as a command line, its start and its QMP monitor."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from tests.lab.channel import LabError
from tests.lab.command_daemon import PORT
from tests.lab.image import CPU, KERNEL_ARGS, Image

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

# A boot with systemd as PID 1 (labinit: image/root/lab/init). Left out is what costs seconds and no test needs, and
# libvirt-guests, which would ask guests to shut down that know no power button.
_MASKED = (
    *("getty@tty1.service", "serial-getty@ttyS0.service", "e2scrub_reap.service", "systemd-random-seed.service"),
    *("systemd-binfmt.service", "proc-sys-fs-binfmt_misc.automount", "libvirt-guests.service", "containerd.service"),
    *("dev-hugepages.mount", "dev-mqueue.mount"),
    *("sys-kernel-debug.mount", "sys-kernel-tracing.mount", "sys-kernel-config.mount", "modprobe@drm.service"),
)
SYSTEMD_ARGS = " ".join(
    [
        "labinit=systemd systemd.show_status=0 systemd.condition-needs-update=no",
        "modules_load=vfio-pci,vfio_iommu_type1",
        *(f"systemd.wants={unit}.service" for unit in ("lab-commands", "lab-apic", "lab-ready")),
        *(f"systemd.mask={unit}" for unit in _MASKED),
    ]
)
# With VT-d; with AMD-Vi and without interrupt remapping; without any.
Board = Literal["intel", "amd", "none"]
INTEL_IOMMU = "intel-iommu,intremap=on,device-iotlb=on"
# With its interrupt remapping the kernel does not get beyond its timer.
AMD_IOMMU = "amd-iommu,intremap=off"
# A fixed machine identity, as a real host has: libvirt and the agent compare it over restarts.
MACHINE_UUID = "6d0f2c52-5a0e-4a07-9a3e-1ab000000001"


def mount_tag(number: int) -> str:
    """Name the 9p device of the n-th read-only mount."""
    return f"mount{number}"


@dataclass(frozen=True)
class Machine:
    """What a laboratory host consists of. The folder holds its disks, console and sockets."""

    folder: Path
    share: Path
    image: Image
    mounts: tuple[tuple[str, Path], ...] = ()
    kernel_args: str = ""
    iommu: bool = True
    board: Board = "intel"
    boot_disk: Path | None = None
    systemd: bool = False
    extra_qemu: tuple[str, ...] = ()

    @property
    def console(self) -> Path:
        """What the laboratory host printed on its serial console, over all its boots."""
        return self.folder / "console.log"

    def create_disks(self) -> None:
        """Make the root disk, an overlay over the cached base, and the NVMe disk, both in the folder."""
        base = ["-b", str(self.image.base_disk), "-F", "raw"]
        create = ["qemu-img", "create", "-q", "-f", "qcow2"]
        subprocess.run([*create, *base, str(self.folder / "root.qcow2")], check=True)
        subprocess.run([*create, str(self.folder / "nvme.qcow2"), "64M"], check=True)

    def command(self) -> list[str]:
        """Give QEMU's command line. Addresses are given where the order of the disks depends on them."""
        return [
            *("qemu-system-x86_64", "-name", "lab", "-uuid", MACHINE_UUID, "-nodefaults", "-no-user-config"),
            *("-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", CPU, "-smp", "2", "-m", "3G"),
            *("-display", "none", "-no-reboot", "-device", "VGA,bus=pcie.0,addr=1"),
            *("-chardev", f"file,id=console,path={self.console},append=on", "-serial", "chardev:console"),
            *("-chardev", "socket,id=qmp,path=qmp.sock,server=on,wait=off"),
            *("-mon", "chardev=qmp,mode=control"),
            *self._boot(),
            *(("-device", INTEL_IOMMU) if self.board == "intel" else ()),
            *self._disks(),
            *self._shares(),
            *self._network_cards(),
            *(("-device", AMD_IOMMU) if self.board == "amd" else ()),  # it takes a free slot
            *self.extra_qemu,
        ]

    @property
    def kernel_line(self) -> str:
        """The kernel's command line, which QEMU or GRUB gives to it."""
        init = SYSTEMD_ARGS if self.systemd else ""
        # without interrupt remapping an AMD board's serial port has no interrupt: who writes to it would wait
        console = "console=tty0" if self.board == "amd" else ""
        iommu = f"intel_iommu={'on' if self.iommu else 'off'}"
        return " ".join(filter(None, (KERNEL_ARGS, console, iommu, init, self.kernel_args)))

    def _boot(self) -> list[str]:
        """The kernel from QEMU, or GRUB from a disk, which finds the kernel on the root disk.

        The firmware shows GRUB only disks that have a bootindex.
        """
        if self.boot_disk is None:
            kernel, initrd = str(self.image.kernel), str(self.image.initrd)
            return ["-kernel", kernel, "-initrd", initrd, "-append", self.kernel_line]
        return [
            *("-drive", f"file={self.boot_disk},if=none,id=boot,format=raw,readonly=on"),
            *("-device", "virtio-blk-pci,drive=boot,serial=boot,bus=pcie.0,addr=0x1c,bootindex=0"),
        ]

    def _disks(self) -> list[str]:
        """Root disk, Python packages, NVMe. writeback: what was synced outlives QEMU, the rest is gone."""
        return [
            *("-drive", f"file={self.folder}/root.qcow2,if=none,id=root,format=qcow2,cache=writeback"),
            *("-device", "virtio-blk-pci,drive=root,bus=pcie.0,addr=2" + (",bootindex=1" if self.boot_disk else "")),
            *("-drive", f"file={self.image.site_disk},if=none,id=site,format=raw,readonly=on"),
            *("-device", "virtio-blk-pci,drive=site,serial=site,bus=pcie.0,addr=3"),
            *("-drive", f"file={self.folder}/nvme.qcow2,if=none,id=nvmedisk,format=qcow2,cache=writeback"),
            *("-device", "pcie-root-port,id=rp4,chassis=4,slot=4,bus=pcie.0,addr=0x13"),
            *("-device", "nvme,id=nvme0,drive=nvmedisk,serial=labnvme,bus=rp4"),
        ]

    def _shares(self) -> list[str]:
        """Give 9p folders: the exchange folder, and others that the lab cannot write to."""
        arguments = [
            *("-fsdev", f"local,id=share,path={self.share},security_model=none"),
            *("-device", "virtio-9p-pci,fsdev=share,mount_tag=share,bus=pcie.0,addr=5"),
        ]
        for number, (_, path) in enumerate(self.mounts):
            tag = mount_tag(number)
            arguments += ["-fsdev", f"local,id={tag},path={path},security_model=none,readonly=on"]
            place = f"bus=pcie.0,addr={6 + number}"
            arguments += ["-device", f"virtio-9p-pci,fsdev={tag},mount_tag={tag},{place}"]
        return arguments

    @staticmethod
    def _network_cards() -> list[str]:
        """Give the management card and the assignable ones, without option ROMs: those cost boot time."""
        arguments = [
            *("-netdev", f"user,id=management,ipv6=off,hostfwd=tcp:127.0.0.1:0-10.0.2.15:{PORT}"),
            *("-device", "virtio-net-pci,id=mgmt0,netdev=management,bus=pcie.0,addr=4,romfile="),
        ]
        ports = [("rp1", "0x10"), ("rp2", "0x11"), ("rp3", "0x12"), ("spare", "0x14"), ("spare2", "0x15")]
        for number, (name, address) in enumerate(ports, 1):
            slot = f"chassis={number + 10},slot={number + 10}"
            arguments += ["-device", f"pcie-root-port,id={name},{slot},bus=pcie.0,addr={address}"]
        arguments += ["-device", "pcie-pci-bridge,id=bridge,bus=rp3"]
        cards = [
            ("igb,id=igb0,bus=rp1", "52:54:00:10:00:01"),
            ("igb,id=igb1,bus=rp2", "52:54:00:10:00:02"),
            ("e1000,id=nic0,bus=bridge,addr=1", "52:54:00:10:00:03"),
            ("e1000,id=nic1,bus=bridge,addr=2", "52:54:00:10:00:04"),
        ]
        for number, (card, mac) in enumerate(cards):
            arguments += ["-netdev", f"user,id=n{number},ipv6=off,restrict=on"]
            arguments += ["-device", f"{card},netdev=n{number},mac={mac},romfile="]
        return arguments


class Qmp:
    """QEMU's monitor: plug and unplug devices, press the power button."""

    def __init__(self, folder: Path) -> None:
        # A socket's address holds 107 bytes and a test's folder may be longer: go through its descriptor.
        descriptor = os.open(folder, os.O_PATH)
        try:
            self._socket = socket.socket(socket.AF_UNIX)
            self._socket.settimeout(60)
            self._socket.connect(f"/proc/self/fd/{descriptor}/qmp.sock")
        finally:
            os.close(descriptor)
        self._stream = self._socket.makefile("rw", encoding="utf-8")
        self._stream.readline()
        self.execute("qmp_capabilities")

    def execute(self, command: str, **arguments: object) -> Any:
        """Run a QMP command and return its answer; raises LabError with QEMU's words."""
        self._stream.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self._stream.flush()
        while line := self._stream.readline():
            reply = json.loads(line)
            if "error" in reply:
                msg = f"QMP {command}: {reply['error']['desc']}"
                raise LabError(msg)
            if "return" in reply:
                return reply["return"]
        msg = f"QMP {command}: QEMU has ended"
        raise LabError(msg)

    def command_port(self) -> int:
        """Tell the port of this machine's loopback that leads to the command daemon; QEMU chose it."""
        table = self.execute("human-monitor-command", **{"command-line": "info usernet"})
        found = re.search(r"TCP\[HOST_FORWARD\]\s+\S+\s+127\.0\.0\.1\s+(\d+)", table)
        if not found:
            msg = f"no forwarded port in:\n{table}"
            raise LabError(msg)
        return int(found.group(1))

    def close(self) -> None:
        """Close the connection; QEMU goes on."""
        self._stream.close()
        self._socket.close()


def start(command: Sequence[str], folder: Path) -> subprocess.Popen[bytes]:
    """Start QEMU. It dies with the calling thread (PR_SET_PDEATHSIG), so nothing outlives a killed pytest."""
    with (folder / "qemu.log").open("ab") as log:
        return subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *command],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
