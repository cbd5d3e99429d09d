from __future__ import annotations

import pytest

from hostdev_operator.core import reasons
from hostdev_operator.core.conditions import find
from hostdev_operator.core.model import VFIO_DRIVER, Role
from hostdev_operator.core.reasons import Retry
from hostdev_operator.simulation.host import FakeHost
from tests.fakes.samples import DB, LONER, MATE, NIC, OTHER_UID, PORT, UID, WEB, assignment, small_host
from tests.reconcile.running import Engine, ready


@pytest.fixture
def host() -> FakeHost:
    return small_host()


@pytest.fixture
def engine(host: FakeHost) -> Engine:
    return Engine(host)


def test_the_guest_gets_the_device_and_the_group_is_held(host: FakeHost, engine: Engine) -> None:
    result = engine.run(assignment())
    assert ready(result) == ("True", "Assigned")
    assert [h.address for h in host.guests[WEB].hostdevs()] == [NIC]
    assert host.drivers()[MATE] == VFIO_DRIVER
    assert host.drivers()[PORT] == "pcieport"
    assert host.calls == [f"save {UID}", f"detach_driver {MATE}", f"add_hostdev {NIC}"]
    host.start(WEB)
    assert host.drivers()[NIC] == VFIO_DRIVER


def test_a_second_run_changes_nothing_and_says_the_same(host: FakeHost, engine: Engine) -> None:
    first = engine.run(assignment())
    host.calls.clear()
    engine.clock.time = "2027-01-01T00:00:00Z"
    assert engine.run(assignment()) == first
    engine.restart()
    assert engine.run(assignment()) == first
    assert host.calls == []


def test_an_unmanaged_device_is_held_all_the_time(host: FakeHost, engine: Engine) -> None:
    engine.run(assignment(managed=False))
    assert host.drivers()[NIC] == VFIO_DRIVER
    host.start(WEB)
    host.stop(WEB)
    assert host.drivers()[NIC] == VFIO_DRIVER
    engine.run(assignment(managed=False, deleting=True))
    assert host.drivers()[NIC] == "e1000e"


def test_a_running_guest_gets_the_device_at_its_next_boot(host: FakeHost, engine: Engine) -> None:
    host.start(WEB)
    result = engine.run(assignment(attach="NextBoot"))
    attached = find(result.status.conditions, "Attached")
    assert attached
    assert (attached.status, attached.reason) == ("False", "PendingGuestRestart")
    assert ready(result) == ("True", "Assigned")
    host.stop(WEB)
    host.start(WEB)
    attached = find(engine.run(assignment(attach="NextBoot")).status.conditions, "Attached")
    assert attached
    assert attached.status == "True"


def test_release_gives_everything_back(host: FakeHost, engine: Engine) -> None:
    before = host.state()
    engine.run(assignment())
    host.calls.clear()
    assert engine.run(assignment(deleting=True)).released
    assert host.state() == before
    assert host.calls == [f"remove_hostdev {NIC}", f"reattach_driver {MATE}", f"drop {UID}"]


def test_release_waits_for_the_guest_and_goes_on_after_its_stop(host: FakeHost, engine: Engine) -> None:
    before = host.state()
    engine.run(assignment())
    host.start(WEB)
    host.calls.clear()
    waiting = engine.run(assignment(deleting=True))
    assert not waiting.released
    assert ready(waiting) == ("False", "GuestRunning")
    assert waiting.retry is Retry.ON_EVENT
    assert host.calls == []
    host.stop(WEB)
    assert engine.run(assignment(deleting=True)).released
    assert host.state() == before


def test_release_of_a_running_guest_that_does_not_have_it_yet_does_not_wait(host: FakeHost, engine: Engine) -> None:
    before = host.state()
    host.start(WEB)
    engine.run(assignment(attach="NextBoot"))
    assert engine.run(assignment(attach="NextBoot", deleting=True)).released
    assert host.state() == before


def test_release_of_what_was_refused_is_nothing(host: FakeHost, engine: Engine) -> None:
    host.use(NIC, "carries the default route over eth0")
    assert ready(engine.run(assignment())) == ("False", "HostCritical")
    assert engine.run(assignment(deleting=True)).released
    assert host.calls == []


@pytest.mark.parametrize("address", [PORT, LONER])
def test_refused_means_untouched(host: FakeHost, engine: Engine, address: object) -> None:
    host.unknown_use = "cannot read mountinfo"
    before = host.state()
    result = engine.run(assignment(PORT if address == PORT else LONER))
    assert ready(result)[1] in ("NotAssignable", "HostUseUnknown")
    assert host.state() == before
    assert host.calls == []


def test_a_disk_of_a_guest_that_cannot_be_followed_protects_all_storage(host: FakeHost, engine: Engine) -> None:
    host.uses.clear()
    host.define(DB, "db", "<disk type='block'><source dev='/dev/mystery'/></disk>")
    nvme = next(a for a, d in host.devices.items() if d.driver == "nvme")
    assert ready(engine.run(assignment(nvme)))[1] == "HostCritical"
    host.disks["/dev/mystery"] = frozenset({LONER})
    assert ready(engine.run(assignment(nvme)))[0] == "True"
    assert ready(engine.run(assignment(LONER, uid=OTHER_UID)))[1] == "HostCritical"


def test_a_nic_that_carries_another_guests_network_is_refused(host: FakeHost, engine: Engine) -> None:
    host.networks.append("<network><name>lan</name><bridge name='br0'/></network>")
    host.interfaces["br0"] = frozenset({MATE})
    host.define(DB, "db", "<interface type='network'><source network='lan'/></interface>")
    result = engine.run(assignment())
    assert ready(result)[1] == "HostCritical"
    condition = find(result.status.conditions, "Ready")
    assert condition
    assert "guest db" in condition.message


def test_a_mate_is_refused_to_another_guest_until_the_first_is_released(host: FakeHost, engine: Engine) -> None:
    before = host.state()
    engine.run(assignment())
    second = assignment(MATE, uid=OTHER_UID, guest=DB)
    assert ready(engine.run(second)) == ("False", "GroupInUse")
    assert engine.run(assignment(deleting=True)).released
    assert ready(engine.run(second)) == ("True", "Assigned")
    assert [h.address for h in host.guests[DB].hostdevs()] == [MATE]
    assert ready(engine.run(assignment())) == ("False", "GroupInUse")
    assert engine.run(assignment(MATE, uid=OTHER_UID, guest=DB, deleting=True)).released
    assert host.state() == before


def test_a_third_function_is_refused_with_group_in_use(host: FakeHost, engine: Engine) -> None:
    host.define(DB, "db", host_device(MATE))
    assert ready(engine.run(assignment())) == ("False", "GroupInUse")
    host.define(DB, "db")
    assert ready(engine.run(assignment())) == ("True", "Assigned")


def host_device(address: object) -> str:
    """A foreign hostdev, as virsh attach-device would add it."""
    domain, bus, rest = str(address).split(":")
    slot, function = rest.split(".")
    return (
        "<hostdev mode='subsystem' type='pci' managed='yes'><source>"
        f"<address domain='0x{domain}' bus='0x{bus}' slot='0x{slot}' function='0x{function}'/></source></hostdev>"
    )


def test_a_guest_defined_again_with_its_uuid_gets_the_device_again(host: FakeHost, engine: Engine) -> None:
    engine.run(assignment())
    host.undefine(WEB)
    assert ready(engine.run(assignment())) == ("False", "GuestNotFound")
    assert host.drivers()[MATE] == VFIO_DRIVER
    host.define(WEB, "web")
    host.calls.clear()
    assert ready(engine.run(assignment())) == ("True", "Assigned")
    assert host.calls == [f"add_hostdev {NIC}"]


def test_a_guest_of_that_name_with_another_uuid_gets_nothing(host: FakeHost, engine: Engine) -> None:
    before = host.drivers()
    engine.run(assignment())
    host.undefine(WEB)
    host.define("33333333-3333-4333-8333-333333333333", "web")
    assert ready(engine.run(assignment())) == ("False", "GuestIdentityChanged")
    assert host.guests["33333333-3333-4333-8333-333333333333"].hostdevs() == ()
    assert engine.run(assignment(deleting=True)).released
    assert host.drivers() == before


def test_a_guest_undefined_while_it_runs_is_waited_for(host: FakeHost, engine: Engine) -> None:
    before = host.drivers()
    engine.run(assignment())
    host.start(WEB)
    host.undefine(WEB)
    assert ready(engine.run(assignment())) == ("False", "GuestTransient")
    assert ready(engine.run(assignment(deleting=True))) == ("False", "GuestRunning")
    host.stop(WEB)
    assert engine.run(assignment(deleting=True)).released
    assert host.drivers() == before


def test_the_record_is_taken_from_the_status_when_the_journal_is_lost(host: FakeHost, engine: Engine) -> None:
    before = host.state()
    engine.run(assignment(managed=False))
    host.records.clear()
    engine.restart()
    assert ready(engine.run(assignment(managed=False))) == ("True", "Assigned")
    assert UID in host.records
    host.records.clear()
    assert engine.run(assignment(managed=False, deleting=True)).released
    assert host.state() == before


@pytest.mark.parametrize(("journal", "published", "kept"), [(5, 1, "journal"), (1, 5, "published"), (3, 3, "journal")])
def test_the_newer_of_two_records_wins(host: FakeHost, engine: Engine, journal: int, published: int, kept: str) -> None:
    status = engine.run(assignment()).status
    assert status.record
    copy = status.record.model_copy(update={"sequence": published, "domain_name": "published"})
    engine.statuses[UID] = status.model_copy(update={"record": copy})
    text = host.records[UID].replace('"sequence": 1', f'"sequence": {journal}')
    host.records[UID] = text.replace('"domainName": "web"', '"domainName": "journal"')
    result = engine.run(assignment())
    assert result.status.record
    assert (result.status.record.domain_name, f'"domainName": "{kept}"' in host.records[UID]) == (kept, True)


def test_a_record_that_cannot_be_read_stops_everything(host: FakeHost, engine: Engine) -> None:
    host.fail("load", reasons.STATE_DIRECTORY_FAILED, "the record x.json cannot be read", times=100)
    before = host.state()
    result = engine.run(assignment())
    assert ready(result) == ("False", "StateDirectoryFailed")
    assert result.retry is Retry.BACKOFF
    assert host.state() == before


def test_a_release_whose_object_makes_no_sense_is_not_stuck(host: FakeHost, engine: Engine) -> None:
    broken = assignment(deleting=True)
    source = broken.spec.source.model_copy(update={"pci": None})
    result = engine.reconciler.reconcile(
        type(broken)(**{**vars(broken), "spec": broken.spec.model_copy(update={"source": source})})
    )
    assert result.released
    assert host.calls == []


def test_bridges_of_the_group_are_never_touched(host: FakeHost, engine: Engine) -> None:
    engine.run(assignment(managed=False))
    engine.run(assignment(managed=False, deleting=True))
    bridges = [str(a) for a, d in host.devices.items() if d.role is not Role.ENDPOINT]
    assert [call for call in host.calls for bridge in bridges if bridge in call] == []
