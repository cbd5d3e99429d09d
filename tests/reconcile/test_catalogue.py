"""Each row of the failure catalogue is made to happen: its reason is what the condition Ready says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from hostdev_operator.api.deviceassignment import DeviceAssignmentSpec
from hostdev_operator.api.devicehost import DeviceHostStatus, GuestEntry
from hostdev_operator.core import reasons
from hostdev_operator.core.actions import HostdevXml
from hostdev_operator.core.authority import Grant, not_allowed
from hostdev_operator.core.binding import bind
from hostdev_operator.core.checks import Refusal
from hostdev_operator.core.domain_xml import hostdev_xml
from hostdev_operator.core.gone import Evidence, missing
from hostdev_operator.core.reasons import CATALOGUE, Reason, from_words
from hostdev_operator.core.settings import Settings
from hostdev_operator.simulation.host import FakeHost
from tests.fakes.samples import DB, LONER, MATE, NIC, OTHER_UID, PORT, WEB, assignment, device, small_host, spec
from tests.reconcile import preparing
from tests.reconcile.guest_scenarios import GUEST_SCENARIOS
from tests.reconcile.nic_scenarios import NIC_SCENARIOS
from tests.reconcile.pool_scenarios import POOL_SCENARIOS
from tests.reconcile.running import Engine, ready

OTHER_WEB = "33333333-3333-4333-8333-333333333333"
Scenario = Callable[[Engine], str]


def run(engine: Engine, **more: Any) -> str:
    """The reason of Ready, which must not be True."""
    status, reason = ready(engine.run(assignment(**more)))
    assert status == "False"
    return reason


def bound(more: dict[str, Any], *nodes: str) -> str:
    """The controller's refusal, where these nodes have a guest web."""
    guest = GuestEntry(name="web", uuid=WEB, active=False, persistent=True)
    answer = bind(
        DeviceAssignmentSpec.model_validate({**spec(), **more}), {n: DeviceHostStatus(guests=(guest,)) for n in nodes}
    )
    assert isinstance(answer, Refusal)
    return answer.reason.name


# -- what libvirt, QEMU and the kernel say ---------------------------------------------------------------------------


def said_at(call: str, reason: Reason, *, live: bool = False) -> Scenario:
    """Libvirt fails a call with the first words of the row, as the adapter understands them."""

    def scenario(engine: Engine) -> str:
        text = f"internal error: x: {reason.words[0]} y" if reason.words else "said by no row"
        assert from_words(text) is reason, f"{reason.words[0]!r} is understood as {from_words(text)}"
        engine.host.fail(call, from_words(text), text)
        if live:
            engine.host.start(WEB)
        return run(engine, attach="Live" if live else "Auto", managed=not live)

    return scenario


def plugging_says(reason: Reason) -> Scenario:
    return said_at("plug_hostdev", reason, live=True)


# -- one scenario for each row ---------------------------------------------------------------------------------------


def invalid_source(engine: Engine) -> str:
    broken = assignment()
    source = broken.spec.source.model_copy(update={"pci": None})
    result = engine.run(replace(broken, spec=broken.spec.model_copy(update={"source": source})))
    return ready(result)[1]


def namespace_not_allowed(_engine: Engine) -> str:
    answer = not_allowed("team-a", Grant(), DeviceAssignmentSpec.model_validate(spec()))
    assert answer
    return answer.reason.name


def guest_not_found(engine: Engine) -> str:
    engine.host.undefine(WEB)
    return run(engine)


def guest_identity_changed(engine: Engine) -> str:
    engine.host.undefine(WEB)
    engine.host.define(OTHER_WEB, "web")
    return run(engine)


def guest_transient(engine: Engine) -> str:
    engine.host.start(WEB)
    engine.host.undefine(WEB)
    return run(engine)


def device_in_use(engine: Engine) -> str:
    engine.run(assignment())
    return run(engine, uid=OTHER_UID, guest=DB)


def group_in_use(engine: Engine) -> str:
    engine.run(assignment())
    return run(engine, address=MATE, uid=OTHER_UID, guest=DB)


def host_critical(engine: Engine) -> str:
    engine.host.use(NIC, "carries the default route over eth0")
    return run(engine)


def host_use_unknown(engine: Engine) -> str:
    engine.host.unknown_use = "cannot read mountinfo"
    return run(engine)


def identity_changed(engine: Engine) -> str:
    engine.run(assignment(LONER))
    engine.host.devices[LONER] = device(LONER, "ixgbe", 13, product=0x1528)
    return run(engine, address=LONER)


def ambiguous_device(engine: Engine) -> str:
    return run(engine, source={"match": {"class": "0x02"}})


def nothing_to_adopt(engine: Engine) -> str:
    return run(engine, adopt=True)


def adoption_differs(engine: Engine) -> str:
    engine.host.define(WEB, "web", hostdev_xml(HostdevXml(NIC, "ua-by-hand", managed=False)))
    why = run(engine, adopt=True)
    engine.host.define(WEB, "web")
    return why


def host_using(engine: Engine) -> str:
    engine.run(assignment())
    engine.host.use(NIC, "carries the default route over eth0")
    return run(engine)


def paused(engine: Engine) -> str:
    engine.settings = Settings(paused=True)
    return run(engine)


def too_many_devices(engine: Engine) -> str:
    engine.settings = Settings(devices_per_guest=0)
    return run(engine)


def on_platform(**changes: Any) -> Scenario:
    def scenario(engine: Engine) -> str:
        engine.host.platform = replace(engine.host.platform, **changes)
        return run(engine)

    return scenario


def libvirt_unavailable(engine: Engine) -> str:
    engine.host.down = True
    return run(engine)


def group_not_viable(engine: Engine) -> str:
    engine.host.start(WEB)

    def bind_late(call: str) -> None:
        if call == "plug":
            engine.host.bind(MATE, "snd_hda_intel")

    engine.host.hook = bind_late
    return run(engine, attach="Live")


def not_detached(engine: Engine) -> str:
    engine.host.start(WEB)

    def bind_late(call: str) -> None:
        if call == "plug":
            engine.host.bind(NIC, "e1000e")

    engine.host.hook = bind_late
    return run(engine, attach="Live", managed=False)


def no_guest_pci_slot(engine: Engine) -> str:
    engine.host.define(WEB, "web", "<controller type='pci' index='0' model='pcie-root'/>")
    engine.host.start(WEB)
    return run(engine, attach="Live")


#: A conventional bus 1, whose slot 3 is taken.
_BRIDGE = (
    "<controller type='pci' index='0' model='pci-root'/><controller type='pci' index='1' model='pci-bridge'/>"
    "<sound model='es1370'><address type='pci' domain='0x0000' bus='0x01' slot='0x03' function='0x0'/></sound>"
)


def at_guest_address(address: str, *, live: bool = False) -> Scenario:
    def scenario(engine: Engine) -> str:
        engine.host.define(WEB, "web", _BRIDGE)
        if live:
            engine.host.start(WEB)
        wanted = {"guestAddress": address, "multifunction": live or not address.endswith(".0")}
        return run(engine, attach="Live" if live else "Auto", **wanted)

    return scenario


def unplugging(manner: str) -> Scenario:
    def scenario(engine: Engine) -> str:
        engine.host.start(WEB)
        engine.run(assignment(detach="Live"))
        engine.host.guests[WEB].manner = manner
        return run(engine, detach="Live", deleting=True)

    return scenario


def detach_blocked(engine: Engine) -> str:
    engine.host.fail("detach_driver", reasons.DETACH_BLOCKED)
    engine.host.blocked.add(MATE)
    return run(engine)


def detach_failed(engine: Engine) -> str:
    engine.host.refused_by_vfio.add(MATE)
    return run(engine)


def reattach_blocked(engine: Engine) -> str:
    engine.run(assignment())
    engine.host.fail("reattach_driver", reasons.REATTACH_BLOCKED)
    return run(engine, deleting=True)


def bind_failed(engine: Engine) -> str:
    engine.run(assignment())
    engine.host.native[MATE] = None
    return run(engine, deleting=True)


def host_changed(engine: Engine) -> str:
    def rebind(call: str) -> None:
        if call.startswith("save"):
            engine.host.bind(MATE, "other")

    engine.host.hook = rebind
    return run(engine)


def libvirt_error(engine: Engine) -> str:
    engine.host.fail("add_hostdev", from_words("internal error: something new"))
    return run(engine)


def state_directory_failed(engine: Engine) -> str:
    engine.host.fail("save", reasons.STATE_DIRECTORY_FAILED)
    return run(engine)


def drifted(engine: Engine) -> str:
    engine.run(assignment())
    engine.host.bind(MATE, "snd_hda_intel")
    return run(engine)


def drifts_again(engine: Engine) -> str:
    engine.run(assignment(driftPolicy="Correct"))
    for _ in range(2):
        engine.host.bind(MATE, "snd_hda_intel")
        engine.clock.seconds -= 1000.0
        result = engine.run(assignment(driftPolicy="Correct"))
    return ready(result)[1]


def awaiting_approval(engine: Engine) -> str:
    return run(engine, approval="Manual")


def guest_running(engine: Engine) -> str:
    engine.run(assignment())
    engine.host.start(WEB)
    return run(engine, deleting=True)


def start_hook_missing(engine: Engine) -> str:
    return run(engine, requireAtStart=True)


def guest_saved(engine: Engine) -> str:
    engine.run(assignment())
    engine.host.start(WEB)
    engine.host.save(WEB)
    return run(engine, deleting=True)


SCENARIOS: dict[str, Scenario] = {
    "InvalidSource": invalid_source,
    "NamespaceNotAllowed": namespace_not_allowed,
    "NodeGone": lambda _engine: missing("n1", Evidence(node=False), "2026-01-01T00:00:00Z", has_host=True).reason.name,
    "NodeNotFound": lambda _engine: bound({"nodeName": "n9"}, "n1"),
    "GuestNotFound": guest_not_found,
    "GuestAmbiguous": lambda _engine: bound({}, "n1", "n2"),
    "GuestIdentityChanged": guest_identity_changed,
    "GuestTransient": guest_transient,
    "DeviceNotFound": lambda engine: run(engine, address="0000:7f:00.0"),
    "NotAssignable": lambda engine: run(engine, address=PORT),
    "DeviceInUse": device_in_use,
    "GroupInUse": group_in_use,
    "HostCritical": host_critical,
    "HostUseUnknown": host_use_unknown,
    "IdentityChanged": identity_changed,
    "AmbiguousDevice": ambiguous_device,
    "GroupNotFree": lambda engine: run(engine, groupPolicy="RequireFree"),
    "HostUsing": host_using,
    "NothingToAdopt": nothing_to_adopt,
    "AdoptionDiffers": adoption_differs,
    "Paused": paused,
    "NotPrepared": lambda _engine: preparing.reason(None, "Check"),
    "PreparationUnitMissing": lambda _engine: preparing.reason(None),
    "PreparationFailed": lambda _engine: preparing.failing(),
    "RebootRequired": lambda _engine: preparing.reason(preparing.done),
    "IOMMUDisabled": on_platform(iommu=False),
    "VFIOModuleMissing": said_at("detach_driver", reasons.VFIO_MODULE_MISSING),
    "InterruptRemappingUnavailable": on_platform(interrupt_remapping=False),
    "LibvirtUnavailable": libvirt_unavailable,
    "IOMMUGroupNotViable": group_not_viable,
    "FirmwareReservedMemory": plugging_says(reasons.FIRMWARE_RESERVED_MEMORY),
    "NotDetached": not_detached,
    "TooManyDevices": too_many_devices,
    "NoGuestPCISlot": no_guest_pci_slot,
    "GuestAddressInUse": at_guest_address("0000:01:03.0"),
    "GuestAddressUnusable": at_guest_address("0000:01:04.1"),
    "MultifunctionNeedsBoot": at_guest_address("0000:01:04.0", live=True),
    "UnplugPending": unplugging("is silent"),
    "UnplugRejected": unplugging("refuses"),
    "MemlockExceeded": plugging_says(reasons.MEMLOCK_EXCEEDED),
    "BootFramebufferInUse": plugging_says(reasons.BOOT_FRAMEBUFFER_IN_USE),
    "DeviceResetFailed": plugging_says(reasons.DEVICE_RESET_FAILED),
    "DetachBlocked": detach_blocked,
    "DetachFailed": detach_failed,
    "ReattachBlocked": reattach_blocked,
    "BindFailed": bind_failed,
    "VFIOGroupBusy": plugging_says(reasons.VFIO_GROUP_BUSY),
    "PermissionDenied": plugging_says(reasons.PERMISSION_DENIED),
    "HostChanged": host_changed,
    "LibvirtError": libvirt_error,
    "StateDirectoryFailed": state_directory_failed,
    "AwaitingApproval": awaiting_approval,
    "Drifted": drifted,
    "DriftsAgain": drifts_again,
    "GuestRunning": guest_running,
    "StartHookMissing": start_hook_missing,
    "GuestSaved": guest_saved,
    **GUEST_SCENARIOS,
    **NIC_SCENARIOS,
    **POOL_SCENARIOS,
}


def test_every_row_has_a_scenario_and_every_scenario_a_row() -> None:
    assert sorted(CATALOGUE.keys() - SCENARIOS.keys()) == [], "rows that no scenario makes happen"
    assert sorted(SCENARIOS.keys() - CATALOGUE.keys()) == [], "scenarios of rows that are gone"


@pytest.mark.parametrize("name", sorted(CATALOGUE))
def test_each_reason_is_made_to_happen(name: str) -> None:
    if name not in SCENARIOS:
        pytest.fail(f"{name} has no scenario")
    assert SCENARIOS[name](Engine(small_host())) == name


#: What a call that fails so leaves behind: nothing, or a claim that is finished later.
UNFINISHED = {
    "HostUsing", "Drifted", "DriftsAgain", "GuestRunning", "GuestSaved", "UnplugPending", "UnplugRejected",
    "DeviceInUse", "GroupInUse", "StartHookMissing",
    "IdentityChanged", "DetachBlocked", "ReattachBlocked", "BindFailed", "HostChanged", "NetworkPending",
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(SCENARIOS.keys() - UNFINISHED))
def test_whoever_is_refused_or_fails_leaves_nothing_behind(name: str) -> None:
    engine = Engine(small_host())
    SCENARIOS[name](engine)
    assert not engine.host.records
    assert [h for g in engine.host.guests.values() for h in (*g.hostdevs(), *g.hostdevs(live=True))] == []
    bound_by_hand = {MATE} if name == "IOMMUGroupNotViable" else set()
    off = {a for a, d in engine.host.devices.items() if d.driver != engine.host.native[a]}
    assert off - bound_by_hand == set()
    assert isinstance(engine.host, FakeHost)
