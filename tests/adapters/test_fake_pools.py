"""The made-up host hands out VFs as libvirt 11.3 does: tests/lab/test_sriov.py sees the same on a real one."""

from __future__ import annotations

import pytest

from hostdev_operator.core import domain_xml, network_xml, reasons
from hostdev_operator.core.errors import HostError
from hostdev_operator.core.model import VFIO_DRIVER
from hostdev_operator.core.reasons import Reason
from hostdev_operator.core.sriov import VfConfig
from hostdev_operator.simulation.host import FakeHost
from hostdev_operator.simulation.ports import ports
from hostdev_operator.simulation.sriov import FRESH, FakePf
from tests.fakes.samples import DB, NIC, WEB, device

THIRD = "33333333-3333-4333-8333-333333333333"
XML = """<network><name>vfs</name><forward mode='hostdev' managed='yes'><pf dev='eth3'/></forward>
  <portgroup name='a'><vlan><tag id='42'/></vlan></portgroup></network>"""


def nic(number: int, portgroup: str = "") -> str:
    group = f" portgroup='{portgroup}'" if portgroup else ""
    return (
        f"<interface type='network'><mac address='52:54:00:aa:bb:0{number}'/><source network='vfs'{group}/>"
        f"<alias name='ua-{number}'/></interface>"
    )


@pytest.fixture
def host() -> FakeHost:
    """Two VFs for three guests."""
    made = FakeHost()
    pf = made.sriov.add(device(NIC, "igb"))
    pf.up, pf.autoprobe = True, False
    made.sriov.set_count(NIC, 2)
    made.networks.append(XML)
    made.define(WEB, "web", nic(1, "a"))
    made.define(DB, "db", nic(2, "unknown"))
    made.define(THIRD, "third", nic(3))
    return made


def the_pf(host: FakeHost) -> FakePf:
    return host.sriov.pfs[NIC]


def reason_of(call: object, *arguments: object) -> Reason:
    with pytest.raises(HostError) as caught:
        call(*arguments)  # type: ignore[operator]
    return caught.value.reason


def connections(host: FakeHost) -> int:
    (xml,) = host.networks.look()
    return network_xml.network(xml).connections


def held(host: FakeHost, uuid: str) -> list[int | None]:
    return [host.devices[h.address].vf_index for h in host.guests[uuid].hostdevs(live=True)]


def test_a_vf_is_handed_out_at_each_start_and_given_back_at_each_stop(host: FakeHost) -> None:
    before = host.state()
    for _ in range(3):
        host.start(WEB)
        assert (held(host, WEB), connections(host)) == ([0], 1)
        assert the_pf(host).configs[0].only(VfConfig("", 0)) == VfConfig("52:54:00:aa:bb:01", 42)
        (vf, other) = host.sriov.vfs(NIC)
        assert (vf.driver, other.driver) == (VFIO_DRIVER, None)
        host.stop(WEB)
        assert (host.state(), connections(host)) == (before, 0)


def test_the_live_xml_has_the_vf_and_the_persistent_one_the_network(host: FakeHost) -> None:
    host.start(WEB)
    live = domain_xml.parse(host.guests[WEB].live or "").find("devices/interface")
    config = domain_xml.parse(host.guests[WEB].config or "").find("devices/interface")
    assert live is not None
    assert config is not None
    assert (live.get("type"), live.get("managed"), live.find("source[@network]")) == ("hostdev", "yes", None)
    assert live.find("alias[@name='ua-1']") is not None
    assert config.get("type") == "network"
    assert config.find("source[@network='vfs'][@portgroup='a']") is not None


def test_an_unknown_portgroup_is_silently_ignored(host: FakeHost) -> None:
    host.start(DB)
    assert the_pf(host).configs[0].vlan == 0


def test_the_third_guest_gets_none_until_another_is_off(host: FakeHost) -> None:
    host.start(WEB)
    host.start(DB)
    state = host.state()
    assert reason_of(host.start, THIRD) is reasons.POOL_EXHAUSTED
    assert host.state() == state
    host.stop(WEB)
    host.start(THIRD)
    assert (held(host, DB), held(host, THIRD), connections(host)) == ([1], [0], 2)


def test_nobody_gets_a_vf_while_the_pf_is_down_or_the_network_is_not_started(host: FakeHost) -> None:
    the_pf(host).up = False
    state = host.state()
    assert reason_of(host.start, WEB) is reasons.PF_DOWN
    assert (host.state(), connections(host)) == (state, 0)
    host.networks.destroy("vfs")
    assert reason_of(host.start, WEB) is reasons.POOL_INACTIVE


def test_a_network_that_is_destroyed_forgets_who_has_its_vfs(host: FakeHost) -> None:
    host.start(WEB)
    host.networks.destroy("vfs")
    host.networks.start("vfs")
    assert (held(host, WEB), connections(host)) == ([0], 0)
    assert reason_of(host.start, DB) is reasons.DEVICE_IN_USE
    host.stop(WEB)
    host.start(DB)


def test_vfs_that_are_taken_away_by_hand_are_gone_from_guests(host: FakeHost) -> None:
    host.start(WEB)
    host.sriov.set_count(NIC, 0)
    assert (held(host, WEB), host.sriov.vfs(NIC), the_pf(host).configs) == ([], [], {})
    host.stop(WEB)
    assert connections(host) == 0
    assert reason_of(host.start, WEB) is reasons.DEVICE_NOT_FOUND


def test_a_vf_in_a_guest_keeps_the_kernel_from_returning(host: FakeHost) -> None:
    host.start(WEB)
    devices = ports(host).devices
    assert reason_of(devices.set_num_vfs, NIC, 4, 1.0) is reasons.DETACH_BLOCKED
    assert devices.blocked() == {NIC}


def test_a_reboot_leaves_what_the_boot_unit_makes(host: FakeHost) -> None:
    host.start(WEB)
    host.boot_file = "# comment\n52:54:00:10:00:01 0000:09:00.0 2 0 up\n"
    host.reboot()
    assert (len(host.sriov.vfs(NIC)), the_pf(host).up, the_pf(host).autoprobe) == (2, True, False)
    assert (host.networks.look()[0].active, host.guests[WEB].live) == (True, None)
    assert the_pf(host).configs == dict.fromkeys(range(2), FRESH)
    host.reboot(unit=False)
    assert (host.sriov.vfs(NIC), the_pf(host).up, the_pf(host).autoprobe) == ([], False, True)
    assert not host.networks.look()[0].active


def test_an_interface_with_a_vf_of_its_own_gets_mac_and_vlan_and_no_other_device_can(host: FakeHost) -> None:
    vf = host.sriov.vfs(NIC)[1].address
    source = f"bus='{vf.bus}' slot='{vf.slot}' function='{vf.function}'"
    text = f"<interface type='hostdev' managed='yes'><mac address='52:54:00:aa:bb:07'/><source><address {source}/>"
    host.define(WEB, "web", f"{text}</source><vlan><tag id='7'/></vlan></interface>")
    before = host.state()
    host.start(WEB)
    assert the_pf(host).configs[1].only(VfConfig("", 0)) == VfConfig("52:54:00:aa:bb:07", 7)
    host.eject(host.guests[WEB], vf)
    assert (held(host, WEB), host.state()) == ([], before)
    host.stop(WEB)
    host.define(WEB, "web", text.replace(source, "bus='1' slot='0' function='0'") + "</source></interface>")
    assert reason_of(host.start, WEB) is reasons.NOT_VIRTUAL_FUNCTION
