"""A recorded host as the ports of ports.py: to be looked at, never to be changed."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from ..core import reasons
from ..core.actions import (
    AddController,
    AddHostdev,
    AddInterface,
    DropSavedImage,
    PlugHostdev,
    PlugInterface,
    RemoveController,
    RemoveHostdev,
    RemoveInterface,
    UnplugHostdev,
    UnplugInterface,
)
from ..core.domain_xml import GuestXml
from ..core.errors import HostError
from ..core.guest import DefineGuest, ShutDownGuest, StartGuest, UndefineGuest
from ..core.host_status import Names
from ..core.network_xml import NetworkXml
from ..core.pci import PciAddress
from ..core.recording import (
    HEAD,
    NETLINK,
    STATE,
    Head,
    LibvirtAnswers,
    RecordingError,
    libvirt_answers,
    netlink_answers,
)
from ..core.sriov import VfConfig
from ..ports import Host
from .archive import unpack, write_folder
from .clock import SystemClock
from .journal import Journal, ReadOnlyRecords
from .kernel import Kernel
from .netlink import Netlink
from .preparation import UnitFiles
from .start_gate import GateFiles

_WHY = "this is a recording of a host: it can be looked at, and not changed"


@contextmanager
def open_recording(path: Path) -> Iterator[Host]:
    """The ports of a recorded host, as long as the context lasts; ``path`` is a .tar.zst, or a folder that was one.

    They answer as the host did; everything that would change it is a HostError. RecordingError if it is no recording.
    """
    with tempfile.TemporaryDirectory(prefix="hostdev-recording-") as unpacked:
        root = path
        try:
            if not path.is_dir():
                root = Path(unpacked)
                write_folder(unpack(path.read_bytes()), root)
        except OSError as error:
            raise RecordingError(f"{path} cannot be read: {error}") from error
        yield _ports(root)


def read_head(path: Path) -> Head:
    """What a recording says of itself: its node, versions, and whether it is masked."""
    content = (path / HEAD).read_bytes() if path.is_dir() else unpack(path.read_bytes()).get(HEAD)
    if not isinstance(content, bytes):
        raise RecordingError(f"there is no {HEAD} in it")
    return Head.from_json(content.decode())


def _ports(root: Path) -> Host:
    def read(name: str) -> str | None:
        try:
            return (root / name).read_text()
        except OSError:
            return None

    Head.from_json(read(HEAD) or "")
    journal = Journal(root / STATE)
    return Host(
        hypervisor=RecordedHypervisor(libvirt_answers(read)),
        devices=RecordedKernel(root, _RecordedNetlink(netlink_answers(read(NETLINK) or ""))),
        records=ReadOnlyRecords(journal.assignments, _WHY),
        pool_records=ReadOnlyRecords(journal.pools, _WHY),
        approvals=ReadOnlyRecords(journal.approvals, _WHY),
        preparation=UnitFiles(root, root / STATE),
        gate=GateFiles(root, root / STATE),
        clock=SystemClock(),
    )


def _refuse(*_arguments: object, **_options: object) -> NoReturn:
    raise HostError(reasons.PERMISSION_DENIED, _WHY)


class _RecordedNetlink(Netlink):
    """What rtnetlink said of VFs, by the index of their PF's interface."""

    def __init__(self, said: Mapping[int, Mapping[int, VfConfig]]) -> None:
        self._said = said

    def vfs(self, interface: int) -> Mapping[int, VfConfig]:
        return self._said.get(interface, {})


class RecordedKernel(Kernel):
    """The real adapter on recorded files."""

    def wait_for_driver(self, address: PciAddress, wanted: Callable[[str | None], bool], seconds: float) -> str | None:
        """Nothing will happen."""
        del wanted, seconds
        return self.driver(address)

    def set_num_vfs(self, address: PciAddress, count: int, seconds: float) -> None:
        """Refused, as everything below."""
        _refuse(address, count, seconds)

    def set_autoprobe(self, address: PciAddress, *, on: bool) -> None:
        """Refused."""
        _refuse(address, on)

    def set_link(self, address: PciAddress, *, up: bool) -> None:
        """Refused."""
        _refuse(address, up)

    def configure_vf(self, address: PciAddress, index: int, config: VfConfig) -> None:
        """Refused."""
        _refuse(address, index, config)


class RecordedHypervisor:
    """What libvirt said. Where it said nothing, each question fails as it did then."""

    def __init__(self, said: LibvirtAnswers) -> None:
        self._answers = said

    def _said(self) -> LibvirtAnswers:
        if self._answers.trouble is not None:
            raise HostError(reasons.LIBVIRT_UNAVAILABLE, self._answers.trouble)
        return self._answers

    def guests(self) -> tuple[GuestXml, ...]:
        """As recorded, in order of UUID."""
        return self._said().guests

    def networks(self) -> tuple[NetworkXml, ...]:
        """As recorded, in order of UUID."""
        return self._said().networks

    def storage_pools(self) -> tuple[str, ...] | None:
        """As recorded."""
        return self._said().storage_pools

    def names(self, addresses: tuple[PciAddress, ...]) -> Names:
        """As recorded."""
        return {address: names for address, names in (self._said().names or {}).items() if address in addresses}

    def rejections(self) -> frozenset[tuple[str, str]]:
        """As recorded."""
        return self._answers.rejections

    def blocked(self) -> frozenset[PciAddress]:
        """None: that is known to the process alone whose call hangs."""
        return frozenset()

    def define_network(self, xml: str) -> None:
        """Refused, as everything below."""
        _refuse(xml)

    def start_network(self, name: str) -> None:
        """Refused."""
        _refuse(name)

    def autostart_network(self, name: str) -> None:
        """Refused."""
        _refuse(name)

    def stop_network(self, name: str) -> None:
        """Refused."""
        _refuse(name)

    def undefine_network(self, name: str, uuid: str) -> None:
        """Refused."""
        _refuse(name, uuid)

    def detach_driver(self, address: PciAddress) -> None:
        """Refused."""
        _refuse(address)

    def reattach_driver(self, address: PciAddress) -> None:
        """Refused."""
        _refuse(address)

    def add_hostdev(self, action: AddHostdev) -> None:
        """Refused."""
        _refuse(action)

    def remove_hostdev(self, action: RemoveHostdev) -> None:
        """Refused."""
        _refuse(action)

    def add_controller(self, action: AddController) -> None:
        """Refused."""
        _refuse(action)

    def remove_controller(self, action: RemoveController) -> None:
        """Refused."""
        _refuse(action)

    def drop_saved_image(self, action: DropSavedImage) -> None:
        """Refused."""
        _refuse(action)

    def define_guest(self, step: DefineGuest) -> None:
        """Refused."""
        _refuse(step)

    def start_guest(self, step: StartGuest) -> None:
        """Refused."""
        _refuse(step)

    def shut_down_guest(self, step: ShutDownGuest) -> None:
        """Refused."""
        _refuse(step)

    def undefine_guest(self, step: UndefineGuest) -> None:
        """Refused."""
        _refuse(step)

    def plug_hostdev(self, action: PlugHostdev) -> None:
        """Refused."""
        _refuse(action)

    def unplug_hostdev(self, action: UnplugHostdev) -> None:
        """Refused."""
        _refuse(action)

    def add_interface(self, action: AddInterface) -> None:
        """Refused."""
        _refuse(action)

    def remove_interface(self, action: RemoveInterface) -> None:
        """Refused."""
        _refuse(action)

    def plug_interface(self, action: PlugInterface) -> None:
        """Refused."""
        _refuse(action)

    def unplug_interface(self, action: UnplugInterface) -> None:
        """Refused."""
        _refuse(action)
