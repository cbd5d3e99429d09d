from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from hostdev_operator.core.model import Nic, Observation
from hostdev_operator.core.orphans import foreign_nics, recorded_orphans
from tests.core.hosts import assigned, observation
from tests.fakes.samples import DB, LONER, NIC, OTHER_UID, UID, WEB

NOBODY: frozenset[str] = frozenset()
OURS = f"ua-hostdev-{OTHER_UID}"


def with_nics(host: Observation, uuid: str, *nics: Nic, live: bool = False) -> Observation:
    changed: dict[str, Any] = {"live_nics": nics} if live else {"nics": nics}
    return replace(host, guests=tuple(replace(g, **changed) if g.uuid == uuid else g for g in host.guests))


def test_a_record_without_an_assignment_is_an_orphan() -> None:
    (orphan,) = recorded_orphans(assigned(), NOBODY)
    assert (orphan.uid, orphan.owner, orphan.guest, orphan.address) == (UID, "default/nic", "web", NIC)
    assert recorded_orphans(assigned(), frozenset({UID})) == ()
    assert foreign_nics(assigned(), NOBODY) == ()


def test_a_nic_with_our_alias_is_found_in_whatever_guest_it_is() -> None:
    host = with_nics(observation(), WEB, Nic(OURS, network="net-a"))
    host = with_nics(host, DB, Nic(OURS, address=LONER), live=True)
    (orphan,) = foreign_nics(host, NOBODY)
    assert (orphan.uid, orphan.guest, orphan.address) == (OTHER_UID, "db", LONER)
    assert {guest.uuid for guest in orphan.guests} == {WEB, DB}
    assert foreign_nics(host, frozenset({OTHER_UID})) == ()


def test_a_nic_that_a_record_knows_is_the_records() -> None:
    assert foreign_nics(with_nics(assigned(), WEB, Nic(f"ua-hostdev-{UID}", address=NIC)), NOBODY) == ()


@pytest.mark.parametrize(
    "alias", [None, "ua-net0", "ua-hostdev-", f"{OURS}-x", f"ua-hostdev-{'a' * 5000}", "ua-hostdev-web"]
)
def test_what_is_no_alias_of_ours_is_left_alone(alias: str | None) -> None:
    assert foreign_nics(with_nics(observation(), WEB, Nic(alias)), NOBODY) == ()
