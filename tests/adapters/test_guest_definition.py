"""Guests defined in libvirt's test driver, which has libvirt's own parser and schema."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import libvirt
import pytest

from hostdev_operator.adapters import hypervisor_domains
from hostdev_operator.api.guest import GuestSpec
from hostdev_operator.core import domain_xml
from hostdev_operator.core.guest_xml import Definition, asked
from hostdev_operator.core.pci_xml import Element

UUID = "6d0f2c52-5a0e-4a07-9a3e-000000000001"
TEST = "<domain type='test'>{}</domain>"


@pytest.fixture
def connection() -> Iterator[libvirt.virConnect]:
    """It has the guest `test`, which runs."""
    opened = libvirt.open("test:///default")
    for domain in opened.listAllDomains():  # libvirt shares them while any connection is open
        if domain.name() == "web":
            domain.undefine()
    yield opened
    opened.close()


def wanted(xml: str = "", **spec: Any) -> Definition:
    full = {"nodeName": "n1", "memory": "1Gi", "domainXML": TEST.format(xml), **spec}
    return Definition(UUID, "web", GuestSpec.model_validate(full))


def there(connection: libvirt.virConnect) -> Element:
    domain = connection.lookupByUUIDString(UUID)
    return domain_xml.parse(hypervisor_domains.config_of(domain))


SPECS: tuple[dict[str, Any], ...] = (
    {},
    {"machine": "pc", "vcpus": 3},
    {"disks": [{"file": "/x y/<&>'.raw"}, {"block": "/dev/sdz", "bus": "scsi"}, {"file": "/z", "bus": "sata"}]},
    {"disks": [{"volume": {"pool": "p", "name": "v"}, "format": "qcow2", "readOnly": True, "bootOrder": 2}]},
    {"networks": [{"network": "lan", "portgroup": "blue"}, {"bridge": "br0", "mac": "52:54:00:00:00:01"}]},
    {"networks": [{"bridge": "br0", "model": "e1000e", "bootOrder": 1}]},
)


@pytest.mark.parametrize("first", SPECS, ids=str)
@pytest.mark.parametrize("then", SPECS, ids=str)
def test_each_can_be_made_and_become_each_other(
    connection: libvirt.virConnect, first: dict[str, Any], then: dict[str, Any]
) -> None:
    for spec in (first, then, first):
        hypervisor_domains.define(connection, wanted(**spec))
        xml = there(connection)
        assert domain_xml.asked_before(xml) == asked(wanted(**spec))
        kinds = [d.tag for d in xml.iterfind("devices/*") if d.tag in ("disk", "interface", "serial", "rng")]
        count = len(spec.get("disks", ())) + len(spec.get("networks", ()))
        assert len(kinds) == count + 2, kinds


def test_what_others_have_added_stays(connection: libvirt.virConnect) -> None:
    hypervisor_domains.define(connection, wanted(networks=[{"bridge": "br0"}]))
    domain = connection.lookupByUUIDString(UUID)
    before = there(connection).find("devices/interface/mac")
    text = hypervisor_domains.config_of(domain)
    more = "<graphics type='vnc' passwd='secret'/><hostdev mode='subsystem' type='pci' managed='yes'><source><address"
    more += " domain='0' bus='1' slot='0' function='0'/></source><alias name='ua-hostdev-1'/></hostdev></devices>"
    connection.defineXML(text.replace("</devices>", more).replace("<memory", "<title>by hand</title><memory", 1))
    hypervisor_domains.define(connection, wanted("<memtune><hard_limit unit='GiB'>2</hard_limit></memtune>", vcpus=2))
    xml = domain_xml.parse(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE))
    assert (xml.findtext("title"), xml.findtext("vcpu")) == ("by hand", "2")
    assert xml.find("devices/graphics[@passwd='secret']") is not None
    assert xml.find("devices/hostdev/alias[@name='ua-hostdev-1']") is not None
    assert (before is not None, xml.find("devices/interface")) == (True, None)


def test_a_serial_port_of_another_kind_takes_the_place_of_ours(connection: libvirt.virConnect) -> None:
    hypervisor_domains.define(connection, wanted())
    serial = "<devices><serial type='file'><source path='/var/log/web.log'/></serial></devices>"
    hypervisor_domains.define(connection, wanted(serial))
    kinds = [(d.tag, d.get("type")) for d in there(connection).iterfind("devices/*") if d.tag in ("serial", "console")]
    assert kinds == [("serial", "file"), ("console", "file")]


def test_what_the_schema_does_not_have_is_refused(connection: libvirt.virConnect) -> None:
    with pytest.raises(libvirt.libvirtError, match="schema"):
        hypervisor_domains.define(connection, wanted("<nonsense/>"))
    with pytest.raises(libvirt.libvirtError):
        connection.lookupByUUIDString(UUID)


def test_started_and_shut_down(connection: libvirt.virConnect) -> None:
    hypervisor_domains.define(connection, wanted())
    domain = connection.lookupByUUIDString(UUID)
    for _ in range(2):
        hypervisor_domains.start(connection, UUID)
        assert domain.isActive()
    for _ in range(2):
        hypervisor_domains.shut_down(connection, UUID)
        assert not domain.isActive()
