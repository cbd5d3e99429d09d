from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import Any

import pytest

from hostdev_operator.core import reasons
from hostdev_operator.core.checks import Refusal
from hostdev_operator.core.model import Observation, PciDevice
from hostdev_operator.core.pci import PciAddress
from hostdev_operator.core.pool_source import pf_meant, recorded_pf
from hostdev_operator.core.reasons import Reason
from tests.core.pool_hosts import MAC, MAC2, PF, PF2, POOL, made, physical, pool, sriov_host, vf_at, with_pf, with_vfs
from tests.fakes.samples import device, port

ELSEWHERE = PciAddress.parse("0000:05:00.0")
PLAIN = PciAddress.parse("0000:06:00.0")
PORT = PciAddress.parse("0000:00:1c.0")


def host_with_more() -> Observation:
    """Two PFs with VFs, a NIC without SR-IOV, and a root port."""
    host = with_vfs(sriov_host(pfs=2), PF, 2)
    more = {PLAIN: device(PLAIN, "e1000e", 6), PORT: port(PORT, 7)}
    return replace(host, devices=MappingProxyType({**host.devices, **more}))


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ({"name": "ens1"}, PF),
        ({"name": "ens2"}, PF2),
        ({"mac": MAC2}, PF2),
        ({"mac": MAC2.upper()}, PF2),
        ({"address": "0000:01:00.0"}, PF),
        ({"address": "pci_0000_02_00_0"}, PF2),
        ({"vendor": "0x8086", "device": "0x10c9", "name": "ens1"}, PF),
    ],
)
def test_the_pf_is_found_by_all_that_is_given(selector: Any, expected: PciAddress) -> None:
    found = pf_meant(pool(pf=selector), host_with_more())
    assert isinstance(found, PciDevice)
    assert found.address == expected


@pytest.mark.parametrize(
    ("selector", "reason", "words"),
    [
        ({"name": "ens9"}, reasons.DEVICE_NOT_FOUND, f"0000:01:00.0 (ens1, MAC {MAC}), 0000:02:00.0 (ens2"),
        ({"name": "ens1", "mac": MAC2}, reasons.DEVICE_NOT_FOUND, f"has name ens1, mac {MAC2}"),
        ({"address": "0000:07:00.0"}, reasons.DEVICE_NOT_FOUND, "address 0000:07:00.0"),
        ({"vendor": "0x8086", "device": "0x10c9"}, reasons.AMBIGUOUS_DEVICE, "2 PFs have vendor 0x8086, device 0x10c9"),
        ({"address": str(PLAIN)}, reasons.SRIOV_UNSUPPORTED, "driver e1000e"),
        ({"device": "0x10d3"}, reasons.SRIOV_UNSUPPORTED, "0000:06:00.0"),
        ({"address": str(vf_at(PF, 1))}, reasons.NOT_ASSIGNABLE, "is a VF of 0000:01:00.0"),
        ({"address": str(PORT)}, reasons.NOT_ASSIGNABLE, "is a RootPort"),
        ({"address": "1:2"}, reasons.INVALID_SOURCE, "is not a PCI address"),
    ],
)
def test_what_is_no_pf_is_refused(selector: Any, reason: Reason, words: str) -> None:
    answer = pf_meant(pool(pf=selector), host_with_more())
    assert isinstance(answer, Refusal)
    assert answer.reason is reason
    assert words in answer.message


def test_a_host_without_any_pf_says_so() -> None:
    host = replace(sriov_host(), devices=MappingProxyType({}), pfs=MappingProxyType({}))
    answer = pf_meant(pool(), host)
    assert isinstance(answer, Refusal)
    assert answer.message.endswith("its PFs with SR-IOV are none")


def moved(host: Observation, to: PciAddress = ELSEWHERE, **changes: Any) -> Observation:
    """The card of PF is elsewhere, in another slot; ``changes`` are of its network side."""
    card = replace(host.devices[PF], address=to, slot_path="0000:00/05.0/00.0")
    devices = {a: d for a, d in host.devices.items() if PF not in (a, d.physfn)}
    sides = {a: s for a, s in host.pfs.items() if a != PF}
    return replace(
        host,
        devices=MappingProxyType({**devices, to: card}),
        pfs=MappingProxyType({**sides, to: replace(host.pfs[PF], address=to, **changes)}),
    )


def test_a_recorded_pf_is_followed_by_its_mac_and_no_selector_is_asked_any_more() -> None:
    host = made(sriov_host(pfs=2), pool())
    found = pf_meant(pool(pf={"name": "ens2"}), moved(host))
    assert isinstance(found, PciDevice)
    assert found.address == ELSEWHERE
    renamed = pf_meant(pool(), with_pf(host, PF, netdev="enp1s0"))
    assert isinstance(renamed, PciDevice)
    assert renamed.address == PF


def test_without_a_netdev_the_fingerprint_decides() -> None:
    host = with_pf(made(sriov_host(pfs=2), pool()), PF, netdev=None, mac=None)
    found = pf_meant(pool(), host)
    assert isinstance(found, PciDevice)
    assert found.address == PF


def test_another_card_of_the_same_kind_in_the_same_slot_is_not_taken_for_it() -> None:
    host = with_pf(made(sriov_host(), pool()), PF, mac="52:54:00:99:99:99")
    answer = pf_meant(pool(), host)
    assert isinstance(answer, Refusal)
    assert answer.reason is reasons.IDENTITY_CHANGED
    assert f"with MAC {MAC}" in answer.message


def test_a_card_that_is_gone_is_not_found() -> None:
    host = made(sriov_host(pfs=2), pool())
    devices = {a: d for a, d in host.devices.items() if PF not in (a, d.physfn)}
    answer = pf_meant(pool(), replace(host, devices=MappingProxyType(devices)))
    assert isinstance(answer, Refusal)
    assert answer.reason is reasons.DEVICE_NOT_FOUND
    assert "last seen at 0000:01:00.0" in answer.message


def test_two_cards_that_could_both_be_it_are_not_chosen_from() -> None:
    host = made(with_pf(sriov_host(pfs=2), PF, mac=None), pool())
    twins = {a: physical(a, slot_path="elsewhere") for a in (PF2, ELSEWHERE)}
    record = replace(host.pool_records[POOL], identity=twins[PF2].identity)
    answer = recorded_pf(record, replace(host, devices=MappingProxyType(twins)))
    assert isinstance(answer, Refusal)
    assert answer.reason is reasons.AMBIGUOUS_DEVICE
    assert "0000:02:00.0 (ens2" in answer.message
