from __future__ import annotations

from pathlib import Path

import libvirt
import pytest

from hostdev_operator.adapters.hypervisor import LibvirtHypervisor
from hostdev_operator.adapters.libvirt_connection import LibvirtConnection
from hostdev_operator.adapters.libvirt_errors import reason_of
from hostdev_operator.core import domain_xml, network_xml, reasons
from hostdev_operator.core.actions import AddHostdev, HostdevXml, RemoveHostdev
from hostdev_operator.core.errors import HostError
from hostdev_operator.core.model import Hostdev
from hostdev_operator.core.pci import PciAddress
from hostdev_operator.core.reasons import Reason
from tests.adapters import libvirt_node
from tests.fakes.samples import DB, MATE, NIC, WEB, device

NOBODY = "33333333-3333-4333-8333-333333333333"


def added(uuid: str, address: PciAddress) -> AddHostdev:
    return AddHostdev(uuid, HostdevXml(address, "ua-x", managed=True), device(address).identity)


@pytest.fixture
def connection(tmp_path: Path) -> LibvirtConnection:
    return LibvirtConnection(libvirt_node.uri(tmp_path), lambda: None)


@pytest.fixture
def hypervisor(connection: LibvirtConnection) -> LibvirtHypervisor:
    return LibvirtHypervisor(connection)


def test_guests_are_read_with_live_and_persistent_xml(hypervisor: LibvirtHypervisor) -> None:
    guests = {xml.uuid: domain_xml.guest(xml, {}) for xml in hypervisor.guests()}
    assert set(guests) == {WEB, DB}
    assert (guests[WEB].name, guests[WEB].active, guests[WEB].persistent) == ("web", False, True)
    assert guests[WEB].config == (Hostdev(NIC, "ua-mine", managed=True),)
    assert guests[WEB].block_paths == {"/dev/sdb"}
    assert (guests[DB].active, guests[DB].live, set(guests[DB].interfaces)) == (True, (), {"br0"})


def test_networks_are_read(hypervisor: LibvirtHypervisor) -> None:
    (lan,) = map(network_xml.network, hypervisor.networks())
    assert (lan.name, set(lan.interfaces), lan.hands_out_vfs) == ("lan", {"br0"}, False)


def test_names_of_devices_are_read_and_unknown_ones_left_out(hypervisor: LibvirtHypervisor) -> None:
    assert hypervisor.names((NIC, MATE)) == {NIC: ("Intel Corporation", "82574L")}


def test_what_libvirt_keeps_of_our_hostdev_is_what_we_wrote(connection: LibvirtConnection) -> None:
    """The alias survives libvirt's parser and formatter: that is what our device is known by."""
    ours = HostdevXml(MATE, "ua-hostdev-0a0a", managed=False, driver="vfio")
    text = f"""<domain type='test'><name>new</name><uuid>{NOBODY}</uuid><memory>1</memory><os><type>hvm</type></os>
      <devices>{domain_xml.hostdev_xml(ours)}</devices></domain>"""
    domain = connection.get().defineXML(text)
    kept = domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
    assert domain_xml.hostdevs(domain_xml.parse(kept)) == (
        Hostdev(MATE, "ua-hostdev-0a0a", managed=False, driver="vfio"),
    )
    assert "<driver name='vfio'/>" in kept


def test_removing_what_is_not_there_is_nothing_to_do(hypervisor: LibvirtHypervisor) -> None:
    hypervisor.remove_hostdev(RemoveHostdev(NOBODY, NIC, None))
    hypervisor.remove_hostdev(RemoveHostdev(WEB, MATE, None))
    assert {x.uuid for x in hypervisor.guests()} == {WEB, DB}


def test_adding_what_is_there_already_is_nothing_to_do(hypervisor: LibvirtHypervisor) -> None:
    before = hypervisor.guests()
    hypervisor.add_hostdev(added(WEB, NIC))
    assert hypervisor.guests() == before


def test_a_guest_that_is_gone_is_told(hypervisor: LibvirtHypervisor) -> None:
    with pytest.raises(HostError) as caught:
        hypervisor.add_hostdev(added(NOBODY, NIC))
    assert caught.value.reason is reasons.GUEST_NOT_FOUND
    assert NOBODY in caught.value.message


def test_a_device_that_is_gone_is_told(hypervisor: LibvirtHypervisor) -> None:
    for call in (hypervisor.detach_driver, hypervisor.reattach_driver):
        with pytest.raises(HostError) as caught:
            call(MATE)
        assert caught.value.reason is reasons.DEVICE_NOT_FOUND
        assert str(MATE) in caught.value.message


def test_a_call_that_libvirt_refuses_is_an_error_with_its_words(hypervisor: LibvirtHypervisor) -> None:
    with pytest.raises(HostError, match=r"adding 0000:01:00\.1 to guest") as caught:
        hypervisor.add_hostdev(added(WEB, MATE))
    assert caught.value.reason is reasons.LIBVIRT_ERROR


def test_libvirt_away_is_a_reason(tmp_path: Path) -> None:
    changes: list[int] = []
    connection = LibvirtConnection(f"test://{tmp_path}/missing.xml", lambda: changes.append(1))
    with pytest.raises(HostError) as caught:
        LibvirtHypervisor(connection).guests()
    assert caught.value.reason is reasons.LIBVIRT_UNAVAILABLE
    assert not connection.connected
    assert changes == []


def test_a_connection_that_was_lost_is_opened_again_and_told_once(tmp_path: Path) -> None:
    changes: list[int] = []
    connection = LibvirtConnection(libvirt_node.uri(tmp_path), lambda: changes.append(1))
    first = connection.get()
    assert connection.get() is first
    connection.lost(first)
    connection.lost(first)
    assert changes == [1]
    assert not connection.connected
    assert connection.get() is not first


@pytest.mark.parametrize(
    ("code", "message", "reason"),
    [
        (libvirt.VIR_ERR_RPC, "whatever", reasons.LIBVIRT_UNAVAILABLE),
        (libvirt.VIR_ERR_NO_NODE_DEVICE, "gone", reasons.DEVICE_NOT_FOUND),
        (libvirt.VIR_ERR_NO_DOMAIN, "gone", reasons.GUEST_NOT_FOUND),
        (libvirt.VIR_ERR_NO_NETWORK, "gone", reasons.POOL_NOT_FOUND),
        (libvirt.VIR_ERR_OPERATION_INVALID, "x is in use by driver QEMU, domain db", reasons.DEVICE_IN_USE),
        (libvirt.VIR_ERR_INTERNAL_ERROR, "something new", reasons.LIBVIRT_ERROR),
    ],
)
def test_codes_and_words_of_libvirt_lead_to_reasons(code: int, message: str, reason: Reason) -> None:
    class Refused(libvirt.libvirtError):  # type: ignore[misc]
        def __init__(self) -> None:
            Exception.__init__(self, message)
            self.err = (code, 0, message, 2, None, None, None, -1, -1)

    assert reason_of(Refused()) is reason
