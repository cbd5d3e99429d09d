"""Hides who a recorded host is: serial numbers, MAC addresses, UUIDs, host names, and names that are made of them.

The same value gets the same mask wherever it stands, so that plans stay what they were. Masks are numbered in order of
the values: the same host gives the same recording. IP addresses, PCI addresses, and names that people gave to guests,
networks and objects of Kubernetes are kept.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import cast

from lxml import etree

from .domain_xml import parse
from .pci_xml import Element
from .recording import HEAD, STATE, Entry, Head, Link, Tree

_HEX = "[0-9a-fA-F]"
_MAC = re.compile(rf"(?<![0-9a-fA-F:])(?:{_HEX}{{2}}:){{5}}{_HEX}{{2}}(?![0-9a-fA-F:])")
#: As in the names that udev gives to interfaces: enx525400100001.
_MAC_IN_NAME = re.compile(rf"(?<=enx){_HEX}{{12}}")
#: An IPv6 address of /proc, made of a MAC (RFC 4291, appendix A).
_MAC_IN_IPV6 = re.compile(rf"(?<!{_HEX})({_HEX}{{16}})({_HEX}{{6}})fffe({_HEX}{{6}})(?!{_HEX})", re.IGNORECASE)
_UUID = re.compile(rf"(?<!{_HEX})(?:{_HEX}{{8}}-(?:{_HEX}{{4}}-){{3}}{_HEX}{{12}})(?!{_HEX})")
_WWN = re.compile(rf"0x{_HEX}{{16}}(?!{_HEX})")
_QUALIFIED = re.compile(r"\b(?:iqn|nqn)\.\d{4}-\d{2}\.[^\s\"'<>,/]+")
#: Names below /dev/disk that are made of serial numbers, UUIDs or labels; partitions end in -part1.
_DISK = re.compile(
    r"((?:^|/)(?:disk/)by-(?:id|label|partlabel|partuuid|uuid)/)([^/\s\"'<>&,]+?)((?:-part\d+)?)(?![^/\s\"'<>&,])"
)
_SERIAL_IN_RECORD = re.compile(r'("serial": )"((?:[^"\\]|\\.)*)"')
_DSN = re.compile(rf"(?:{_HEX}{{2}}-){{7}}{_HEX}{{2}}")
_REMOTE = re.compile(r" - (?:nfs4?|cifs|smb3|ceph|glusterfs) (?://)?([^:/\s]+)")
#: Elements that say much of people and nothing of devices.
_SAYS_NOTHING = (
    "*[self::description or self::metadata or self::sysinfo or self::title]"
    " | *[namespace-uri()='http://libvirt.org/schemas/domain/qemu/1.0']"
)
_SERIALS = "devices/disk/serial/text() | devices/disk/wwn/text()"
_HOSTS = ".//host/@name | .//hostname/text() | self::network/domain/@name"
_XML_WORDS = (
    re.compile(r"<(\w+)"),
    re.compile(r"\s(\w+)="),
    re.compile(r"\s(?:bus|device|mode|model|type)=['\"]([\w-]+)"),
)
_NOBODY = frozenset(["localhost", "localhost.localdomain"])
_SHORTEST = 4  # a shorter serial number is replaced only where it stands by itself


def mask(tree: Tree) -> dict[str, Entry]:
    """The recording without what tells who the host is."""
    tree = {path: _without_words(path, entry) for path, entry in tree.items()}
    masks = _Masks(tree)
    masked = {masks.path(path): masks.entry(path, entry) for path, entry in tree.items()}
    head = tree[HEAD]
    if isinstance(head, bytes):
        masked[HEAD] = replace(Head.from_json(head.decode()), node="masked", masked=True).to_json().encode()
    return masked


def _without_words(path: str, entry: Entry) -> Entry:
    """XML without the elements that people fill with words, and QEMU's own arguments."""
    if not isinstance(entry, bytes) or not path.endswith(".xml"):
        return entry
    try:
        root = parse(entry.decode())
    except SyntaxError:  # of lxml: a broken XML is recorded as it is
        return entry
    for element in cast("list[Element]", root.xpath(_SAYS_NOTHING)):
        root.remove(element)
    return etree.tostring(root, encoding="unicode").encode()


class _Masks:
    """All values that a recording has, and what stands for each."""

    def __init__(self, tree: Tree) -> None:
        texts = list(_texts(tree))
        self._macs = _numbered({mac for text in texts for mac in _macs(text)}, _mac)
        self._uuids = _numbered(
            {m[0].lower() for text in texts for m in _UUID.finditer(text)},
            lambda n, _: f"00000000-0000-4000-8000-{n:012x}",
        )
        self._wwns = _numbered(
            {m[0].lower() for text in texts for m in _WWN.finditer(text)}, lambda n, _: f"0x{n:016x}"
        )
        self._qualified = _numbered(
            {m[0] for text in texts for m in _QUALIFIED.finditer(text)}, lambda n, old: f"{old[:3]}.2000-01.masked:{n}"
        )
        self._disks = _numbered({m[2] for text in texts for m in _DISK.finditer(text)}, lambda n, _: f"masked-disk-{n}")
        self._serials = _numbered(set(_serials(tree)), _serial)
        self._hosts = _numbered(set(_hosts(tree)), lambda n, _: f"host-{n}")
        literal = self._hosts | {old: new for old, new in self._serials.items() if len(old) >= _SHORTEST}
        words = "|".join(map(re.escape, sorted(literal, key=lambda old: (-len(old), old))))
        self._literal = literal
        self._words = re.compile(rf"(?<![0-9A-Za-z])(?:{words})(?![0-9A-Za-z])") if words else None

    def path(self, path: str) -> str:
        """A path with masks."""
        return self.values(path) if _is_kernels(path) else self.text(path)

    def entry(self, path: str, entry: Entry) -> Entry:
        """A file's content or a link with masks."""
        if isinstance(entry, Link):
            return Link(self.values(entry.target) if _is_kernels(path) else self.text(entry.target))
        if entry is None or path.endswith("/config"):
            return entry
        if path.endswith("/vpd"):
            return _vpd(entry, self._serials)
        text = entry.decode(errors="surrogateescape")
        if _tells_serial(path):
            text = text.replace(text.strip(), self._serials.get(text.strip(), text.strip()))
        elif path.startswith(f"{STATE}/"):
            text = _SERIAL_IN_RECORD.sub(self._of_record, text)
        text = self.values(text) if _is_kernels(path) else self.text(text)
        return text.encode(errors="surrogateescape")

    def text(self, text: str) -> str:
        """Any text with masks, of serial numbers and host names as well."""
        text = self.values(text)
        return self._words.sub(lambda m: self._literal[m[0]], text) if self._words else text

    def values(self, text: str) -> str:
        """With masks of what is known by its form."""
        text = _DISK.sub(lambda m: f"{m[1]}{self._disks[m[2]]}{m[3]}", text)
        text = _UUID.sub(lambda m: self._uuids[m[0].lower()], text)
        text = _MAC.sub(lambda m: self._macs.get(m[0].lower(), m[0]), text)
        text = _MAC_IN_NAME.sub(lambda m: self._macs.get(_with_colons(m[0]), m[0]).replace(":", ""), text)
        text = _MAC_IN_IPV6.sub(self._ipv6, text)
        text = _WWN.sub(lambda m: self._wwns[m[0].lower()], text)
        return _QUALIFIED.sub(lambda m: self._qualified[m[0]], text)

    def _of_record(self, match: re.Match[str]) -> str:
        return match[1] + json.dumps(self._serials[_unquoted(match[2])])

    def _ipv6(self, match: re.Match[str]) -> str:
        mac = self._macs.get(_of_ipv6(match))
        if mac is None:
            return match[0]
        octets = _flipped(mac).replace(":", "")
        return f"{match[1]}{octets[:6]}fffe{octets[6:]}"


def _is_kernels(path: str) -> bool:
    """Words of the kernel, such as names of drivers, which a host may be called like, too."""
    return path.startswith("sys/") and not path.endswith("/dm/name")


def _texts(tree: Tree) -> Iterator[str]:
    """Everything that is text: paths, where links lead, contents."""
    for path, entry in tree.items():
        yield path
        if isinstance(entry, Link):
            yield entry.target
        elif entry is not None and not path.endswith(("/config", "/vpd")):
            yield entry.decode(errors="surrogateescape")


def _numbered(values: Iterable[str], masked: Callable[[int, str], str]) -> dict[str, str]:
    return {value: masked(number, value) for number, value in enumerate(sorted(values), 1)}


def _macs(text: str) -> Iterator[str]:
    """In lower case; those that name one card. All zeros, broadcast and groups name none."""
    found = [match[0].lower() for match in _MAC.finditer(text)]
    found += [_with_colons(match[0]) for match in _MAC_IN_NAME.finditer(text)]
    found += [_of_ipv6(match) for match in _MAC_IN_IPV6.finditer(text)]
    for mac in found:
        if not int(mac[:2], 16) & 1 and mac.strip("0:"):
            yield mac


def _mac(number: int, old: str) -> str:
    """The same maker (and so unicast), another card."""
    return f"{old[:8]}:{bytes(number.to_bytes(3)).hex(':')}"


def _with_colons(digits: str) -> str:
    return bytes.fromhex(digits).hex(":")


def _of_ipv6(match: re.Match[str]) -> str:
    return _flipped(_with_colons(match[2] + match[3]))


def _flipped(mac: str) -> str:
    """RFC 4291 turns the bit that says whether an address is locally administered."""
    return f"{int(mac[:2], 16) ^ 2:02x}{mac[2:]}"


def _tells_serial(path: str) -> bool:
    return path.endswith("/serial_number") or re.search(r"/nvme/[^/]+/serial$", path) is not None


def _serials(tree: Tree) -> Iterator[str]:
    for path, entry in tree.items():
        if not isinstance(entry, bytes):
            continue
        if path.endswith("/vpd"):
            yield entry[6:-1].decode()
            continue
        text = entry.decode(errors="surrogateescape")
        if _tells_serial(path):
            yield text.strip()
        elif path.startswith(f"{STATE}/"):
            yield from (_unquoted(match[2]) for match in _SERIAL_IN_RECORD.finditer(text))
        elif path.endswith(".xml"):
            yield from _found(entry, _SERIALS)


def _unquoted(text: str) -> str:
    return str(json.loads(f'"{text}"'))


def _serial(number: int, old: str) -> str:
    """In the form of the Device Serial Number capability where it has that."""
    return number.to_bytes(8).hex("-") if _DSN.fullmatch(old) else f"MASKED{number:06}"


def _vpd(content: bytes, serials: dict[str, str]) -> bytes:
    """As the recorder writes it: a large resource with one field, SN."""
    serial = serials[content[6:-1].decode()].encode()
    field = b"SN" + bytes([len(serial)]) + serial
    return b"\x90" + len(field).to_bytes(2, "little") + field + b"\x78"


def _hosts(tree: Tree) -> Iterator[str]:
    """The host's own name, short and whole, and the names of others that it knows."""
    found = set[str]()
    for path, entry in tree.items():
        if isinstance(entry, bytes):
            text = entry.decode(errors="surrogateescape")
            if path == HEAD:
                found.add(Head.from_json(text).node)
            elif path.endswith("/mountinfo"):
                found.update(match[1] for match in _REMOTE.finditer(text))
            elif path.endswith(".xml"):
                found.update(_found(entry, _HOSTS))
    for name in found:
        yield from {name, name.partition(".")[0]} - _NOBODY - _words_of_xml(tree) - {""}


def _words_of_xml(tree: Tree) -> set[str]:
    """Libvirt's own words: a host that is called like one of them cannot be told from it."""
    texts = (entry.decode() for path, entry in tree.items() if isinstance(entry, bytes) and path.endswith(".xml"))
    return {word for text in texts for words in _XML_WORDS for word in words.findall(text)}


def _found(xml: bytes, path: str) -> list[str]:
    """What a path finds in an XML; nothing in a broken one."""
    try:
        return [str(text) for text in cast("list[str]", parse(xml.decode()).xpath(path))]
    except SyntaxError:  # of lxml
        return []
