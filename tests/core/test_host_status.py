from __future__ import annotations

from dataclasses import replace

import pytest

from hostdev_operator.api.crd import KINDS, crd
from hostdev_operator.core.conditions import find
from hostdev_operator.core.host_status import Trouble, holder, host_status
from hostdev_operator.core.model import VFIO_DRIVER, Hostdev, Platform, Pool
from hostdev_operator.core.orphans import Orphan
from hostdev_operator.core.settings import Settings
from tests.core.hosts import PLATFORM, assigned, observation, with_device, with_guest
from tests.fakes.samples import DB, LONER, MATE, NIC, PORT, UID, WEB


@pytest.mark.parametrize(
    ("platform", "expected"),
    [
        (PLATFORM, ["IOMMUReady", "InterruptRemappingReady", "VFIOReady"]),
        (replace(PLATFORM, iommu=False, vfio=False), ["InterruptRemappingReady"]),
        (replace(PLATFORM, interrupt_remapping=False), ["IOMMUReady", "VFIOReady"]),
        (replace(PLATFORM, interrupt_remapping=None), ["IOMMUReady", "VFIOReady"]),
        (replace(PLATFORM, interrupt_remapping=False, unsafe_interrupts=True), ["IOMMUReady", "VFIOReady"]),
    ],
)
def test_the_hosts_conditions_say_what_is_ready(platform: Platform, expected: list[str]) -> None:
    status = host_status(observation(platform=platform), {}, (), {}, Trouble())
    assert [c.type for c in status.conditions if c.status == "True"] == [*expected, "LibvirtReady", "JournalReady"]


def test_libvirt_away_is_a_condition_with_the_next_step() -> None:
    status = host_status(observation(), {}, (), {}, Trouble(libvirt="Failed to connect socket"))
    libvirt = find(status.conditions, "LibvirtReady")
    assert libvirt
    assert (libvirt.status, libvirt.reason) == ("False", "LibvirtUnavailable")
    assert "systemctl start libvirtd" in libvirt.message


def test_a_guest_holds_before_an_assignment_before_a_driver() -> None:
    host = with_guest(with_device(assigned(), LONER, driver=VFIO_DRIVER), DB, config=())
    kinds = {}
    for address in (NIC, MATE, LONER, PORT):
        held = holder(host.devices[address], host)
        assert held
        kinds[address] = (held.kind, held.name)
    assert kinds == {
        NIC: ("Guest", "web"),
        MATE: ("Assignment", "default/nic"),
        LONER: ("VFIO", VFIO_DRIVER),
        PORT: ("HostDriver", "pcieport"),
    }
    assert holder(replace(host.devices[LONER], driver=None), host) is None


def test_devices_show_names_sriov_and_why_the_host_needs_them() -> None:
    base = with_device(observation(), NIC, total_vfs=7, num_vfs=2)
    base = with_device(base, MATE, physfn=NIC, vf_index=1)
    status = host_status(
        base, {NIC: ("Intel", "82574L")}, (Orphan(UID, assigned().records[UID]),), {UID: "GuestRunning: web"}, Trouble()
    )
    nic, mate = (next(d for d in status.devices if d.address == str(a)) for a in (NIC, MATE))
    assert (nic.vendor.name, nic.product.name, nic.class_) == ("Intel", "82574L", "0x020000")
    assert nic.sriov
    assert (nic.sriov.role, nic.sriov.total_vfs, nic.sriov.num_vfs) == ("PF", 7, 2)
    assert mate.sriov
    assert (mate.sriov.role, mate.sriov.pf, mate.sriov.index) == ("VF", str(NIC), 1)
    assert [(o.uid, o.assignment, o.guest, o.address, o.message) for o in status.orphans] == [
        (UID, "default/nic", "web", str(NIC), "GuestRunning: web")
    ]
    assert status.summary == "4 devices, 2 groups, 2 guests"


def test_what_an_orphan_waits_for_fits_into_the_status() -> None:
    status = host_status(observation(), {}, (Orphan(UID, assigned().records[UID]),), {UID: "x" * 9000}, Trouble())
    limit = crd(KINDS[1])["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]
    limit = limit["properties"]["orphans"]["items"]["properties"]["message"]["maxLength"]
    assert [len(o.message or "") for o in status.orphans] == [limit]


def test_guests_show_their_devices_live_and_persistent() -> None:
    host = with_guest(observation(), WEB, config=(Hostdev(NIC),), live=(Hostdev(LONER),), active=True)
    web = next(g for g in host_status(host, {}, (), {}, Trouble()).guests if g.name == "web")
    shown = [(d.address, d.live, d.persistent) for d in web.devices]
    assert shown == [(str(NIC), False, True), (str(LONER), True, False)]


def test_pools_and_reservations_hold_too() -> None:
    host = replace(assigned(guest=None, managed=False), pools=(Pool("vfs", frozenset({LONER})),))
    kinds = {}
    for address in (NIC, MATE, LONER):
        held = holder(host.devices[address], host)
        assert held
        kinds[address] = (held.kind, held.name)
    reserved = ("Reservation", "default/nic")
    assert kinds == {NIC: reserved, MATE: reserved, LONER: ("Pool", "vfs")}


def test_what_the_administrator_asks_for_is_a_condition() -> None:
    settings = Settings(paused=True, overrides={NIC: "eth1 is up"})
    status = host_status(replace(observation(), settings=settings), {}, (), {}, Trouble(journal="cannot read x.json"))
    shown = {c.type: (c.status, c.reason) for c in status.conditions}
    assert shown["Paused"] == ("True", "Paused")
    assert shown["CriticalOverrides"] == ("True", "CriticalOverride")
    assert shown["JournalReady"] == ("False", "StateDirectoryFailed")
    usual = {c.type for c in host_status(observation(), {}, (), {}, Trouble()).conditions}
    assert usual == {"IOMMUReady", "InterruptRemappingReady", "VFIOReady", "LibvirtReady", "JournalReady"}
