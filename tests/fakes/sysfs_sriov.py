"""What a kernel does behind /sys and rtnetlink when it is asked for VFs, on a made-up tree (drivers/pci/iov.c)."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from hostdev_operator.adapters.netlink import Netlink
from hostdev_operator.core.sriov import VfConfig
from hostdev_operator.simulation.sriov import FRESH
from tests.fakes.sysfs_tree import SysfsTree

PF = "0000:01:00.0"
INDEX = 7
_NETDEV_FILES = {"ifindex": str(INDEX), "flags": "0x1002", "dev_port": "0", "operstate": "down"}


class SriovKernel(Netlink):
    """One PF with driver igb and netdev eth3, down, without VFs.

    ``refusal``: the errno of the next writes; ``makes``: how many VFs the driver makes at most; ``loses``: a setting is
    taken and not kept; ``rejects``: names of VfConfig's fields and the errno with which the driver refuses them.
    """

    def __init__(self, tree: SysfsTree, total: int = 7) -> None:
        self.tree = tree
        self.total = total
        self.writes: list[str] = []
        self.refusal: int | None = None
        self.makes: int | None = None
        self.loses = False
        self.rejects: dict[str, int] = {}
        self.configs: dict[int, VfConfig] = {}
        tree.pci("0000:00:1c.0", 0x060400, header=1)
        tree.pci(f"0000:00:1c.0/{PF}", driver="igb", group=12)
        tree.vfs(PF, total)
        self.netdev("eth3")
        (self.folder / "sriov_drivers_autoprobe").write_text("1\n")

    @property
    def folder(self) -> Path:
        """The PF's."""
        return self.tree.device(PF)

    def netdev(self, name: str, mac: str = "52:54:00:10:00:01", **files: str) -> None:
        """A netdev of the PF."""
        self.tree.nic(name, self.folder)
        self.tree.mac(name, mac)
        for file, text in {**_NETDEV_FILES, **files}.items():
            (self.folder / "net" / name / file).write_text(text + "\n")

    # -- /sys ---------------------------------------------------------------------------------------------------------

    def write(self, path: str, text: str) -> None:
        """What a write to a file of the PF does."""
        name = Path(path).name
        self.writes.append(f"{name}={text}")
        if self.refusal is not None:
            raise OSError(self.refusal, os.strerror(self.refusal))
        if name == "sriov_numvfs":
            self._count(int(text))
        else:
            Path(path).write_text(text + "\n")

    def _count(self, count: int) -> None:
        now = int((self.folder / "sriov_numvfs").read_text())
        if count > self.total:
            raise OSError(errno.ERANGE, os.strerror(errno.ERANGE))
        if not (self.folder / "driver").exists():
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
        if now and count and now != count:
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        if now != count:
            self.make(min(count, count if self.makes is None else self.makes))

    def make(self, count: int) -> None:
        """So many VFs, by whomever."""
        for link in self.folder.glob("virtfn*"):
            self.tree.unplug(link.resolve().name)
            link.unlink()
        names = [f"0000:01:{0x10 + 2 * index // 8:02x}.{2 * index % 8}" for index in range(count)]
        autoprobe = (self.folder / "sriov_drivers_autoprobe").read_text().strip() == "1"
        for name in names:
            driver = "igbvf" if autoprobe else None
            self.tree.pci(f"0000:00:1c.0/{name}", device=0x10CA, driver=driver)
        self.tree.vfs(PF, self.total, *names)
        self.configs = dict.fromkeys(range(count), FRESH)

    # -- rtnetlink ----------------------------------------------------------------------------------------------------

    def vfs(self, interface: int) -> Mapping[int, VfConfig]:
        self._interface(interface)
        return dict(self.configs)

    def set_up(self, interface: int, *, up: bool) -> None:
        name = self._interface(interface)
        (self.folder / "net" / name / "flags").write_text("0x1003\n" if up else "0x1002\n")

    def configure(self, interface: int, vf: int, config: VfConfig) -> None:
        self._interface(interface)
        asked = {name: value for name, value in vars(config).items() if value is not None}
        for name in asked:
            if name in self.rejects:
                number = self.rejects[name]
                raise OSError(number, os.strerror(number))
        if vf not in self.configs:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        if not self.loses:
            self.configs[vf] = replace(self.configs[vf], **asked)

    def _interface(self, index: int) -> str:
        """The netdev of that index, whatever its name is now."""
        for file in self.folder.glob("net/*/ifindex"):
            if int(file.read_text()) == index:
                return file.parent.name
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
