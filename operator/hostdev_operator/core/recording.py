"""What a recording of a host is made of: files, links and folders by their path, and what libvirt said, as such files.

docs/recording.md has the layout.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from .domain_xml import GuestXml
from .host_status import Names
from .network_xml import NetworkXml
from .pci import PciAddress
from .sriov import VfConfig

FORMAT = 1
HEAD, LIBVIRT, NETLINK, STATE = "recording.json", "libvirt.json", "netlink.json", "state"
#: Files of each guest and network; a recording from before there was one has none of it.
_FORMS = {"guests": ("live", "config", "saved"), "networks": ("live", "config")}


class RecordingError(Exception):
    """Something is no recording, or one that this version cannot read."""


@dataclass(frozen=True)
class Link:
    """A symbolic link, as it says itself where it leads."""

    target: str


#: A file's content, a link, or None for a folder.
Entry = bytes | Link | None
#: Path without a slash at its start -> what is there. Folders on the way to something need not be listed.
Tree = Mapping[str, Entry]


@dataclass(frozen=True)
class Head:
    """What the recording says of itself. ``versions``: of the kernel, of libvirt, of this program."""

    node: str
    versions: Mapping[str, str]
    masked: bool = False

    def to_json(self) -> str:
        """The text of recording.json."""
        return _json({"format": FORMAT, "masked": self.masked, "node": self.node, "versions": dict(self.versions)})

    @classmethod
    def from_json(cls, text: str) -> Head:
        """RecordingError if it is none, or of another format."""
        try:
            data = json.loads(text)
            if data["format"] != FORMAT:
                raise RecordingError(f"a recording of format {data['format']!r}; this version reads {FORMAT}")
            return cls(data["node"], data["versions"], data["masked"])
        except (ValueError, KeyError, TypeError) as error:
            raise RecordingError(f"{HEAD} cannot be read: {error!r}") from error


@dataclass(frozen=True)
class LibvirtAnswers:
    """What libvirt says when it is asked, as Hypervisor of ports.py does. ``trouble``: why it said nothing at all."""

    guests: tuple[GuestXml, ...] = ()
    networks: tuple[NetworkXml, ...] = ()
    storage_pools: tuple[str, ...] | None = ()
    names: Names | None = None
    rejections: frozenset[tuple[str, str]] = frozenset()
    trouble: str | None = None


def libvirt_tree(said: LibvirtAnswers) -> dict[str, Entry]:
    """As files: each XML is one of its own, named by UUID. libvirt lists in no order; here UUIDs are in order."""
    guests = {guest.uuid: guest for guest in sorted(said.guests, key=lambda guest: guest.uuid)}
    networks = {network.uuid: network for network in sorted(said.networks, key=lambda network: network.uuid)}
    pools = sorted(said.storage_pools) if said.storage_pools is not None else None
    index = {
        "trouble": said.trouble,
        "guests": {uuid: {"name": guest.name} for uuid, guest in guests.items()},
        "networks": {
            uuid: {key: value for key, value in asdict(network).items() if key not in {"uuid", *_FORMS["networks"]}}
            for uuid, network in networks.items()
        },
        "storagePools": len(pools) if pools is not None else None,
        "names": {str(address): list(names) for address, names in sorted((said.names or {}).items())},
        "rejections": sorted(map(list, said.rejections)),
    }
    made: dict[str, Entry] = {LIBVIRT: _json(index).encode()}
    both: tuple[tuple[str, Mapping[str, GuestXml | NetworkXml]], ...] = (("guests", guests), ("networks", networks))
    for kind, found in both:
        for uuid, xml in found.items():
            for form in _FORMS[kind]:
                text: str | None = getattr(xml, form)
                if text is not None:
                    made[f"libvirt/{kind}/{uuid}.{form}.xml"] = text.encode()
    for number, text in enumerate(pools or ()):
        made[f"libvirt/storage-pools/{number}.xml"] = text.encode()
    return made


def libvirt_answers(read: Callable[[str], str | None]) -> LibvirtAnswers:
    """The same back; ``read`` gives a file's text, None if there is none. RecordingError if it makes no sense."""
    try:
        index: dict[str, Any] = json.loads(read(LIBVIRT) or "")
        forms: dict[tuple[str, str], dict[str, Any]] = {
            (kind, uuid): {form: read(f"libvirt/{kind}/{uuid}.{form}.xml") for form in forms_of}
            for kind, forms_of in _FORMS.items()
            for uuid in index[kind]
        }
        count = index["storagePools"]
        return LibvirtAnswers(
            guests=tuple(GuestXml(uuid=u, **g, **forms["guests", u]) for u, g in index["guests"].items()),
            networks=tuple(NetworkXml(uuid=u, **n, **forms["networks", u]) for u, n in index["networks"].items()),
            storage_pools=None
            if count is None
            else tuple(read(f"libvirt/storage-pools/{number}.xml") or "" for number in range(count)),
            names={PciAddress.parse(address): (n[0], n[1]) for address, n in index["names"].items()},
            rejections=frozenset((uuid, alias) for uuid, alias in index["rejections"]),
            trouble=index["trouble"],
        )
    except (ValueError, KeyError, TypeError) as error:
        raise RecordingError(f"{LIBVIRT} cannot be read: {error!r}") from error


def netlink_text(vfs: Mapping[int, Mapping[int, VfConfig]]) -> str:
    """The settings of VFs by index of the PF's interface, then by index of the VF."""
    return _json({str(i): {str(n): asdict(vf) for n, vf in sorted(vfs[i].items())} for i in sorted(vfs)})


def netlink_answers(text: str) -> dict[int, dict[int, VfConfig]]:
    """The same back; RecordingError if it makes no sense."""
    try:
        return {
            int(interface): {int(number): VfConfig(**vf) for number, vf in vfs.items()}
            for interface, vfs in json.loads(text).items()
        }
    except (ValueError, TypeError, AttributeError) as error:
        raise RecordingError(f"{NETLINK} cannot be read: {error!r}") from error


def _json(data: object) -> str:
    return json.dumps(data, indent=1) + "\n"
