"""Rtnetlink (rtnetlink(7), linux/if_link.h): a PF's VFs as `ip link show` has them, and what `ip link set` sets.

Spoken by hand: of a library's netlink one message in two directions would be used, and loading it takes 10 MB and, in
the slow lab, seconds, which is longer than making the VFs. Needs CAP_NET_ADMIN to set, nothing to read.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator, Mapping
from functools import lru_cache
from types import MappingProxyType

from ..core.sriov import VfConfig

_RTM_GETLINK, _RTM_SETLINK = 18, 19
_NLMSG_ERROR = 2
_REQUEST, _ACK, _ACK_TLVS = 0x1, 0x4, 0x200
_SOL_NETLINK, _CAP_ACK, _EXT_ACK = 270, 10, 11
_ERROR_MESSAGE = 1

_VFINFO_LIST, _EXT_MASK, _VF_INFO = 22, 29, 1
# RTEXT_FILTER_VF, RTEXT_FILTER_SKIP_STATS: counters of many VFs would not fit into one attribute (64 KiB).
_WITH_VFS = 0x1 | 0x8
_MAC, _VLAN, _SPOOF_CHECK, _LINK_STATE, _RATE, _TRUST = 1, 2, 4, 5, 6, 9
_LINK_STATES = ("auto", "enable", "disable")
_IFF_UP = 0x1
_UNKNOWN = 0xFFFFFFFF

_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence number, port
_LINK = struct.Struct("=BxHiII")  # family, type, index, flags, mask of flags
_ATTRIBUTE = struct.Struct("=HH")  # length, type
_TYPE_MASK = 0x3FFF  # without NLA_F_NESTED and NLA_F_NET_BYTEORDER
_MAC_LENGTH = 6
_LARGEST_REPLY = 1 << 18
_NONE: Mapping[int, VfConfig] = MappingProxyType({})


class Netlink:
    """One socket for each call, so that any thread may call, and one that hangs in the kernel hinders no other.

    Interfaces are named by index: a name can be another interface's a moment later. OSError with the kernel's errno,
    and with the driver's own words where it has some.
    """

    def vfs(self, interface: int) -> Mapping[int, VfConfig]:
        """The settings of a PF's VFs, by index on the PF."""
        reply = _ask(_RTM_GETLINK, _link(interface) + _attribute(_EXT_MASK, struct.pack("=I", _WITH_VFS)), ack=False)
        return parse_vfs(reply[_LINK.size :])

    def set_up(self, interface: int, *, up: bool) -> None:
        """IFF_UP."""
        _ask(_RTM_SETLINK, _link(interface, _IFF_UP if up else 0, _IFF_UP))

    def configure(self, interface: int, vf: int, config: VfConfig) -> None:
        """Set what ``config`` says of a VF, in one message. Rates are one setting: both or none."""
        settings = _attribute(_VF_INFO, b"".join(_settings(vf, config)))
        _ask(_RTM_SETLINK, _link(interface) + _attribute(_VFINFO_LIST, settings))


def _link(interface: int, flags: int = 0, mask: int = 0) -> bytes:
    return _LINK.pack(socket.AF_UNSPEC, 0, interface, flags, mask)


def _attribute(kind: int, payload: bytes) -> bytes:
    length = _ATTRIBUTE.size + len(payload)
    return _ATTRIBUTE.pack(length, kind) + payload + bytes(-length % 4)


def _settings(vf: int, config: VfConfig) -> Iterator[bytes]:
    """Each as its struct ifla_vf_*: the VF, then the value."""
    if config.mac is not None:
        yield _attribute(_MAC, struct.pack("=I32s", vf, bytes.fromhex(config.mac.replace(":", ""))))
    if config.vlan is not None:
        yield _attribute(_VLAN, struct.pack("=III", vf, config.vlan, 0))
    if config.spoof_check is not None:
        yield _attribute(_SPOOF_CHECK, struct.pack("=II", vf, config.spoof_check))
    if config.trust is not None:
        yield _attribute(_TRUST, struct.pack("=II", vf, config.trust))
    if config.link_state is not None:
        yield _attribute(_LINK_STATE, struct.pack("=II", vf, _LINK_STATES.index(config.link_state)))
    if config.min_tx_rate is not None or config.max_tx_rate is not None:
        yield _attribute(_RATE, struct.pack("=III", vf, config.min_tx_rate or 0, config.max_tx_rate or 0))


def parse_vfs(attributes: bytes) -> Mapping[int, VfConfig]:
    """The VFs in the attributes of an RTM_NEWLINK message."""
    lists = [payload for kind, payload in _attributes(attributes) if kind == _VFINFO_LIST]
    return _parse_list(lists[0]) if lists else _NONE


@lru_cache(maxsize=32)
def _parse_list(vfs: bytes) -> Mapping[int, VfConfig]:
    """Of 128 VFs it takes 5 ms; at most looks at the host nothing has changed."""
    found = {}
    for _, vf in _attributes(vfs):
        settings = dict(_attributes(vf))
        if _MAC in settings:
            found[struct.unpack_from("=I", settings[_MAC])[0]] = _config(settings)
    return MappingProxyType(found)


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    position = 0
    while position + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, position)
        if not _ATTRIBUTE.size <= length <= len(data) - position:
            return
        yield kind & _TYPE_MASK, data[position + _ATTRIBUTE.size : position + length]
        position += length + -length % 4


def _config(settings: Mapping[int, bytes]) -> VfConfig:
    """The kernel fills in what the driver does not tell: all ones for switches, nothing for the rest."""
    state = _number(settings, _LINK_STATE)
    return VfConfig(
        mac=settings[_MAC][4 : 4 + _MAC_LENGTH].hex(":"),
        vlan=_number(settings, _VLAN),
        trust=_switch(settings, _TRUST),
        spoof_check=_switch(settings, _SPOOF_CHECK),
        link_state=_LINK_STATES[state] if state is not None and state < len(_LINK_STATES) else None,
        min_tx_rate=_number(settings, _RATE),
        max_tx_rate=_number(settings, _RATE, 1),
    )


def _number(settings: Mapping[int, bytes], kind: int, place: int = 0) -> int | None:
    """The number behind the VF's own."""
    if kind not in settings:
        return None
    return int(struct.unpack_from("=I", settings[kind], 4 + 4 * place)[0])


def _switch(settings: Mapping[int, bytes], kind: int) -> bool | None:
    value = _number(settings, kind)
    return None if value in (None, _UNKNOWN) else bool(value)


def _ask(kind: int, payload: bytes, *, ack: bool = True) -> bytes:
    """Send one message and give the payload of the answer; rtnetlink answers before sending returns."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE) as connection:
        connection.setsockopt(_SOL_NETLINK, _CAP_ACK, 1)
        connection.setsockopt(_SOL_NETLINK, _EXT_ACK, 1)
        connection.bind((0, 0))
        flags = _REQUEST | (_ACK if ack else 0)
        connection.sendto(_HEADER.pack(_HEADER.size + len(payload), kind, flags, 1, 0) + payload, (0, 0))
        reply = connection.recv(_LARGEST_REPLY)
    length, answered, flags, _, _ = _HEADER.unpack_from(reply)
    body = reply[_HEADER.size : length]
    if answered == _NLMSG_ERROR:
        _raise_error(body, flags)
    return body


def _raise_error(body: bytes, flags: int) -> None:
    """A struct nlmsgerr: the number, the head of what was asked, and what more there is to say of it. 0: no error."""
    (number,) = struct.unpack_from("=i", body)
    if number:
        texts = dict(_attributes(body[4 + _HEADER.size :])) if flags & _ACK_TLVS else {}
        words = texts.get(_ERROR_MESSAGE, b"").rstrip(b"\0").decode(errors="replace")
        raise OSError(-number, f"{os.strerror(-number)} ({words})" if words else os.strerror(-number))
