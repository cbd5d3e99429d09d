"""Devices that are plugged into the laboratory host itself and taken out again, as hands do with cards."""

from __future__ import annotations

import itertools
from types import TracebackType
from typing import Self

from tests.lab.host import LabHost

NVME = "1b36:0010"
SIZE = 16 << 20


class SpareNvme:
    """An NVMe controller on one of the root ports that are left free for it (tests/lab/qemu.py)."""

    _numbers = itertools.count(1)  # QEMU wants each name once in its life

    def __init__(self, lab: LabHost) -> None:
        self._lab = lab
        self._number = 0
        self._address: str | None = None

    @property
    def _id(self) -> str:
        return f"spare-nvme{self._number}"

    def plug(self, port: str, serial: str) -> str:
        """Put it in, and wait until its driver is bound; its address in the laboratory host."""
        self._number = next(self._numbers)
        before = set(self._lab.find_devices(NVME))
        node = f"spare-disk{self._number}"
        self._lab.qmp.execute("blockdev-add", driver="null-co", size=SIZE, **{"node-name": node, "read-zeroes": True})
        self._lab.qmp.execute("device_add", driver="nvme", id=self._id, drive=node, serial=serial, bus=port)
        # an NVMe controller is bound when its disk is there; pciehp takes seconds
        loop = (
            f"until new=$(lspci -Dn -d {NVME} | cut -d' ' -f1 | grep -vxF '{chr(10).join(before)}') &&"
            " [ -e /sys/bus/pci/devices/$new/driver ] && ls /sys/bus/pci/devices/$new/nvme > /dev/null 2>&1;"
            " do sleep 0.1; done; echo $new"
        )
        self._address = self._lab.run(loop, timeout=120).stdout.strip()
        return self._address

    def unplug(self) -> None:
        """Take it out, and wait until the laboratory host has noticed."""
        self._lab.qmp.execute("device_del", id=self._id)
        self._lab.run(f"while [ -e /sys/bus/pci/devices/{self._address} ]; do sleep 0.1; done", timeout=120)
        self._address = None

    def __enter__(self) -> Self:
        """Nothing is plugged in yet."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """The port is free for the next test."""
        if self._address:
            self.unplug()
