from __future__ import annotations

from types import MappingProxyType
from typing import Any

import pytest

from hostdev_operator.core.boot_file import HEADER, boot_file
from hostdev_operator.core.pool import PoolRecord
from hostdev_operator.core.sriov import VfConfig
from tests.fakes.samples import LONER, MATE, NIC, OTHER_UID, UID, device

MAC = "52:54:00:10:00:01"


def record(uid: str = UID, **more: Any) -> PoolRecord:
    values: dict[str, Any] = {"name": "vfs", "pf": NIC, "pf_mac": MAC, "num_vfs": 7, "autoprobe": False, **more}
    return PoolRecord(
        uid=uid, identity=device(NIC).identity, num_vfs_before=0, up_before=False, network_name="vfs", **values
    )


def lines(*records: PoolRecord) -> list[str]:
    text = boot_file(records)
    assert text.startswith(HEADER)
    assert text.endswith("\n")
    return text.splitlines()[1:]


@pytest.mark.parametrize(
    ("more", "line"),
    [
        ({}, f"{MAC} {NIC} 7 0 -"),
        ({"autoprobe": True}, f"{MAC} {NIC} 7 1 -"),
        ({"autoprobe": None}, f"{MAC} {NIC} 7 - -"),
        ({"link_up": True}, f"{MAC} {NIC} 7 0 up"),
        ({"pf_mac": None}, f"- {NIC} 7 0 -"),
        ({"pf_mac": MAC.upper().replace("52", "AE")}, f"ae{MAC[2:]} {NIC} 7 0 -"),
        ({"pf_mac": "52:54:00:10:00:01\n- 0000:00:00.0 1 1"}, f"- {NIC} 7 0 -"),
    ],
)
def test_a_pf_is_one_line_of_five_words(more: dict[str, Any], line: str) -> None:
    assert lines(record(**more)) == [line]


def test_a_pf_whose_vfs_somebody_else_makes_is_left_out() -> None:
    assert lines() == lines(record(num_vfs=None)) == []


def test_pools_of_one_pf_are_one_line_and_order_is_of_no_matter() -> None:
    other = record(OTHER_UID, name="more")
    third = record("c", name="third", pf=LONER, pf_mac=None)
    expected = [f"- {LONER} 7 0 -", f"{MAC} {NIC} 7 0 -"]
    assert lines(record(), other, third) == lines(third, other, record()) == expected


def test_pools_that_do_not_agree_keep_the_most_vfs() -> None:
    moved = record(OTHER_UID, pf=MATE, num_vfs=3, autoprobe=True)
    assert lines(moved, record()) == lines(record(), moved) == [f"{MAC} {NIC} 7 0 -"]


def test_a_pool_record_round_trips() -> None:
    full = record(
        autoprobe_before=True,
        network_uuid="44444444-4444-4444-8444-444444444444",
        adopted=True,
        link_up=True,
        vfs_before=MappingProxyType({0: VfConfig(trust=False), 12: VfConfig("52:54:00:aa:bb:01", 0, min_tx_rate=0)}),
        sequence=9,
    )
    for one in (full, record(pf_mac=None, num_vfs=None, autoprobe=None)):
        assert PoolRecord.from_json(one.to_json()) == one


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"format": 1}', '{"format": 9}'])
def test_a_text_that_is_no_pool_record_is_refused(text: str) -> None:
    with pytest.raises((ValueError, KeyError, TypeError)):
        PoolRecord.from_json(text)
