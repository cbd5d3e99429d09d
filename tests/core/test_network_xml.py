from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostdev_operator.core.domain_xml import parse
from hostdev_operator.core.network import Network, NetworkDefinition, NetworkPortgroup
from hostdev_operator.core.network_xml import NetworkXml, difference, network, network_text
from hostdev_operator.core.pci import PciAddress

UUID = "0a2ecf2b-7b50-4a21-b4a8-3a1a9a4dbd29"
VF0, VF1 = PciAddress.parse("0000:01:10.0"), PciAddress.parse("0000:01:10.2")


def xml(text: str | None, live: str | None = None, *, autostart: bool = True) -> NetworkXml:
    return NetworkXml("vfs", UUID, live is not None, autostart, text is not None, live, text)


def hostdev(forward: str, more: str = "", attributes: str = "", managed: str = "yes") -> str:
    return (
        f"<network{attributes}><name>vfs</name><uuid>{UUID}</uuid>"
        f"<forward mode='hostdev' managed='{managed}'>{forward}</forward>{more}</network>"
    )


ADDRESS = "<address type='pci' domain='0x0000' bus='0x01' slot='0x10' function='0x0'/>"
OTHER = "<address type='pci' domain='0x0000' bus='0x01' slot='0x10' function='0x2'/>"
WHOLE = NetworkDefinition("vfs", pf="eth3")


def test_bridges_and_what_is_forwarded_to_are_its_interfaces() -> None:
    lan = network(
        NetworkXml(
            "lan", UUID, True, False, True,
            "<network><name>lan</name><forward mode='bridge' dev='eth7'><interface dev='eth8'/></forward>"
            "<bridge name='virbr3'/></network>",
            None,
        )
    )  # fmt: skip
    assert lan.interfaces == {"eth7", "eth8", "virbr3"}
    assert (lan.hands_out_vfs, lan.active, lan.autostart, lan.persistent, lan.xml) == (False, True, False, True, None)


def test_a_started_network_shows_the_vfs_that_libvirt_has_found_and_its_connections() -> None:
    live = hostdev("<pf dev='eth3'/>" + ADDRESS + OTHER, attributes=" connections='2'")
    found = network(xml(hostdev("<pf dev='eth3'/>"), live))
    assert found.hands_out == WHOLE
    assert found.running == replace(WHOLE, addresses=(VF0, VF1))
    assert (found.connections, found.uuid, found.strange) == (2, UUID, None)
    assert (found.pfs, found.addresses, found.interfaces) == (frozenset({"eth3"}), frozenset({VF0, VF1}), frozenset())


def test_a_network_that_is_off_has_no_connections_and_a_transient_one_no_definition() -> None:
    off = network(xml(hostdev(ADDRESS)))
    assert (off.running, off.connections, off.addresses) == (None, 0, frozenset({VF0}))
    transient = network(xml(None, hostdev(ADDRESS)))
    assert (transient.hands_out, transient.persistent, transient.xml) == (None, False, None)
    assert transient.hands_out_vfs
    assert transient.addresses == {VF0}
    assert difference(transient, WHOLE) == "it has no persistent definition"


@pytest.mark.parametrize(
    ("forward", "more", "expected"),
    [
        ("<pf dev='eth3'/>", "", WHOLE),
        ("<driver name='vfio'/><pf dev='eth3'/>", "", WHOLE),
        (OTHER + ADDRESS, "", NetworkDefinition("vfs", addresses=(VF1, VF0))),
        ("<address type='pci' domain='0' bus='1' slot='16' function='0'/>", "",
         NetworkDefinition("vfs", addresses=(VF0,))),
        ("<address type='pci' domain='0' bus='0x999' slot='0' function='0'/>", "", NetworkDefinition("vfs")),
        ("<pf dev='eth3'/>", "<vlan><tag id='42'/></vlan>", replace(WHOLE, vlan=42)),
        ("<pf dev='eth3'/>",
         "<portgroup name='a' default='yes'><vlan><tag id='7'/></vlan></portgroup><portgroup name='b'/>",
         replace(WHOLE, portgroups=(NetworkPortgroup("a", 7, True), NetworkPortgroup("b")))),
        ("<pf dev='eth3'/>", "<title>x</title><description>y</description><metadata><a/></metadata><!-- z -->", WHOLE),
    ],
)  # fmt: skip
def test_what_a_pool_could_write_is_read(forward: str, more: str, expected: NetworkDefinition) -> None:
    found = network(xml(hostdev(forward, more)))
    assert (found.hands_out, found.strange, difference(found, expected)) == (expected, None, None)


@pytest.mark.parametrize(
    ("forward", "more", "words"),
    [
        ("<driver name='kvm'/><pf dev='eth3'/>", "", "<driver> other than vfio"),
        ("<pf dev='eth3'/><interface dev='eth4'/>", "", "<interface> in <forward>"),
        ("<pf dev='eth3'/>", "<virtualport type='802.1Qbh'/>", "<virtualport>"),
        ("<pf dev='eth3'/>", "<vlan trunk='yes'><tag id='1'/><tag id='2'/></vlan>", "several VLANs"),
        ("<pf dev='eth3'/>", "<vlan trunk='yes'><tag id='1'/></vlan>", "several VLANs"),
        ("<pf dev='eth3'/>", "<vlan><tag id='1' nativeMode='tagged'/></vlan>", "several VLANs"),
        ("<pf dev='eth3'/>", "<portgroup name='a'><virtualport type='802.1Qbh'/></portgroup>",
         "<virtualport> in portgroup a"),
        ("<pf dev='eth3'/>", "<portgroup name='a'><vlan trunk='yes'><tag id='1'/></vlan></portgroup>",
         "several VLANs in portgroup a"),
        ("<pf dev='eth3'/>", "<portgroup name='a' trustGuestRxFilters='yes'/>", "trustGuestRxFilters in portgroup a"),
    ],
)  # fmt: skip
def test_what_no_pool_would_write_is_a_difference(forward: str, more: str, words: str) -> None:
    found = network(xml(hostdev(forward, more)))
    assert found.hands_out is not None
    assert found.strange == f"it has {words}"
    assert (difference(found, found.hands_out) or "").endswith(words)
    assert difference(network(xml(network_text(found.hands_out, found.xml))), found.hands_out) is None


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (replace(WHOLE, pf="eth4"), "it hands out the VFs of eth3 instead of the VFs of eth4"),
        (NetworkDefinition("vfs", addresses=(VF0, VF1)),
         "it hands out the VFs of eth3 instead of 0000:01:10.0, 0000:01:10.2"),
        (replace(WHOLE, vlan=5), "its VLAN is none instead of 5"),
        (replace(WHOLE, managed=False), "it has managed='yes'"),
        (replace(WHOLE, portgroups=(NetworkPortgroup("a"),)), "it has no portgroup a"),
        (replace(WHOLE, addresses=(VF0,)), "it hands out the VFs of eth3 instead of the VFs of eth3"),
    ],
)  # fmt: skip
def test_a_difference_is_said_in_words(wanted: NetworkDefinition, words: str) -> None:
    assert difference(network(xml(hostdev("<pf dev='eth3'/>"))), wanted) == words


def test_differences_of_portgroups_are_said_in_words() -> None:
    groups = (
        "<portgroup name='a'><vlan><tag id='1'/></vlan></portgroup><portgroup name='b' default='yes'/>"
        "<portgroup name='c'/>"
    )
    wanted = replace(WHOLE, portgroups=(NetworkPortgroup("b"), NetworkPortgroup("a", 2)))
    assert difference(network(xml(hostdev("<pf dev='eth3'/>", groups))), wanted) == (
        "it has a portgroup c; portgroup a has VLAN 1 instead of 2; portgroup b is the default"
    )


def test_a_network_of_another_kind_differs() -> None:
    nat = network(xml("<network><name>vfs</name><forward mode='nat'/><bridge name='virbr0'/></network>"))
    assert difference(nat, WHOLE) == "it hands out no VFs"
    turned = network_text(WHOLE, nat.xml)
    assert network(xml(turned)).hands_out == WHOLE
    assert "virbr0" not in turned


def test_many_addresses_are_not_all_listed() -> None:
    many = tuple(PciAddress(0, 1, slot, 0) for slot in range(20))
    found = network(xml(network_text(NetworkDefinition("vfs", addresses=many))))
    assert "and 12 more" in (difference(found, WHOLE) or "")


def test_what_a_pool_does_not_own_stays() -> None:
    before = hostdev(
        "<pf dev='eth3'/>",
        "<title>T &amp; t</title><metadata><x:y xmlns:x='urn:x' z='1'>text</x:y></metadata><vlan><tag id='1'/></vlan>",
        attributes=" connections='3' ipv6='yes'",
    )
    text = network_text(NetworkDefinition("vfs", addresses=(VF0,)), before)
    tree = parse(text)
    assert tree.findtext("uuid") == UUID
    assert tree.findtext("title") == "T & t"
    assert tree.findtext("metadata/{urn:x}y") == "text"
    assert list(tree.attrib.items()) == [("ipv6", "yes")]
    assert [e.tag for e in tree] == ["name", "uuid", "title", "metadata", "forward"]
    assert (
        '<forward mode="hostdev" managed="yes">'
        '<address type="pci" domain="0x0000" bus="0x01" slot="0x10" function="0x0"/></forward>'
    ) in text


NAMES = st.text(st.characters(min_codepoint=32, exclude_categories=("Cs", "Cc", "Cn")), min_size=1, max_size=12)
TAGS = st.none() | st.integers(1, 4094)
ADDRESSES = st.builds(PciAddress, st.integers(0, 0x10000), st.integers(0, 255), st.integers(0, 31), st.integers(0, 7))
GROUPS = st.lists(st.builds(NetworkPortgroup, NAMES, TAGS, st.booleans()), max_size=3, unique_by=lambda g: g.name)
DEFINITIONS = st.builds(
    NetworkDefinition, NAMES, st.none() | NAMES, st.just(()), TAGS, GROUPS.map(tuple), st.booleans()
) | st.builds(
    NetworkDefinition, NAMES, st.none(), st.lists(ADDRESSES, unique=True, max_size=9).map(tuple), TAGS
)  # fmt: skip


def read(name: str, text: str) -> Network:
    return network(NetworkXml(name, UUID, False, True, True, None, text))


@given(DEFINITIONS, DEFINITIONS)
def test_what_is_written_is_read_back_whatever_was_there_before(
    wanted: NetworkDefinition, old: NetworkDefinition
) -> None:
    fresh = read(wanted.name, network_text(wanted))
    assert (fresh.hands_out, fresh.strange, difference(fresh, wanted)) == (wanted, None, None)
    edited = read(old.name, network_text(wanted, network_text(old)))
    assert edited.hands_out == replace(wanted, name=old.name)


@pytest.mark.parametrize("text", ['"><x', "]]>", "&amp;", "<!--", "über", "\U0001f600", "a b"])
def test_hostile_names_are_only_text(text: str) -> None:
    definition = NetworkDefinition(text, pf=text, portgroups=(NetworkPortgroup(text),))
    assert read(text, network_text(definition)).hands_out == definition


def test_broken_xml_is_an_error() -> None:
    with pytest.raises(SyntaxError):
        network(xml("<network>"))
