"""Whether a guest's next start would bring its device, and the file that tells libvirt's hook."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostdev_operator.api.deviceassignment import DeviceAssignmentStatus, GuestStatus
from hostdev_operator.core.conditions import condition
from hostdev_operator.core.start_gate import file_name, hindrance, text, uid_of
from tests.fakes.samples import UID, WEB

STANDS = {"Planned": "ChecksPassed", "GroupReady": "Claimed", "Configured": "InPersistentXML"}


def status(attached: str = "!GuestShutOff", *, active: bool = False, **parts: str) -> DeviceAssignmentStatus:
    """``parts``: condition -> reason, with ! before one that is not True, empty for none."""
    wanted = {**STANDS, **parts, "Attached": attached}
    return DeviceAssignmentStatus(
        guest=GuestStatus(name="web", active=active, persistent=True, live=active),
        conditions=tuple(
            condition(kind, not reason.startswith("!"), reason.lstrip("!"), "as it is")
            for kind, reason in wanted.items()
            if reason
        ),
    )


@pytest.mark.parametrize(
    ("seen", "why"),
    [
        pytest.param(status(), None, id="off, and stands"),
        pytest.param(status("InLiveXML", active=True), None, id="runs with it"),
        pytest.param(status("!PendingGuestRestart", active=True), None, id="runs, and gets it at its next boot"),
        pytest.param(status("!NoGuestPCISlot", active=True), None, id="runs, and cannot be plugged"),
        pytest.param(status("!PoolExhausted"), "PoolExhausted: as it is", id="off, and its start will fail"),
        pytest.param(status("!GuestSaved"), "GuestSaved: as it is", id="off, and resumed without it"),
        pytest.param(status(Planned="!DeviceInUse"), "DeviceInUse: as it is", id="refused"),
        pytest.param(status(Planned="!Drifted", active=True), "Drifted: as it is", id="runs, and has drifted"),
        pytest.param(status(GroupReady="!NotClaimed"), "NotClaimed: as it is", id="not claimed"),
        pytest.param(status(Configured="!NotConfigured"), "NotConfigured: as it is", id="not in the XML"),
        pytest.param(DeviceAssignmentStatus(), "it has not been looked at yet", id="new"),
        pytest.param(status(Configured=""), "it has not been looked at yet", id="half known"),
    ],
)
def test_hindrance(seen: DeviceAssignmentStatus, why: str | None) -> None:
    assert hindrance(seen) == why


def test_a_file_is_known_again_by_its_name() -> None:
    assert uid_of(file_name(WEB, UID)) == UID
    for strange in (f"{WEB}.partial", f"{WEB}_{UID}.partial", f"{WEB}_.wait", f"x_{UID}.wait", "README"):
        assert uid_of(strange) is None


@pytest.mark.parametrize("domain_uuid", ["", "..", "web", f"../{WEB}", WEB.upper(), f"{WEB}\n"])
def test_a_name_leads_nowhere_else(domain_uuid: str) -> None:
    with pytest.raises(ValueError, match="no UUID"):
        file_name(domain_uuid if domain_uuid != WEB.upper() else "ABCDEFAB" + WEB[8:], UID)


@given(st.text(), st.text())
def test_whatever_is_said_stays_on_its_line(owner: str, why: str) -> None:
    written = text("boot", 7, owner, why)
    assert written.startswith("boot 7\n")
    assert len(written.splitlines()) == 2
