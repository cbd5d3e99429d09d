"""PFs and their VFs, in /sys and by rtnetlink (kernel: Documentation/PCI/pci-iov-howto, ABI/testing/sysfs-bus-pci)."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TypeVar

from ..core import reasons
from ..core.errors import HostError
from ..core.pci import PciAddress
from ..core.reasons import Reason
from ..core.sriov import Pf, VfConfig
from . import deadline
from .files import exists, link_name, listing, read_text, text_if_any
from .netlink import Netlink
from .sysfs import PciSysfs, parse_address, permanent_mac, vf_links

T = TypeVar("T")

READ_SECONDS = 10.0
#: Bringing a netdev up can mean to load firmware; settings of a VF go through the card's mailbox.
CHANGE_SECONDS = 60.0
#: How long a driver may say that a VF is busy: some reset a new VF for seconds (i40e, ice).
BUSY_SECONDS = 5.0
_POLL_SECONDS = 0.05
_IFF_UP = 0x1
_RANDOM_MAC = "1"  # NET_ADDR_RANDOM of addr_assign_type
_BUSY = (errno.EAGAIN, errno.EBUSY)
_DENIED = (errno.EACCES, errno.EPERM, errno.EROFS)
#: How spec calls them.
_NAMES = {
    "mac": "mac",
    "vlan": "vlan",
    "trust": "trust",
    "spoof_check": "spoofCheck",
    "link_state": "linkState",
    "min_tx_rate": "minTxRate",
    "max_tx_rate": "maxTxRate",
}


@dataclass(frozen=True)
class _Netdev:
    """A PF's netdev, as it was a moment ago."""

    name: str
    index: int
    up: bool


class Sriov:
    """Any thread may call. What can hang in the kernel has a deadline."""

    def __init__(self, pci: PciSysfs, netlink: Netlink) -> None:
        self._pci = pci
        self._netlink = netlink
        self._calls: dict[str, PciAddress] = {}
        self._counts: set[str] = set()

    # -- looking ------------------------------------------------------------------------------------------------------

    def pfs(self) -> tuple[Pf, ...]:
        """In order of address; one that goes away while it is read is left out."""
        found = []
        for name in self._pci.physical_functions():
            with suppress(OSError):
                found.append(self._pf(name))
        return tuple(found)

    def blocked(self) -> frozenset[PciAddress]:
        """By the calls that missed their deadline. A restart of the agent forgets them."""
        return frozenset(self._calls[what] for what in deadline.late() if what in self._calls)

    def _pf(self, name: str) -> Pf:
        folder, address = self._pci.folder(name), parse_address(name)
        read_text(f"{folder}/sriov_totalvfs")  # OSError: it is gone
        netdev = _netdev(folder)
        autoprobe = text_if_any(f"{folder}/sriov_drivers_autoprobe")
        vfs: Mapping[int, VfConfig] = {}
        if netdev and vf_links(folder):
            with suppress(HostError, OSError):
                vfs = self._vfs(address, netdev)
        return Pf(
            address=address,
            netdev=netdev.name if netdev else None,
            mac=permanent_mac(f"{folder}/net"),
            up=netdev.up if netdev else False,
            autoprobe=autoprobe == "1" if autoprobe else None,
            vfs=vfs,
        )

    def _vfs(self, address: PciAddress, netdev: _Netdev) -> Mapping[int, VfConfig]:
        what = f"reading the VFs of PF {address}"
        return deadline.call(lambda: self._netlink.vfs(netdev.index), READ_SECONDS, reasons.VF_CONFIG_REJECTED, what)

    # -- the number of VFs --------------------------------------------------------------------------------------------

    def set_num_vfs(self, address: PciAddress, count: int, seconds: float) -> None:
        """Write sriov_numvfs, and wait for the VFs' folders and links. The kernel goes from one number to 0 only.

        It probes drivers of new VFs, and takes drivers from old ones, before it returns.
        """
        end = time.monotonic() + seconds
        folder = self._folder(address)
        total = int(text_if_any(f"{folder}/sriov_totalvfs") or 0)
        if count > total:
            raise HostError(reasons.VF_COUNT_TOO_HIGH, f"PF {address} can have {total} VFs, and {count} are asked for")
        what = f"setting sriov_numvfs of {address} to {count}"
        self._one_by_one(what)
        made = self._change(what, address, lambda: self._write_count(address, count), seconds, reasons.DETACH_BLOCKED)
        if made != count:
            driver = link_name(f"{folder}/driver")
            message = f"{count} VFs of PF {address} are asked for, and driver {driver} has made {made}"
            raise HostError(reasons.VF_COUNT_TOO_HIGH, message)
        _wait_for_vfs(folder, address, count, end)

    def _one_by_one(self, what: str) -> None:
        """The kernel changes devices under one lock (pci_lock_rescan_remove): another PF's change would hang as well.

        Older kernels lock less. A host where such a change hangs has worse troubles than to wait for it.
        """
        self._counts.add(what)
        before = next((self._calls[w] for w in self._counts & deadline.late()), None)
        if before:
            message = f"{what}: not tried, since the kernel has not returned from changing the VFs of {before}"
            raise HostError(reasons.DETACH_BLOCKED, message)

    def _write_count(self, address: PciAddress, count: int) -> int:
        """What stands there in the end. Even to read it can take for ever."""
        path = f"{self._folder(address)}/sriov_numvfs"
        try:
            now = int(read_text(path))
            steps = (0, count) if now and count else (count,)
            for number in steps if now != count else ():
                _write(path, str(number))
            return int(read_text(path))
        except OSError as error:
            raise self._refused(address, count, error) from error

    def _refused(self, address: PciAddress, count: int, error: OSError) -> HostError:
        """Errors of sriov_numvfs_store (drivers/pci/iov.c) and of the driver's sriov_configure."""
        folder = self._folder(address)
        driver = link_name(f"{folder}/driver")
        if error.errno == errno.ERANGE:
            return HostError(reasons.VF_COUNT_TOO_HIGH, f"PF {address} cannot have {count} VFs: {error.strerror}")
        if error.errno == errno.ENOENT:
            who = f"driver {driver}" if driver else "a PF without driver"
            return HostError(reasons.SRIOV_UNSUPPORTED, f"{who} makes no VFs of {address}")
        return HostError(
            reasons.VFS_NOT_CREATED,
            f"driver {driver} of PF {address} refuses to have {count} VFs ({error.strerror}); dmesg says more",
        )

    def set_autoprobe(self, address: PciAddress, *, on: bool) -> None:
        """Write sriov_drivers_autoprobe and look."""
        path = f"{self._folder(address)}/sriov_drivers_autoprobe"
        if not exists(path):
            raise HostError(reasons.SRIOV_UNSUPPORTED, f"the kernel has no sriov_drivers_autoprobe of {address}")
        try:
            _write(path, str(int(on)))
        except OSError as error:
            message = f"writing {path}: {error.strerror}"
            raise HostError(reasons.SRIOV_UNSUPPORTED, message) from error
        if text_if_any(path) != str(int(on)):
            raise HostError(reasons.HOST_CHANGED, f"{path} was changed by somebody else at the same moment")

    # -- by rtnetlink -------------------------------------------------------------------------------------------------

    def set_link(self, address: PciAddress, *, up: bool) -> None:
        """IFF_UP of the PF's netdev."""
        netdev = self._need_netdev(address)
        what = f"bringing {netdev.name} of PF {address} {'up' if up else 'down'}"
        try:
            self._change(
                what, address, lambda: self._netlink.set_up(netdev.index, up=up), CHANGE_SECONDS, reasons.PF_DOWN
            )
        except OSError as error:
            reason = reasons.PERMISSION_DENIED if error.errno in _DENIED else reasons.PF_DOWN
            raise HostError(reason, f"{what}: {error.strerror}") from error

    def configure_vf(self, address: PciAddress, index: int, config: VfConfig) -> None:
        """Setting by setting, so that the one that is refused can be named."""
        netdev = self._need_netdev(address)
        before = self._vf(address, netdev, index)
        for one in _apart(before.lacking(config), before):
            self._set(address, netdev, index, one)
        left = self._vf(address, netdev, index).lacking(config)
        if not left.empty:
            message = f"{self._driver(address)} has taken {_words(left)} for VF {index}, and does not keep it"
            raise HostError(reasons.VF_CONFIG_REJECTED, message)

    def _vf(self, address: PciAddress, netdev: _Netdev, index: int) -> VfConfig:
        try:
            found = self._vfs(address, netdev)
        except OSError as error:
            raise HostError(reasons.PF_DOWN, f"{netdev.name} of PF {address}: {error.strerror}") from error
        if index not in found:
            raise HostError(reasons.VFS_NOT_CREATED, f"{self._driver(address)} tells of no VF {index}")
        return found[index]

    def _set(self, address: PciAddress, netdev: _Netdev, index: int, config: VfConfig) -> None:
        what = f"setting {_words(config)} for VF {index} of PF {address}"
        end = time.monotonic() + BUSY_SECONDS
        while True:
            try:
                self._change(
                    what,
                    address,
                    lambda: self._netlink.configure(netdev.index, index, config),
                    CHANGE_SECONDS,
                    reasons.VF_CONFIG_REJECTED,
                )
            except OSError as error:
                if error.errno in _BUSY and time.monotonic() < end:
                    time.sleep(_POLL_SECONDS)
                    continue
                state = text_if_any(f"{self._folder(address)}/net/{netdev.name}/operstate")
                hint = f"; {netdev.name} has no link, which some drivers want for it" if state == "down" else ""
                message = f"{self._driver(address)} refuses {_words(config)} for VF {index} ({error.strerror}){hint}"
                raise HostError(reasons.VF_CONFIG_REJECTED, message) from error
            return

    # -- shared -------------------------------------------------------------------------------------------------------

    def _change(self, what: str, address: PciAddress, work: Callable[[], T], seconds: float, blocked: Reason) -> T:
        if address in self.blocked():
            raise HostError(blocked, f"{what}: an earlier change of it has not returned yet")
        self._calls[what] = address
        return deadline.call(work, max(seconds, _POLL_SECONDS), blocked, what)

    def _folder(self, address: PciAddress) -> str:
        """The folder of a function that can have VFs."""
        folder = self._pci.folder(str(address))
        if not exists(folder):
            raise HostError(reasons.DEVICE_NOT_FOUND, f"there is no PCI device {address}")
        if not exists(f"{folder}/sriov_totalvfs"):
            raise HostError(reasons.SRIOV_UNSUPPORTED, f"{address} is no PF: the kernel shows no sriov_totalvfs")
        return folder

    def _need_netdev(self, address: PciAddress) -> _Netdev:
        folder = self._folder(address)
        netdev = _netdev(folder)
        if netdev is None:
            driver = link_name(f"{folder}/driver")
            raise HostError(reasons.PF_DOWN, f"PF {address} has no netdev (driver {driver or 'none'})")
        return netdev

    def _driver(self, address: PciAddress) -> str:
        return f"driver {link_name(f'{self._pci.folder(str(address))}/driver')} of PF {address}"


def _netdev(folder: str) -> _Netdev | None:
    """The PF's netdev; None if there is none, or it goes away."""
    try:
        names = listing(f"{folder}/net")
        if not names:
            return None
        name = min(names, key=lambda n: (*_port(f"{folder}/net/{n}"), n))
        net = f"{folder}/net/{name}"
        flags = int(read_text(f"{net}/flags"), 16)
        return _Netdev(name, int(read_text(f"{net}/ifindex")), bool(flags & _IFF_UP))
    except (OSError, ValueError):
        return None


def _port(net: str) -> tuple[bool, int]:
    """Of a card with two ports in one function the first one; never what stands for a VF in a switchdev.

    Those have random MAC addresses. (phys_port_name would tell, but reading it waits for everyone who changes a netdev,
    and so does carrier.)
    """
    random = text_if_any(f"{net}/addr_assign_type") == _RANDOM_MAC
    return random, int(text_if_any(f"{net}/dev_port") or 0)


def _write(path: str, text: str) -> None:
    """OSError of what is written; HostError where the file cannot even be opened."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC)
    except OSError as error:
        reason = reasons.PERMISSION_DENIED if error.errno in _DENIED else reasons.DEVICE_NOT_FOUND
        raise HostError(reason, f"{path} cannot be written: {error.strerror}") from error
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


def _wait_for_vfs(folder: str, address: PciAddress, count: int, end: float) -> None:
    """Until each VF has its folder and its link back to the PF, and no other is left."""
    while True:
        links = vf_links(folder)
        ready = sum(link_name(f"{folder}/{name}/physfn") == str(address) for name in links)
        if len(links) == ready == count:
            return
        if time.monotonic() >= end:
            message = f"PF {address} has {count} VFs by its sriov_numvfs, and {ready} of them are there"
            raise HostError(reasons.VFS_NOT_CREATED, message)
        time.sleep(_POLL_SECONDS)


def _apart(wanted: VfConfig, now: VfConfig) -> Iterator[VfConfig]:
    """Each setting alone; rates are one to the kernel, so the one that is not asked for is said as it is."""
    for name in ("mac", "vlan", "trust", "spoof_check", "link_state"):
        if getattr(wanted, name) is not None:
            yield VfConfig(**{name: getattr(wanted, name)})
    if wanted.min_tx_rate is not None or wanted.max_tx_rate is not None:
        low, high = wanted.min_tx_rate, wanted.max_tx_rate
        yield replace(
            VfConfig(),
            min_tx_rate=now.min_tx_rate if low is None else low,
            max_tx_rate=now.max_tx_rate if high is None else high,
        )


def _words(config: VfConfig) -> str:
    settings = {name: getattr(config, field) for field, name in _NAMES.items()}
    return ", ".join(f"{name} {_value(value)}" for name, value in settings.items() if value is not None)


def _value(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
