"""Which PCI devices the host's network needs.

Formats: kernel Documentation/networking/proc (route, ipv6_route, if_inet6), Documentation/ABI/testing/sysfs-class-net.
"""

from __future__ import annotations

import ipaddress
import sys
from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple

from ..core.model import Use
from ..core.pci import PciAddress
from .files import exists, link_name, listing, read_lines, resolve
from .sysfs import PciSysfs, functions_behind, parse_address

_GLOBAL_SCOPE = 0x00
_ROUTE_UP, _ROUTE_REJECT = 0x1, 0x200
_NETWORK, _INFINIBAND = 0x02, 0x0207

Addresses = frozenset[PciAddress]


class _Route(NamedTuple):
    """A route that is up: the network and its length as numbers, most significant bit first."""

    version: int
    network: int
    length: int
    name: str

    def leads_to(self, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
        """Whether the address is in its network."""
        rest = address.max_prefixlen - self.length
        return self.version == address.version and int(address) >> rest == self.network >> rest


class Network:
    """One look at interfaces, routes and addresses: what has been read is not read again. Make one for each look."""

    def __init__(self, root: str) -> None:
        self._net = f"{root}/proc/1/net"
        self._class = f"{root}/sys/class/net"
        self._folders: dict[str, str | None] = {}
        self._below: dict[str, Addresses] = {}

    def uses(self) -> Iterator[Use]:
        """What carries routes and addresses; ports of other interfaces where that has not told of the device yet."""
        carrying = {*self._carrying()}
        yield from carrying
        known = {use.address for use in carrying}
        yield from (use for use in self._ports() if use.address not in known)

    def _carrying(self) -> Iterator[Use]:
        found: dict[tuple[str, str], None] = {}
        for route in self._routes:
            if route.version == 4:  # noqa: PLR2004
                what = "the default route" if not route.length else "a network of the host (it has an IPv4 route)"
                found[route.name, what] = None
        for line in _lines_if_any(f"{self._net}/if_inet6"):
            _, _, _, scope, _, name = line.split()
            if int(scope, 16) == _GLOBAL_SCOPE:
                found[name, "an IPv6 address of the host"] = None
        for line in self._ipv6_routes:
            fields = line.split()
            if int(fields[0], 16) == 0 and int(fields[1], 16) == 0:
                found[fields[9], "the default route (IPv6)"] = None
        for name, what in found:
            if self._folder(name) is None:
                raise ValueError(f"{self._class} does not show {name}: it is that of another network namespace")
            for address in self.interface(name):
                yield Use(address, f"carries {what} over {name}")

    @cached_property
    def _routes(self) -> tuple[_Route, ...]:
        """Routes of the table main. Numbers of IPv4 are in the order of bytes of this machine."""
        found = []
        for line in read_lines(f"{self._net}/route")[1:]:
            name, destination, _, flags, _, _, _, mask = line.split()[:8]
            if name != "*" and int(flags, 16) & _ROUTE_UP:  # *: a blackhole or unreachable route
                found.append(_Route(4, _network_order(destination), _network_order(mask).bit_count(), name))
        for line in self._ipv6_routes:
            fields = line.split()
            if int(fields[8], 16) & (_ROUTE_UP | _ROUTE_REJECT) == _ROUTE_UP:
                found.append(_Route(6, int(fields[0], 16), int(fields[1], 16), fields[9]))
        return tuple(found)

    @cached_property
    def _ipv6_routes(self) -> list[str]:
        return _lines_if_any(f"{self._net}/ipv6_route")

    def towards(self, address: str) -> Addresses:
        """The PCI devices over which the host reaches an IP address: the longest of its routes, all of that length."""
        try:
            target = ipaddress.ip_address(address.strip("[]").partition("%")[0])
        except ValueError:
            return frozenset()
        routes = [route for route in self._routes if route.leads_to(target)]
        longest = max((route.length for route in routes), default=0)
        return frozenset().union(*(self.interface(route.name) for route in routes if route.length == longest))

    def _ports(self) -> Iterator[Use]:
        """Interfaces on a PCI device that are part of another one: a bridge, bond, Open vSwitch, VRF, VLAN, macvtap."""
        for name in listing(self._class):
            folder = self._folder(name)
            functions = functions_behind(folder) if folder else ()
            uppers = (
                sorted(n.removeprefix("upper_") for n in listing(folder) if n.startswith("upper_"))
                if folder and functions
                else []
            )
            master = link_name(f"{folder}/master") if functions else None
            if master or uppers:
                what = f"is a port of {master}" if master else f"carries {uppers[0]}"
                for address in functions:
                    yield Use(address, f"carries {name}, which {what}")

    def without_interface(self, pci: PciSysfs, classes: dict[str, int]) -> Iterator[Use]:
        """Network functions that are bound, but not to an interface that is seen here.

        The kernel keeps the folder ``net`` of a device whose interface is in another network namespace, and shows it
        empty. InfiniBand adapters may have no interface at all: they show ``infiniband/``, and do not count.
        """
        for name, code in classes.items():
            folder = pci.folder(name)
            driver = link_name(f"{folder}/driver") if code >> 16 == _NETWORK else None
            if driver is None or driver.replace("_", "-").endswith("vfio-pci"):
                continue
            entries = listing(folder)
            parents = [folder, *(f"{folder}/{entry}" for entry in entries if entry.startswith("virtio"))]
            if any(listing(f"{parent}/net") for parent in parents):
                continue
            if any(exists(f"{parent}/net") for parent in parents):
                what = f"has its interface in another network namespace (driver {driver})"
            elif code >> 8 == _INFINIBAND and listing(f"{folder}/infiniband"):
                continue
            else:
                what = f"has driver {driver} but no interface here (a user-space driver, or one that is still starting)"
            yield Use(parse_address(name), what)

    def interface(self, name: str) -> Addresses:
        """PCI devices under an interface, through bridges, bonds, teams, VLANs and macvtap (their lower_* links)."""
        if name not in self._below:
            found, names, seen = frozenset[PciAddress](), [name], {name}
            while names:
                folder = self._folder(names.pop())
                if folder is not None:
                    found |= functions_behind(folder)
                    lower = {n.removeprefix("lower_") for n in listing(folder) if n.startswith("lower_")} - seen
                    names += lower
                    seen |= lower
            self._below[name] = found
        return self._below[name]

    def _folder(self, name: str) -> str | None:
        """An interface's folder in /sys; None if there is no such interface."""
        if name not in self._folders:
            folder = None
            if name and "/" not in name and name not in {".", ".."}:
                try:
                    folder = resolve(f"{self._class}/{name}")
                except FileNotFoundError:
                    folder = None
            self._folders[name] = folder
        return self._folders[name]


def _lines_if_any(path: str) -> list[str]:
    """Lines of a file that is not there where the kernel has no IPv6."""
    try:
        return read_lines(path)
    except FileNotFoundError:
        return []


def _network_order(number: str) -> int:
    return int.from_bytes(int(number, 16).to_bytes(4, sys.byteorder), "big")
