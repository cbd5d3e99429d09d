"""A host is prepared by its unit: asked for, refused without it, waited for, rebooted by nobody, taken back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from hostdev_operator.core.model import VFIO_DRIVER, Use
from hostdev_operator.core.preparation import INTEL
from tests.fakes.samples import LONER, PORT
from tests.reconcile.preparing import Preparing, done

OPT_IN = {"risk": "Accepted", "reason": "all guests are ours"}


@pytest.fixture
def world() -> Preparing:
    return Preparing()


def test_without_preparation_nothing_is_different(world: Preparing) -> None:
    kinds = {"IOMMUReady", "InterruptRemappingReady", "VFIOReady", "LibvirtReady", "JournalReady"}
    assert set(world.conditions()) == kinds
    world.install()
    assert set(world.conditions()) == kinds
    assert world.host.request is None


def test_check_asks_for_nothing_and_says_what_to_do(world: Preparing) -> None:
    world.install()
    world.say(iommu="Required", vfioModules="AtBoot")
    found = world.conditions()
    assert (found["Prepared"].status, found["Prepared"].reason) == ("False", "NotPrepared")
    for kind in ("Prepared", "IOMMUReady"):
        assert f'GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX {INTEL}"' in found[kind].message
        assert "update-grub" in found[kind].message
    assert found["IOMMUReady"].reason == "IOMMUDisabled"
    assert found["VFIOReady"].status == "True"
    assert found["RebootRequired"].status == "False"
    assert world.host.request is None
    world.boot(INTEL)
    assert world.prepared() == ("True", "HostPrepared")


def test_apply_is_refused_without_the_unit_and_done_when_it_is_there(world: Preparing) -> None:
    world.say(mode="Apply", iommu="Required")
    assert world.prepared() == ("False", "PreparationUnitMissing")
    assert "docs/host.md" in world.conditions()["Prepared"].message
    assert world.host.request is None
    world.install()
    world.conditions()
    assert f"\nboot-word {INTEL}\n" in (world.host.request or "")
    world.clock.time = "2026-01-02T00:00:00Z"
    found = world.conditions()
    assert (found["Prepared"].status, found["Prepared"].reason) == ("False", "RebootRequired")
    assert (found["RebootRequired"].status, found["RebootRequired"].reason) == ("True", "RebootRequired")
    assert INTEL in found["RebootRequired"].message
    since = found["RebootRequired"].last_transition_time
    world.clock.time = "2026-01-03T00:00:00Z"
    assert world.conditions()["RebootRequired"].last_transition_time == since
    world.boot(INTEL)
    found = world.conditions()
    assert (found["Prepared"].status, found["RebootRequired"].status) == ("True", "False")
    assert found["RebootRequired"].last_transition_time == "2026-01-03T00:00:00Z"


def test_a_unit_of_another_version_is_asked_for_nothing(world: Preparing) -> None:
    world.host.unit = lambda _request: "version 2\nrequest none\n"
    world.say(mode="Apply", iommu="Required")
    assert world.prepared() == ("False", "PreparationUnitMissing")
    assert "of version 2" in world.conditions()["Prepared"].message
    assert world.host.request is None


def test_an_answer_is_waited_for_asked_for_again_and_missed(world: Preparing) -> None:
    world.host.unit = lambda _request: done(None)
    world.say(mode="Apply", iommu="Required")
    assert world.prepared() == ("Unknown", "PreparationPending")
    assert world.reporter.preparer.waits
    asked, world.host.request = world.host.request, None
    world.conditions()
    assert world.host.request == asked  # somebody has removed it
    world.clock.seconds += 100
    assert world.prepared() == ("Unknown", "PreparationPending")
    world.clock.seconds += 300
    assert world.prepared() == ("False", "PreparationUnitMissing")
    assert "does not answer" in world.conditions()["Prepared"].message
    world.install()
    assert world.prepared() == ("False", "RebootRequired")
    assert not world.reporter.preparer.waits


def test_what_the_unit_could_not_do_is_told(world: Preparing) -> None:
    world.install("failed boot-word no boot loader was found")
    world.say(mode="Apply", iommu="Required")
    world.conditions()
    assert world.prepared() == ("False", "PreparationFailed")
    assert "no boot loader was found" in world.conditions()["Prepared"].message


@pytest.mark.parametrize("how", ["Check", "nothing"])
def test_it_is_taken_back_and_a_reboot_is_required_until_there_was_one(world: Preparing, how: str) -> None:
    world.install()
    world.say(mode="Apply", iommu="Required")
    world.conditions()
    world.boot(INTEL)
    assert world.prepared() == ("True", "HostPrepared")
    world.install(f"undone {INTEL}")
    preparation: dict[str, Any] = {} if how == "nothing" else {"iommu": "Required"}
    world.say(**preparation)
    world.conditions()
    assert "boot-word" not in (world.host.request or "")
    found = world.conditions()
    assert "was taken off" in found["RebootRequired"].message
    assert ("Prepared" in found) is (how == "Check")
    world.boot()
    found = world.conditions()
    if how == "Check":
        assert found["RebootRequired"].status == "False"
    else:
        assert "RebootRequired" not in found


def test_what_is_taken_back_is_written_even_where_no_unit_is(world: Preparing) -> None:
    world.install()
    world.say(mode="Apply", iommu="Required")
    world.conditions()
    world.host.unit = None
    world.say()
    assert "Prepared" not in world.conditions()
    assert "boot-word" not in (world.host.request or "")
    world.conditions()
    assert not world.reporter.preparer.waits


def test_a_unit_that_does_not_answer_at_a_boot_is_there_no_more(world: Preparing) -> None:
    world.install()
    world.say(mode="Apply", iommu="Required")
    world.conditions()
    world.host.unit = done  # its answer stays that of the boot before
    world.boot(INTEL)
    assert world.prepared() == ("Unknown", "PreparationPending")
    world.clock.seconds += 400
    assert world.prepared() == ("False", "PreparationUnitMissing")
    assert not world.reporter.preparer.waits


def test_a_failed_undo_is_told_although_nothing_is_asked_for(world: Preparing) -> None:
    world.install()
    world.say(mode="Apply", iommu="Required")
    world.conditions()
    world.install("failed boot-word /etc/default/grub cannot be written")
    world.say()
    world.conditions()
    assert world.prepared() == ("False", "PreparationFailed")


def test_paused_nothing_is_asked_for_nor_taken_back(world: Preparing) -> None:
    world.install()
    world.say(paused=True, mode="Apply", iommu="Required")
    assert world.prepared() == ("False", "Paused")
    assert world.host.request is None
    world.say(mode="Apply", iommu="Required")
    world.conditions()
    before = world.host.request
    world.say(paused=True)
    world.conditions()
    assert world.host.request == before


def test_unsafe_interrupts_are_seen_in_conditions(world: Preparing) -> None:
    world.install()
    platform = replace(world.host.platform, iommu=True, interrupt_remapping=False)
    world.host.platform = platform
    world.say(mode="Apply", unsafeInterrupts=OPT_IN)
    world.conditions()
    assert "\nunsafe-interrupts yes\n" in (world.host.request or "")
    assert world.prepared() == ("False", "NotPrepared")
    world.host.platform = replace(platform, unsafe_interrupts=True)
    found = world.conditions()
    assert found["Prepared"].status == "True"
    assert (found["UnsafeInterrupts"].status, found["UnsafeInterrupts"].reason) == ("True", "UnsafeInterruptsAccepted")
    assert "all guests are ours" in found["UnsafeInterrupts"].message
    assert found["InterruptRemappingReady"].reason == "UnsafeInterruptsAllowed"
    world.host.platform = replace(platform, interrupt_remapping=True)
    assert "not made use of" in world.conditions()["UnsafeInterrupts"].message
    assert "unsafe-interrupts" not in (world.host.request or "")


def test_devices_are_bound_early_unless_the_host_needs_them(world: Preparing) -> None:
    world.install(f"early {LONER} waits")
    world.say(mode="Apply", earlyBinding=[str(LONER)])
    world.conditions()
    assert f"\nearly {LONER} 8086:" in (world.host.request or "")
    assert world.prepared() == ("False", "RebootRequired")
    world.install(f"early {LONER} taken")
    assert world.prepared() == ("False", "NotPrepared")
    assert "initial RAM disk" in world.conditions()["Prepared"].message
    gone = world.host.devices.pop(LONER)
    world.conditions()
    assert f"\nearly {LONER} 8086:" in (world.host.request or "")  # it may come back
    world.host.devices[LONER] = replace(gone, driver=VFIO_DRIVER)
    assert world.prepared() == ("True", "HostPrepared")
    world.host.devices[LONER] = gone
    world.host.uses.append(Use(LONER, "carries the default route"))
    assert world.prepared() == ("False", "HostCritical")
    assert "early" not in (world.host.request or "").splitlines()[-1]
    world.say(mode="Apply", earlyBinding=[str(PORT)])
    assert world.prepared() == ("False", "HostCritical")
