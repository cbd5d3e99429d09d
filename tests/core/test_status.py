from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from hostdev_operator.api.common import Condition
from hostdev_operator.api.deviceassignment import DeviceAssignmentStatus, RecordStatus
from hostdev_operator.core import reasons
from hostdev_operator.core.assignment_status import Outcome
from hostdev_operator.core.assignment_status import assignment_status as status_of
from hostdev_operator.core.checks import Refusal
from hostdev_operator.core.conditions import find
from hostdev_operator.core.model import VFIO_DRIVER, Hostdev, Observation, Role, Saved, Use
from hostdev_operator.core.published import record_from_status, record_status, seen_before
from hostdev_operator.core.settings import Settings
from hostdev_operator.core.slots import Slots
from tests.core.hosts import assigned, observation, with_device, with_guest
from tests.fakes.samples import GROUP, MATE, NIC, PORT, UID, WEB, intent, wish


def assignment_status(host: Observation, outcome: Outcome, **more: Any) -> DeviceAssignmentStatus:
    """The status of the sample assignment."""
    wanted = wish(**more)
    device = wish().intent(NIC).address
    return status_of(wanted, wanted.intent(NIC) if device in host.devices else None, host, outcome)


FINE = Outcome()
REFUSED = Outcome(refused=Refusal(reasons.HOST_CRITICAL, "0000:01:00.0 carries the default route"))
FAILED = Outcome(failed=Refusal(reasons.DETACH_FAILED, "0000:01:00.1 was detached, but"), rolled_back=True)
FAILED_TO_ADD = Outcome(failed=Refusal(reasons.LIBVIRT_ERROR, "adding 0000:01:00.0"))
WAITING = Outcome(refused=Refusal(reasons.GUEST_RUNNING, "guest web runs"))


def running(host: Observation) -> Observation:
    return with_guest(host, WEB, active=True)


def with_live(host: Observation) -> Observation:
    return with_guest(
        with_device(host, NIC, driver=VFIO_DRIVER), WEB, active=True, live=(Hostdev(NIC, intent().alias),)
    )


@pytest.mark.parametrize(
    ("host", "outcome", "expected"),
    [
        pytest.param(
            assigned(), FINE,
            "Planned=ChecksPassed GroupReady=Claimed Configured=InPersistentXML !Attached=GuestShutOff Ready=Assigned",
            id="off",
        ),
        pytest.param(
            with_guest(assigned(), WEB, saved=Saved()), FINE,
            "Planned=ChecksPassed GroupReady=Claimed Configured=InPersistentXML !Attached=GuestSaved Ready=Assigned",
            id="saved without it",
        ),
        pytest.param(
            with_guest(assigned(), WEB, saved=Saved(known=False)), FINE,
            "Planned=ChecksPassed GroupReady=Claimed Configured=InPersistentXML !Attached=GuestSaved Ready=Assigned",
            id="saved, and its image cannot be read",
        ),
        pytest.param(
            with_guest(assigned(), WEB, saved=Saved((Hostdev(NIC, intent().alias),))), FINE,
            "Planned=ChecksPassed GroupReady=Claimed Configured=InPersistentXML !Attached=GuestShutOff Ready=Assigned",
            id="saved with it",
        ),
        pytest.param(
            running(assigned()), FINE,
            "Planned=ChecksPassed GroupReady=Claimed Configured=InPersistentXML !Attached=PendingGuestRestart"
            " Ready=Assigned",
            id="running, pending restart",
        ),
        pytest.param(
            with_guest(running(assigned()), WEB, slots=Slots()), FINE,
            "Planned=ChecksPassed GroupReady=Claimed Configured=InPersistentXML !Attached=NoGuestPCISlot"
            " Ready=Assigned",
            id="running, no slot",
        ),
        pytest.param(
            running(assigned()), Outcome(not_plugged=Refusal(reasons.MEMLOCK_EXCEEDED, "too much")),
            "Planned=ChecksPassed GroupReady=Claimed Configured=InPersistentXML !Attached=MemlockExceeded"
            " Ready=Assigned",
            id="running, could not be plugged",
        ),
        pytest.param(
            running(assigned()), Outcome(not_plugged=Refusal(reasons.NO_GUEST_PCI_SLOT, "no slot")),
            "Planned=ChecksPassed GroupReady=Claimed Configured=InPersistentXML !Attached=NoGuestPCISlot"
            " Ready=Assigned",
            id="running, ejected by somebody",
        ),
        pytest.param(
            with_guest(with_live(assigned()), WEB, config=()), FAILED_TO_ADD,
            "Planned=ChecksPassed GroupReady=Claimed !Configured=LibvirtError Attached=InLiveXML !Ready=LibvirtError",
            id="plugged, and not in the XML",
        ),
        pytest.param(
            with_live(assigned()), Outcome(failed=Refusal(reasons.UNPLUG_PENDING, "asked")),
            "Planned=ChecksPassed GroupReady=Claimed Configured=InPersistentXML Attached=InLiveXML"
            " !Ready=UnplugPending",
            id="release asks the guest",
        ),
        pytest.param(
            with_device(assigned(), NIC, driver="e1000e"),
            Outcome(refused=Refusal(reasons.HOST_USING, "carries the default route now")),
            "!Planned=HostUsing GroupReady=Claimed Configured=InPersistentXML !Attached=GuestShutOff !Ready=HostUsing",
            id="the host uses it while the guest is off",
        ),
        pytest.param(
            replace(assigned(), settings=Settings(paused=True)),
            Outcome(refused=Refusal(reasons.PAUSED, "the node is paused")),
            "!Planned=Paused GroupReady=Claimed Configured=InPersistentXML !Attached=GuestShutOff !Ready=Paused",
            id="paused",
        ),
        pytest.param(
            replace(assigned(), uses=(Use(NIC, "carries the default route"),),
                    settings=Settings(overrides={NIC: "eth1 is up"})), FINE,
            "Planned=CriticalOverride GroupReady=Claimed Configured=InPersistentXML !Attached=GuestShutOff"
            " Ready=Assigned",
            id="overridden",
        ),
        pytest.param(
            with_live(assigned()), FINE,
            "Planned=ChecksPassed GroupReady=Claimed Configured=InPersistentXML Attached=InLiveXML Ready=Assigned",
            id="attached",
        ),
        pytest.param(
            observation(), REFUSED,
            "!Planned=HostCritical !GroupReady=NotTried !Configured=NotTried !Attached=GuestShutOff"
            " !Ready=HostCritical",
            id="refused",
        ),
        pytest.param(
            observation(), FAILED,
            "Planned=ChecksPassed !GroupReady=DetachFailed !Configured=DetachFailed !Attached=GuestShutOff"
            " !Ready=DetachFailed",
            id="failed and rolled back",
        ),
        pytest.param(
            with_live(assigned()), WAITING,
            "!Planned=GuestRunning GroupReady=Claimed Configured=InPersistentXML Attached=InLiveXML"
            " !Ready=GuestRunning",
            id="release waits",
        ),
        pytest.param(
            replace(assigned(), guests=()), Outcome(refused=Refusal(reasons.GUEST_NOT_FOUND, "x")),
            "!Planned=GuestNotFound GroupReady=Claimed !Configured=NotTried !Attached=GuestNotFound"
            " !Ready=GuestNotFound",
            id="guest gone",
        ),
        pytest.param(
            with_device(assigned(), MATE, driver=None), FINE,
            "Planned=ChecksPassed !GroupReady=NotClaimed Configured=InPersistentXML !Attached=GuestShutOff"
            " !Ready=NotClaimed",
            id="a mate that lost its driver",
        ),
        pytest.param(
            with_device(assigned(), MATE, driver="igb"), FINE,
            "Planned=ChecksPassed !GroupReady=NotClaimed Configured=InPersistentXML !Attached=GuestShutOff"
            " !Ready=NotClaimed",
            id="a mate on a host driver",
        ),
        pytest.param(
            with_device(assigned(), NIC, driver="e1000e"), FINE,
            "Planned=ChecksPassed GroupReady=Claimed Configured=InPersistentXML !Attached=GuestShutOff Ready=Assigned",
            id="managed: the host has the device between runs",
        ),
        pytest.param(
            observation(), FINE,
            "Planned=ChecksPassed !GroupReady=NotClaimed !Configured=NotConfigured !Attached=GuestShutOff"
            " !Ready=NotClaimed",
            id="nothing done",
        ),
    ],
)  # fmt: skip
def test_conditions_of_each_state(host: Observation, outcome: Outcome, expected: str) -> None:
    conditions = assignment_status(host, outcome).conditions
    shown = [f"{'' if c.status == 'True' else '!'}{c.type}={c.reason}" for c in conditions]
    assert " ".join(shown) == expected


@pytest.mark.parametrize(
    ("host", "outcome", "expected"),
    [
        (with_live(assigned()), FINE, "Attached=InLiveXML Ready=Assigned"),
        (assigned(), FINE, "!Attached=GuestShutOff Ready=Assigned"),
        (running(assigned()), FINE, "!Attached=PendingGuestRestart !Ready=PendingGuestRestart"),
        (with_guest(running(assigned()), WEB, slots=Slots()), FINE, "!Attached=NoGuestPCISlot !Ready=NoGuestPCISlot"),
        (running(assigned()), Outcome(failed=Refusal(reasons.NO_GUEST_PCI_SLOT, "x")),
         "!Attached=NoGuestPCISlot !Ready=NoGuestPCISlot"),
        (running(observation()), Outcome(failed=Refusal(reasons.MEMLOCK_EXCEEDED, "x"), rolled_back=True),
         "!Attached=MemlockExceeded !Ready=MemlockExceeded"),
    ],
)  # fmt: skip
def test_with_live_a_running_guest_must_have_it(host: Observation, outcome: Outcome, expected: str) -> None:
    conditions = assignment_status(host, outcome, attach="Live").conditions
    shown = [f"{'' if c.status == 'True' else '!'}{c.type}={c.reason}" for c in conditions if c.type in expected]
    assert " ".join(shown) == expected


def test_next_boot_says_so_even_without_a_slot() -> None:
    host = with_guest(running(assigned()), WEB, slots=Slots())
    found = find(assignment_status(host, FINE, attach="NextBoot").conditions, "Attached")
    assert found
    assert found.reason == "PendingGuestRestart"


def test_assign_all_needs_every_endpoint_in_both_xmls() -> None:
    wanted: dict[str, Any] = {"groupPolicy": "AssignAll"}
    whole = assigned(observation(), group_policy="AssignAll")
    lacking = with_guest(whole, WEB, config=tuple(h for h in whole.guests[0].config if h.address == NIC))
    for host, reason in ((whole, "InPersistentXML"), (lacking, "NotConfigured")):
        found = find(assignment_status(host, FINE, **wanted).conditions, "Configured")
        assert found
        assert found.reason == reason
    half = with_guest(whole, WEB, active=True, live=lacking.guests[0].config)
    found = find(assignment_status(half, FINE, **wanted).conditions, "Attached")
    assert found
    assert found.status == "False"
    group = assignment_status(whole, FINE, **wanted).iommu_group
    assert group
    assert {m.role for m in group.members} == {"Bridge", "Device"}


@pytest.mark.parametrize(
    ("host", "outcome", "expected"),
    [
        (assigned(guest=None, managed=False), FINE, "Planned=ChecksPassed GroupReady=Claimed Ready=Reserved"),
        (observation(), REFUSED, "!Planned=HostCritical !GroupReady=NotTried !Ready=HostCritical"),
        (observation(), FINE, "Planned=ChecksPassed !GroupReady=NotClaimed !Ready=NotClaimed"),
    ],
)
def test_a_reservation_has_no_guests_conditions(host: Observation, outcome: Outcome, expected: str) -> None:
    status = assignment_status(host, outcome, guest=None)
    shown = [f"{'' if c.status == 'True' else '!'}{c.type}={c.reason}" for c in status.conditions]
    assert (" ".join(shown), status.guest) == (expected, None)


def test_the_fingerprint_is_kept_as_it_was_seen_first_with_the_address_of_now() -> None:
    first = assignment_status(with_device(observation(), NIC, serial="S1"), REFUSED).identity
    assert first
    assert (first.address, first.serial, first.slot_path) == (str(NIC), "S1", "0000:00/01.0/00.0")
    before = seen_before(DeviceAssignmentStatus(identity=first))
    now = status_of(replace(wish(), seen=before), wish().intent(NIC), observation(), REFUSED).identity
    assert now == first
    gone = replace(observation(), devices={})
    assert status_of(replace(wish(), seen=before), None, gone, REFUSED).identity == first


def test_an_unmanaged_device_on_its_host_driver_is_not_claimed() -> None:
    host = with_device(assigned(managed=False), NIC, driver="e1000e")
    status = assignment_status(host, FINE, managed=False)
    ready = find(status.conditions, "GroupReady")
    assert ready
    assert (ready.status, ready.reason) == ("False", "NotClaimed")


def test_a_rollback_is_told() -> None:
    group = find(assignment_status(observation(), FAILED).conditions, "GroupReady")
    assert group
    assert "undone" in group.message


def test_the_status_shows_device_group_guest_and_record() -> None:
    status = assignment_status(assigned(), FINE)
    assert status.device
    assert status.iommu_group
    assert status.guest
    assert status.record
    assert (status.device.name, status.device.vendor_id, status.device.driver) == (
        "pci_0000_01_00_0",
        "0x8086",
        "e1000e",
    )
    assert status.iommu_group.number == GROUP
    roles = {m.address: (m.role, m.driver) for m in status.iommu_group.members}
    assert roles == {
        str(PORT): ("Bridge", "pcieport"),
        str(NIC): ("Device", "e1000e"),
        str(MATE): ("Mate", VFIO_DRIVER),
    }
    assert (status.guest.name, status.guest.alias, status.guest.persistent) == ("web", intent().alias, True)
    assert [(m.address, m.driver) for m in status.record.members] == [
        (str(NIC), "e1000e"),
        (str(MATE), "snd_hda_intel"),
    ]


def test_nothing_is_shown_of_a_device_that_is_not_there() -> None:
    host = replace(observation(), devices={}, guests=())
    status = assignment_status(host, REFUSED)
    assert (status.device, status.iommu_group, status.guest, status.record) == (None, None, None, None)


def test_the_published_record_is_the_record_again() -> None:
    base = with_device(observation(), MATE, driver=None, serial="S1", pf_mac="52:54:00:00:00:01", vf_index=3)
    record = assigned(base).records[UID]
    record = record.changed(NIC, record.members)
    copy = RecordStatus.model_validate(record_status(record).wire())
    assert record_from_status(copy, UID, "default", "nic") == record


def test_a_conventional_device_behind_a_bridge_is_warned_of() -> None:
    def planned(host: Observation) -> Condition:
        found = find(assignment_status(host, FINE).conditions, "Planned")
        assert found
        return found

    on_the_root_bus = with_device(assigned(), NIC, express=False)
    assert planned(on_the_root_bus).reason == "ChecksPassed"
    warned = planned(with_device(on_the_root_bus, PORT, role=Role.BRIDGE))
    assert (warned.status, warned.reason) == ("True", "ConventionalPCI")
    assert str(NIC) in warned.message


def test_a_guest_that_is_off_is_promised_only_what_its_xml_has() -> None:
    def attached(host: Observation, outcome: Outcome) -> str:
        found = find(assignment_status(host, outcome).conditions, "Attached")
        assert found
        return found.message

    assert f"it gets {NIC} at its next start" in attached(assigned(), FINE)
    assert "it gets" not in attached(observation(), REFUSED)
