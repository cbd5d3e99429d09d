from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

from hostdev_operator.core.model import Hostdev, Nic, Use
from hostdev_operator.core.pool_use import defined_with, free, guests_on, listed, on_network, taken, users
from hostdev_operator.core.record import Member, Record
from tests.core.pool_hosts import PF, defined, has_plain, made, pool, sriov_host, starts_on, vf_at, with_networks
from tests.fakes.samples import DB, WEB

VFS = tuple(vf_at(PF, index) for index in range(4))
HOST = made(sriov_host(), pool())


def record(domain: str | None = WEB) -> Record:
    member = Member(VFS[1], HOST.devices[VFS[1]].identity, None)
    return Record("u", "default", "nic", VFS[1], domain, "web", True, (member,))


def test_every_kind_of_user_is_named() -> None:
    host = replace(
        has_plain(has_plain(HOST, WEB, VFS[0], running=True), DB, VFS[0]),
        records=MappingProxyType({"u": record()}),
        uses=(Use(VFS[2], "carries 10.0.0.1"), Use(VFS[2], "carries br0, which guest db uses", by_guest=True)),
    )
    bound = {VFS[3]: replace(host.devices[VFS[3]], driver="vfio-pci")}
    host = replace(host, devices=MappingProxyType({**host.devices, **bound}))
    assert [str(u) for u in users(host.devices[VFS[0]], host)] == [
        "guest web runs with it",
        "guest db has it in its persistent XML",
    ]
    assert [str(u) for u in users(host.devices[VFS[1]], host)] == ["assignment default/nic has claimed it"]
    assert [str(u) for u in users(host.devices[VFS[2]], host)] == [
        "the host needs it: it carries 10.0.0.1",
        "a guest needs it: it carries br0, which guest db uses",
    ]
    (somebody,) = users(host.devices[VFS[3]], host)
    assert (somebody.who, somebody.claims) == ("somebody", False)
    assert "virsh nodedev-reattach pci_0000_01_10_6" in somebody.how
    assert len(taken(host.vfs(PF), host)) == 4
    reserved = replace(host, records=MappingProxyType({"u": record(None)}))
    assert users(host.devices[VFS[1]], reserved)[0].who == "reservation default/nic"


def test_a_free_pool_has_no_users_and_gives_all_its_vfs() -> None:
    assert taken(HOST.vfs(PF), HOST) == ()
    assert free(HOST.networks["net-a"], HOST) == VFS
    assert on_network(HOST.networks["net-a"], HOST) == ()


def test_a_guest_on_the_network_takes_one() -> None:
    host = starts_on(HOST, WEB, "net-a")
    network = host.networks["net-a"]
    assert [g.name for g in guests_on(network, host)] == ["web"]
    assert on_network(network, host) == ("guest web",)
    assert free(network, host) == VFS[1:]
    assert taken(host.vfs(PF), host) == (f"VF 0 ({VFS[0]}): guest web runs with it",)


def test_a_plain_hostdev_in_the_definition_is_not_from_the_network() -> None:
    host = has_plain(HOST, WEB, VFS[1], running=True)
    network = host.networks["net-a"]
    assert on_network(network, host) == ()
    assert free(network, host) == (VFS[0], *VFS[2:])


def test_a_hostdev_of_the_running_guest_alone_could_be() -> None:
    guest = replace(HOST.guests[0], active=True, live=(Hostdev(VFS[1]),))
    host = replace(HOST, guests=(guest, HOST.guests[1]))
    assert on_network(host.networks["net-a"], host) == ("guest web",)


def test_guests_that_are_defined_with_a_network_are_found() -> None:
    guest = replace(HOST.guests[0], nics=(Nic("net0", None, "lan"), Nic("net1", None, "net-a")))
    host = replace(HOST, guests=(guest, HOST.guests[1]))
    assert [g.name for g in defined_with("net-a", host)] == ["web"]
    assert defined_with("other", host) == ()


def test_a_network_that_is_off_gives_what_it_is_defined_with_and_one_of_vfs_that_are_gone_nothing() -> None:
    host = with_networks(HOST, defined("off", addresses=VFS[:2]), defined("gone", addresses=(vf_at(PF, 99),)))
    assert free(host.networks["off"], host) == VFS[:2]
    assert free(host.networks["gone"], host) == ()


def test_long_lists_are_cut() -> None:
    assert listed(["a", "b", "a"]) == "a, b"
    assert listed(map(str, range(12))).endswith("7 and 4 more")
