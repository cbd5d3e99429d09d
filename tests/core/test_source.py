"""Which device is meant: at first sight by address or properties, then by fingerprint."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import Any

import pytest

from hostdev_operator.core import reasons
from hostdev_operator.core.checks import Refusal
from hostdev_operator.core.identity import Identity, find
from hostdev_operator.core.intent import Seen
from hostdev_operator.core.model import Observation, PciDevice, Role
from hostdev_operator.core.pci import PciAddress
from hostdev_operator.core.reasons import Reason
from hostdev_operator.core.source import devices_meant
from tests.core.hosts import assigned, observation, with_device
from tests.fakes.samples import DISK, LONER, MATE, NIC, PORT, device, port, wish

PF_MAC = "52:54:00:00:00:01"
VFS = tuple(PciAddress.parse(f"0000:04:10.{f}") for f in range(2))
HOST = observation(
    [
        port(),
        device(NIC, serial="A1", numa_node=0),
        device(MATE, "snd_hda_intel", class_code=0x040300, product=0x0C0C),
        device(LONER, "igb", 13, numa_node=1, product=0x1521),
        device(DISK, "nvme", 14, class_code=0x010802, vendor=0x144D, product=0xA808, serial="S5"),
        *(device(a, "igbvf", 20 + n, product=0x1520, pf_mac=PF_MAC, vf_index=n) for n, a in enumerate(VFS)),
    ]
)
NOWHERE = "0000:7f:00.0"


def with_devices(host: Observation, *devices: PciDevice, without: tuple[PciAddress, ...] = ()) -> Observation:
    """The host with other devices."""
    kept = {a: d for a, d in host.devices.items() if a not in without}
    return replace(host, devices=MappingProxyType({**kept, **{d.address: d for d in devices}}))


def meant(source: dict[str, Any], host: Observation = HOST) -> list[PciAddress] | Refusal:
    found = devices_meant(wish(source=source), host)
    return found if isinstance(found, Refusal) else [d.address for d in found]


def refused(answer: object, reason: Reason, *words: str) -> None:
    assert isinstance(answer, Refusal), answer
    assert answer.reason is reason
    assert [w for w in words if w not in answer.message] == []


# -- at first sight --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "pci",
    [{"address": str(NIC)}, {"address": "01:00.0"}, {"address": "pci_0000_01_00_0"},
     {"bus": 1, "slot": 0, "function": 0}, {"domain": "0x0", "bus": "0x01", "slot": "0x0", "function": "0x0"}],
)  # fmt: skip
def test_an_address_means_what_is_there(pci: dict[str, Any]) -> None:
    assert meant({"pci": pci}) == [NIC]


@pytest.mark.parametrize(
    ("match", "found"),
    [
        ({"vendor": "0x144d"}, [DISK]),
        ({"vendor": "0x144D", "device": "0xA808"}, [DISK]),
        ({"device": "0x1521"}, [LONER]),
        ({"class": "0x01"}, [DISK]),
        ({"class": "0x0108"}, [DISK]),
        ({"class": "0x010802"}, [DISK]),
        ({"class": "0x04"}, [MATE]),
        ({"serial": "S5"}, [DISK]),
        ({"slotPath": "0000:00/02.0/00.0"}, [LONER]),
        ({"pfMAC": PF_MAC, "vfIndex": 0}, [VFS[0]]),
        ({"pfMAC": PF_MAC, "vfIndex": 1}, [VFS[1]]),
        ({"numaNode": 1}, [LONER]),
        ({"numaNode": 0}, [NIC]),
        ({"class": "0x02", "any": True}, [NIC, LONER, *VFS]),
        ({"vendor": "0x8086", "class": "0x0200", "numaNode": 1, "any": True}, [LONER]),
    ],
)
def test_each_field_of_match_narrows(match: dict[str, Any], found: list[PciAddress]) -> None:
    assert meant({"match": match}) == found


@pytest.mark.parametrize(
    "match",
    [{"vendor": "0x144d", "device": "0x0001"}, {"class": "0x0107"}, {"class": "0x010801"}, {"serial": "s5"},
     {"slotPath": "0000:00/02.0"}, {"pfMAC": PF_MAC, "vfIndex": 2}, {"pfMAC": "52:54:00:00:00:02", "vfIndex": 0},
     {"numaNode": 7}, {"class": "0x0604"}, {"vendor": "0x1af4", "any": True}],
)  # fmt: skip
def test_nothing_that_fits_is_told_with_what_was_asked(match: dict[str, Any]) -> None:
    asked = [f"{k} {v}" for k, v in match.items() if k != "any"]
    refused(meant({"match": match}), reasons.DEVICE_NOT_FOUND, *asked, "status.devices")


def test_several_are_told_with_their_addresses_and_slots() -> None:
    answer = meant({"match": {"class": "0x02"}})
    refused(answer, reasons.AMBIGUOUS_DEVICE, "4 devices", str(NIC), str(LONER), "0000:00/02.0/00.0", "any: true")


def test_a_long_list_is_cut() -> None:
    many = with_devices(HOST, *(device(f"0000:{bus:02x}:00.0", "igb", bus) for bus in range(0x20, 0x40)))
    answer = meant({"match": {"class": "0x02"}}, many)
    refused(answer, reasons.AMBIGUOUS_DEVICE, "36 devices", "and 28 more")


def test_bridges_and_ports_match_nothing_but_have_an_address() -> None:
    refused(meant({"match": {"class": "0x06"}}), reasons.DEVICE_NOT_FOUND)
    assert HOST.devices[PORT].role is Role.ROOT_PORT
    assert meant({"pci": {"address": str(PORT)}}) == [PORT]


def test_an_address_without_a_device_is_told() -> None:
    refused(meant({"pci": {"address": NOWHERE}}), reasons.DEVICE_NOT_FOUND, NOWHERE, "lspci -D")


@pytest.mark.parametrize("pci", [{"address": "1:2:3"}, {"bus": 1}, {"bus": "16", "slot": 0, "function": 0}, {}])
def test_what_is_no_address_is_told(pci: dict[str, Any]) -> None:
    refused(meant({"pci": pci}), reasons.INVALID_SOURCE)


def test_no_source_at_all_is_told() -> None:
    refused(meant({}), reasons.INVALID_SOURCE, "source.pci or source.match")


# -- seen before -----------------------------------------------------------------------------------------------------

SEEN = Seen(LONER, HOST.devices[LONER].identity)
NEW = PciAddress.parse("0000:05:00.0")


def followed(seen: Seen, host: Observation) -> list[PciAddress] | Refusal:
    """What the spec says, does not count any more: the address means another device by now."""
    found = devices_meant(replace(wish(NIC), seen=seen), host)
    return found if isinstance(found, Refusal) else [d.address for d in found]


def at(address: PciAddress, old: PciAddress = LONER, **changes: Any) -> PciDevice:
    return replace(HOST.devices[old], address=address, **changes)


def test_what_is_where_it_was_is_meant() -> None:
    assert followed(SEEN, HOST) == [LONER]


def test_what_has_another_address_in_the_same_slot_is_followed() -> None:
    assert followed(SEEN, with_devices(HOST, at(NEW), without=(LONER,))) == [NEW]


def test_another_device_at_the_old_address_does_not_matter_while_it_is_elsewhere() -> None:
    moved = with_devices(HOST, at(NEW), device(LONER, "ixgbe", 15, product=0x1528))
    assert followed(SEEN, moved) == [NEW]


def test_what_has_a_serial_is_followed_into_another_slot() -> None:
    seen = Seen(NIC, HOST.devices[NIC].identity)
    assert followed(seen, with_devices(HOST, at(NEW, NIC, slot_path="0000:00/1c.0/00.0"), without=(NIC,))) == [NEW]


def test_what_has_no_serial_is_another_device_in_another_slot() -> None:
    moved = with_devices(HOST, at(NEW, slot_path="0000:00/1c.0/00.0"), without=(LONER,))
    refused(followed(SEEN, moved), reasons.DEVICE_NOT_FOUND, str(LONER), "put it back")


def test_a_vf_is_followed_by_its_pf_and_index() -> None:
    seen = Seen(VFS[1], HOST.devices[VFS[1]].identity)
    moved = with_devices(
        HOST, *(at(PciAddress(0, 6, 16, n), a, slot_path=f"x{n}") for n, a in enumerate(VFS)), without=VFS
    )
    assert followed(seen, moved) == [PciAddress(0, 6, 16, 1)]


def test_it_may_be_any_of_two() -> None:
    seen = Seen(NIC, HOST.devices[NIC].identity)
    twins = [at(PciAddress(0, bus, 0, 0), NIC, slot_path=f"0000:00/{bus:02x}.0/00.0") for bus in (5, 6)]
    answer = followed(seen, with_devices(HOST, *twins, without=(NIC,)))
    refused(answer, reasons.AMBIGUOUS_DEVICE, str(NIC), "0000:05:00.0", "0000:06:00.0", "delete the assignment")


def test_serials_that_repeat_do_not_matter_in_its_own_slot() -> None:
    seen = Seen(NIC, HOST.devices[NIC].identity)
    twin = at(NEW, NIC, slot_path="0000:00/05.0/00.0")
    assert followed(seen, with_devices(HOST, twin)) == [NIC]
    swapped = with_devices(HOST, replace(twin, address=NIC), at(NEW, NIC))
    assert followed(seen, swapped) == [NEW]


def test_another_device_in_its_place_is_told() -> None:
    answer = followed(SEEN, with_device(HOST, LONER, product=0xBEEF))
    refused(answer, reasons.IDENTITY_CHANGED, str(LONER), "8086:beef", "8086:1521", "put that one back")


def test_what_is_gone_is_told() -> None:
    answer = followed(SEEN, with_devices(HOST, without=(LONER,)))
    refused(answer, reasons.DEVICE_NOT_FOUND, str(LONER), "8086:1521", "delete the assignment")


def test_a_serial_that_cannot_be_read_now_does_not_make_it_another() -> None:
    """The NVMe driver tells it, and vfio-pci is bound."""
    seen = Seen(DISK, HOST.devices[DISK].identity)
    assert followed(seen, with_device(HOST, DISK, serial=None, driver="vfio-pci")) == [DISK]


def test_the_record_knows_better_than_the_status() -> None:
    host = assigned(HOST, address=LONER)
    host = with_devices(host, at(NEW), without=(LONER,))
    wanted = replace(wish(LONER), seen=Seen(NIC, HOST.devices[NIC].identity))
    found = devices_meant(wanted, host)
    assert not isinstance(found, Refusal)
    assert [d.address for d in found] == [NEW]


# -- fingerprints ----------------------------------------------------------------------------------------------------

A = Identity(0x8086, 0x10D3, 0x8086, 1, 0, "S1", slot_path="p1")


@pytest.mark.parametrize(
    ("other", "same"),
    [
        (A, True),
        (replace(A, slot_path="p2"), True),
        (replace(A, serial="S2"), False),
        (replace(A, serial=None), True),
        (replace(A, serial=None, slot_path="p2"), False),
        (replace(A, function=1), False),
        (replace(A, vendor=1), False),
        (replace(A, product=1), False),
        (replace(A, subsystem_vendor=1), False),
        (replace(A, subsystem_device=2), False),
        (replace(A, vf_index=0), False),
    ],
)
def test_the_best_that_both_tell_decides(other: Identity, same: bool) -> None:  # noqa: FBT001
    assert (A.same(other), other.same(A)) == (same, same)


VF = Identity(0x8086, 0x1520, slot_path="p1", pf_mac=PF_MAC, vf_index=3)


@pytest.mark.parametrize(
    ("other", "same"),
    [
        (replace(VF, slot_path="p2"), True),
        (replace(VF, vf_index=4), False),
        (replace(VF, pf_mac="52:54:00:00:00:02"), False),
        (replace(VF, pf_mac=None), True),
        (replace(VF, pf_mac=None, slot_path="p2"), False),
    ],
)
def test_a_vf_is_its_pf_and_index(other: Identity, same: bool) -> None:  # noqa: FBT001
    assert (VF.same(other), other.same(VF)) == (same, same)


def test_find_prefers_what_is_in_its_slot() -> None:
    nic = HOST.devices[NIC]
    twin = replace(nic, address=NEW, slot_path="p2")
    assert find(nic.identity, [twin, nic]) == (nic,)
    assert find(replace(nic.identity, slot_path="p3"), [twin, nic]) == (twin, nic)
    assert find(nic.identity, [HOST.devices[LONER]]) == ()


@pytest.mark.parametrize(
    ("identity", "text"),
    [(A, "[8086:10d3, serial S1, slot path p1]"), (VF, f"[8086:1520, VF 3 of {PF_MAC}, slot path p1]")],
)
def test_a_fingerprint_can_be_read(identity: Identity, text: str) -> None:
    assert str(identity) == text
