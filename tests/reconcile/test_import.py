"""What import writes of a host: accepted by the models, adopted by the engine, and nothing of the host is changed."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from hostdev_operator.api.deviceassignment import DeviceAssignment, DeviceAssignmentStatus
from hostdev_operator.api.vfpool import NodeVFPoolStatus, VFPool
from hostdev_operator.core.pool_binding import Pool, spec_for
from hostdev_operator.reconcile.bound import Assignment
from hostdev_operator.reconcile.pools import NodePool
from hostdev_operator.simulation.host import FakeHost
from tests.core.nics import MAC, MAC2, PF, PF_MAC
from tests.fakes.samples import CREATED, DB, LONER, MATE, NIC, NODE, WEB, assignment
from tests.reconcile.imported_host import MAC3, documents, imported, old_host, plain, pool_nic, source, vf_nic
from tests.reconcile.nic_running import THIRD, vfs
from tests.reconcile.pool_running import Pools
from tests.reconcile.running import Engine, message, ready


def flat(text: str) -> str:
    """Comments without the breaks of their lines."""
    return re.sub(r"\n# ", " ", text)


def assignments(text: str) -> list[Assignment]:
    """As the agent gets them from the API server."""
    found = []
    for body in documents(text):
        if body["kind"] == "DeviceAssignment":
            spec = DeviceAssignment.model_validate(body).spec
            assert spec.domain
            status = DeviceAssignmentStatus(node_name=NODE, domain_uuid=spec.domain.uuid)
            name, namespace = body["metadata"]["name"], body["metadata"]["namespace"]
            found.append(Assignment(f"uid-{name}", namespace, name, CREATED, 1, False, spec, status))
    return found


def node_pools(text: str) -> list[NodePool]:
    found = []
    for body in documents(text):
        if body["kind"] == "VFPool":
            spec = VFPool.model_validate(body).spec
            name = body["metadata"]["name"]
            pool = Pool(f"uid-{name}", name, 1, spec)
            made = spec_for(pool, NODE)
            found.append(NodePool(pool.uid, f"{name}.{NODE}", CREATED, 1, False, made, NodeVFPoolStatus()))
    return found


def test_what_is_written_is_what_the_host_has() -> None:
    bodies = {body["metadata"]["name"]: body for body in documents(imported(old_host(), "tenants"))}
    assert list(bodies) == [
        "net-a-n1",
        "db-22222222-0000-05-10-0",
        "third-33333333-52-54-00-00-00-02",
        "web-11111111-0000-02-00-0",
    ]
    adopts = {"adopt": True, "releasePolicy": "Keep"}
    assert bodies["net-a-n1"]["spec"] == {
        "nodeSelector": {"kubernetes.io/hostname": NODE},
        "pf": {"mac": PF_MAC, "vfs": "1-2"},
        "externallyManaged": True,
        "bindHostDriver": True,
        "network": {"name": "net-a", "portgroups": [{"name": "blue", "vlan": 10}, {"name": "red", "vlan": 20}]},
        "releasePolicy": "Keep",
    }
    assert bodies["third-33333333-52-54-00-00-00-02"]["spec"] == {
        "domain": {"uuid": THIRD},
        "source": {"pool": {"name": "net-a-n1", "portgroup": "blue"}},
        "network": {"mac": MAC2},
        **adopts,
    }
    assert bodies["db-22222222-0000-05-10-0"]["spec"] == {
        "nodeName": NODE,
        "domain": {"uuid": DB},
        "source": {"pci": {"address": "0000:05:10.0"}},
        "network": {"mac": MAC, "vlan": 5},
        **adopts,
    }
    assert bodies["web-11111111-0000-02-00-0"]["metadata"]["namespace"] == "tenants"
    assert bodies["web-11111111-0000-02-00-0"]["spec"] == {
        "nodeName": NODE,
        "domain": {"uuid": WEB},
        "source": {"pci": {"address": str(LONER)}},
        **adopts,
    }


def test_import_changes_nothing_and_writes_the_same_again() -> None:
    host = old_host()
    before = host.state()
    assert imported(host) == imported(host)
    assert (host.state(), host.calls) == (before, [])


def test_all_of_it_is_ready_and_goes_again_and_nothing_has_changed() -> None:
    host = old_host()
    before = host.outside()
    text = imported(host)
    pools, engine = Pools(host), Engine(host)
    (pool,) = node_pools(text)
    engine.pool_wishes = (pool.wish(),)
    result = pools.run(pool)
    assert [c.status for c in result.status.conditions] == ["True"] * 4
    found = assignments(text)
    assert len(found) == 3
    for obj in found:
        answer = engine.run(obj)
        assert ready(answer) == ("True", "Adopted"), message(answer)
    host.start(THIRD)
    for obj in found:
        assert ready(engine.run(obj)) == ("True", "Adopted")
    host.stop(THIRD)
    (again,) = assignments(imported(host))  # the rest is in the journal, and this is the same object
    assert again in found
    for obj in found:
        assert engine.run(replace(obj, deleting=True)).released
    assert pools.run(replace(pool, deleting=True)).released
    assert host.outside() == before
    assert host.changes() == []


def test_what_was_kept_is_imported_again_and_its_alias_is_told() -> None:
    host = old_host()
    engine = Engine(host)
    host.define(WEB, "web", plain(LONER, alias="ua-hostdev-gone"))
    host.define(THIRD, "third", pool_nic(alias="ua-hostdev-gone-too"))
    text = imported(host)
    assert flat(text).count("Its alias ua-hostdev-gone") == 2
    assert ready(engine.run(assignments(text)[-1]))[1] == "Adopted"


def without_interrupt_remapping(host: FakeHost) -> None:
    host.platform = replace(host.platform, interrupt_remapping=False)


def two_guests(host: FakeHost) -> None:
    host.define(DB, "db", plain(LONER))


def nvme(host: FakeHost) -> None:
    host.define(DB, "db", f"<disk type='nvme' device='disk'>{source(NIC)}</disk>")


def live_only(host: FakeHost) -> None:
    config = host.define(DB, "db", plain(NIC)).config
    host.bind(MATE, "vfio-pci")
    host.start(DB)
    assert config
    host.guests[DB].config = config.replace("<hostdev", "<other").replace("</hostdev", "</other")


def transient(host: FakeHost) -> None:
    host.undefine(WEB)


def needed(host: FakeHost) -> None:
    host.use(vfs(host)[0], "carries the default route over eth3v0")


def no_mac(host: FakeHost) -> None:
    host.define(DB, "db", vf_nic(vfs(host)[0], mac="01:00:5e:00:00:01"))


def twice(host: FakeHost) -> None:
    host.define(DB, "db", pool_nic(MAC3) + pool_nic(MAC3))


def stopped(host: FakeHost) -> None:
    host.networks.by_name["net-a"].live = None


def at_hand(host: FakeHost) -> None:
    host.networks.by_name["net-a"].autostart = False


def strange(host: FakeHost) -> None:
    network = host.networks.by_name["net-a"]
    assert network.config
    network.config = network.config.replace("<portgroup", "<dns/><portgroup", 1)


def gap(host: FakeHost) -> None:
    network = host.networks.by_name["net-a"]
    host.sriov.set_count(PF, 4)
    host.networks.destroy("net-a")
    config = network.config
    assert config
    third, fourth = (f'slot="0x{vf.slot:02x}" function="0x{vf.function}"' for vf in vfs(host)[2:4])
    network.config = config.replace(third, fourth)
    assert network.config != config


@pytest.mark.parametrize(
    ("change", "gone", "words"),
    [
        (without_interrupt_remapping, 2, ("InterruptRemappingUnavailable",)),
        (two_guests, 2, ("DeviceInUse", "is in the XML of guest db")),
        (nvme, 1, ("disk of type nvme", str(NIC))),
        (live_only, 1, ("the running guest alone has it", str(NIC))),
        (transient, 1, ("the guest is transient", str(LONER))),
        (needed, 1, ("HostCritical", "eth3v0")),
        (no_mac, 1, ("network.mac",)),
        (twice, 1, ("AmbiguousDevice", MAC3)),
        (stopped, 2, ("a pool would change something: start network net-a", "no pool for its network")),
        (at_hand, 2, ("start network net-a at boot",)),
        (strange, 2, ("NetworkDiffers", "<dns>")),
        (gap, 2, ("VFs whose indices follow each other",)),
    ],
)
def test_what_would_be_refused_or_changed_is_left_out_with_the_reason(
    change: object, gone: int, words: tuple[str, ...]
) -> None:
    host = old_host()
    whole = len(documents(imported(host)))
    assert callable(change)
    change(host)
    text = imported(host)
    assert [word for word in words if word not in flat(text)] == []
    assert "# Left out: " in text
    assert whole - len(documents(text)) == gone, text
    for obj in assignments(text):
        assert obj.spec.adopt


def test_what_is_not_ready_as_things_are_is_written_and_told() -> None:
    host = old_host()
    host.define(DB, "db", plain(NIC))
    text = imported(host)
    assert "Not ready as things are" in flat(text)
    assert str(MATE) in text
    assert [o.name for o in assignments(text) if "01-00-0" in o.name] == ["db-22222222-0000-01-00-0"]


def test_what_assignments_and_pools_have_already_is_left_out() -> None:
    host = old_host()
    Engine(host).run(assignment(NIC, guest=DB))
    text = imported(host)
    assert "DeviceInUse" in flat(text)
    assert "db-22222222-0000-01-00-0" not in text


def test_no_name_of_a_guest_becomes_anything_but_a_comment_and_part_of_a_name() -> None:
    host = old_host()
    host.define("4" * 8 + THIRD[8:], "x\u2028---\rkind: Evil # &lt;", plain(NIC))
    text = imported(host)
    assert {body["kind"] for body in documents(text)} == {"VFPool", "DeviceAssignment"}
    names = [body["metadata"]["name"] for body in documents(text)]
    assert all(re.fullmatch("[a-z0-9]([-a-z0-9]{0,251}[a-z0-9])?", name) for name in names)
    assert len(set(names)) == len(names)
