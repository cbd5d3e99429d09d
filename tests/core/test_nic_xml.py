from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostdev_operator.core import domain_xml
from hostdev_operator.core.actions import HostdevXml, InterfaceXml, NicXml
from hostdev_operator.core.domain_xml import GuestXml, find_hostdev, find_interface, hostdev_xml, interface_xml
from hostdev_operator.core.mac import derived_mac
from hostdev_operator.core.model import Guest, Hostdev, Nic
from hostdev_operator.core.pci import PciAddress
from tests.fakes.samples import NIC, WEB

MAC = "52:54:00:00:00:01"
GUEST_ADDRESS = PciAddress(0, 6, 0, 0)
VF = """<interface type='hostdev' managed='yes'>
  <mac address='52:54:00:AA:00:01'/>
  <driver name='vfio'/>
  <source><address type='pci' domain='0x0000' bus='0x01' slot='0x00' function='0x0'/></source>
  <vlan><tag id='42'/></vlan>
  <alias name='ua-vf'/>
  <address type='pci' domain='0x0000' bus='0x06' slot='0x00' function='0x0'/>
</interface>"""
POOL = """<interface type='network'>
  <mac address='52:54:00:00:00:02'/>
  <source network='passthrough' portgroup='blue'/>
  <virtualport type='802.1Qbh'><parameters profileid='finance'/></virtualport>
  <alias name='ua-pool'/>
</interface>"""


def domain(devices: str) -> str:
    return f"<domain type='kvm'><name>web</name><uuid>{WEB}</uuid><devices>{devices}</devices></domain>"


def read(config: str, live: str | None = None) -> Guest:
    return domain_xml.guest(GuestXml(WEB, "web", live and domain(live), domain(config)), {})


def test_a_vf_is_a_nic_and_a_device() -> None:
    guest = read(VF)
    mac = "52:54:00:aa:00:01"
    assert guest.nics == (Nic("ua-vf", mac, vlan=42, address=NIC, guest_address=GUEST_ADDRESS),)
    hostdev = Hostdev(NIC, "ua-vf", managed=True, element="interface", driver="vfio", guest_address=GUEST_ADDRESS)
    assert guest.config == (hostdev,)
    assert guest.live_nics == ()


def test_a_nic_of_a_network_is_no_device() -> None:
    guest = read(POOL)
    assert guest.nics == (Nic("ua-pool", "52:54:00:00:00:02", "passthrough", "blue", profile="finance"),)
    assert guest.config == ()


def test_nics_of_bridges_have_mac_addresses_as_well() -> None:
    text = f"<interface type='bridge'><mac address='{MAC}'/><source bridge='br0'/></interface>"
    assert read(text).nics == (Nic(mac=MAC),)


@pytest.mark.parametrize(
    ("vlan", "expected"),
    [
        ("<vlan><tag id='7'/></vlan>", 7),
        ("<vlan trunk='yes'><tag id='7'/><tag id='8'/></vlan>", None),
        ("<vlan/>", None),
        ("<vlan><tag id='x'/></vlan>", None),
        ("", None),
    ],
)
def test_a_vlan_is_one_tag(vlan: str, expected: int | None) -> None:
    assert [n.vlan for n in read(f"<interface type='bridge'>{vlan}</interface>").nics] == [expected]


def test_a_profile_of_another_type_of_port_is_none() -> None:
    port = "<virtualport type='802.1Qbg'><parameters managerid='1' profileid='finance'/></virtualport>"
    assert [n.profile for n in read(f"<interface type='direct'>{port}</interface>").nics] == [None]


LIVE = """<interface type='hostdev' managed='yes'>
  <mac address='{mac}'/>
  <source><address type='pci' domain='0x0000' bus='0x01' slot='0x00' function='0x0'/></source>
  <alias name='{alias}'/>
</interface>"""


def test_the_vf_of_a_running_guest_is_told_together_with_its_network() -> None:
    guest = read(POOL, LIVE.format(mac="52:54:00:00:00:02", alias="ua-pool"))
    assert guest.live_nics == (Nic("ua-pool", "52:54:00:00:00:02", "passthrough", address=NIC),)
    assert guest.live == (Hostdev(NIC, "ua-pool", managed=True, element="interface"),)


def test_a_nic_without_an_alias_of_its_own_is_known_by_its_mac() -> None:
    by_hand = POOL.replace("<alias name='ua-pool'/>", "")
    assert [n.network for n in read(by_hand, LIVE.format(mac="52:54:00:00:00:02", alias="net0")).live_nics] == [
        "passthrough"
    ]
    assert [n.network for n in read(by_hand, LIVE.format(mac=MAC, alias="net0")).live_nics] == [None]


def test_a_vf_with_an_address_of_its_own_has_no_network_while_it_runs() -> None:
    assert [n.network for n in read(VF + POOL, LIVE.format(mac=MAC, alias="ua-vf")).live_nics] == [None]


ADDRESSES = st.builds(
    PciAddress, st.integers(0, 0x7FFFFFFF), st.integers(0, 0xFF), st.integers(0, 0x1F), st.integers(0, 7)
)
# Hostile text of every kind that XML can hold at all.
TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"], exclude_characters="￾￿"), min_size=1)
NICS = st.builds(
    NicXml,
    st.just(MAC),
    st.none() | st.integers(1, 4094),
    st.none() | TEXTS,
    st.none() | ADDRESSES,
)


@given(TEXTS, TEXTS, st.none() | TEXTS, NICS)
def test_the_nic_of_a_network_that_is_written_is_read_again(
    network: str, alias: str, portgroup: str | None, nic: NicXml
) -> None:
    """No name can add an element or an attribute: what is read is exactly what was given."""
    text = interface_xml(InterfaceXml(network, alias, nic, portgroup))
    expected = Nic(alias, MAC, network, portgroup, nic.vlan, nic.profile, None, nic.guest_address)
    assert read(text).nics == (expected,)
    assert domain_xml.parse(domain(text)).xpath("count(devices/*)") == 1.0


@given(ADDRESSES, TEXTS, st.booleans(), st.sampled_from([None, "vfio"]), NICS)
def test_the_vf_that_is_written_is_read_again(
    address: PciAddress,
    alias: str,
    managed: bool,  # noqa: FBT001
    driver: str | None,
    nic: NicXml,
) -> None:
    text = hostdev_xml(HostdevXml(address, alias, managed, driver, nic=nic))
    guest = read(text)
    assert guest.nics == (Nic(alias, MAC, None, None, nic.vlan, nic.profile, address, nic.guest_address),)
    assert guest.config == (Hostdev(address, alias, managed, "interface", driver, nic.guest_address),)
    assert (domain_xml.parse(text).find("driver[@name='vfio']") is not None) is (driver is not None)


HOSTILE = 'x"\'/><source file="/etc/shadow"/><!-- &amp; ]]>'


def test_hostile_names_stay_one_attribute_each() -> None:
    tree = domain_xml.parse(interface_xml(InterfaceXml(HOSTILE, HOSTILE, NicXml(MAC, None, HOSTILE), HOSTILE)))
    assert [child.tag for child in tree] == ["source", "mac", "virtualport", "alias"]
    source, port = tree.find("source"), tree.find("virtualport/parameters")
    assert source is not None
    assert port is not None
    assert sorted(source.items()) == [("network", HOSTILE), ("portgroup", HOSTILE)]
    assert port.items() == [("profileid", HOSTILE)]


def test_the_xml_has_the_form_that_libvirt_takes() -> None:
    written = domain_xml.parse(hostdev_xml(HostdevXml(NIC, "ua-vf", True, "vfio", nic=NicXml(MAC, 42))))
    assert (written.tag, written.get("type"), written.get("managed")) == ("interface", "hostdev", "yes")
    assert written.xpath("source/address/@type") == ["pci"]
    assert written.xpath("vlan/tag/@id") == ["42"]
    assert written.xpath("count(virtualport)") == 0.0
    ported = domain_xml.parse(interface_xml(InterfaceXml("n", "ua-x", NicXml(MAC, None, "finance"))))
    assert ported.xpath("virtualport/@type | virtualport/parameters/@profileid") == ["802.1Qbh", "finance"]
    assert ported.xpath("count(vlan) + count(source/@portgroup) + count(address)") == 0.0


def test_find_interface_takes_the_one_with_the_alias() -> None:
    found = find_interface(domain(VF + POOL), "ua-pool")
    assert found is not None
    assert "passthrough" in found
    assert "ua-vf" not in found
    assert find_interface(domain(VF + POOL), "ua-poo") is None
    assert find_interface(domain(VF + POOL), HOSTILE) is None


def test_find_interface_takes_the_one_with_the_mac_address_if_there_is_no_alias_to_go_by() -> None:
    found = find_interface(domain(POOL + VF), None, "52:54:00:aa:00:01")
    assert found is not None
    assert "ua-vf" in found
    assert find_interface(domain(POOL + VF), "ua-none", "52:54:00:aa:00:01") is None
    assert find_interface(domain(POOL + VF), None, MAC) is None
    assert find_interface(domain("<interface type='user'/>"), None) is None


def test_find_hostdev_finds_a_vf_that_is_a_nic() -> None:
    found = find_hostdev(domain(POOL + VF), NIC)
    assert found is not None
    assert "ua-vf" in found
    assert find_hostdev(domain(POOL), NIC) is None


@given(st.text(), st.text(), st.uuids())
def test_a_derived_mac_is_unicast_local_and_always_the_same(namespace: str, name: str, guest: object) -> None:
    mac = derived_mac(namespace, name, str(guest))
    first = int(mac[:2], 16)
    assert (first & 1, first & 2) == (0, 2)
    assert first != 0xFE
    assert len(mac) == 17
    assert mac == mac.lower() == derived_mac(namespace, name, str(guest))


def test_a_derived_mac_is_that_of_one_assignment_and_guest() -> None:
    """A change of the rule would give every guest another MAC address."""
    assert derived_mac("default", "nic", WEB) == "1a:d8:c2:15:98:29"
    macs = {derived_mac(*k) for k in (("a", "b", "c"), ("a", "b", "d"), ("a", "x", "c"), ("x", "b", "c"))}
    assert len(macs) == 4
