"""Which device is meant: by properties, by fingerprint after it moved, several for one guest, and for nobody."""

from __future__ import annotations

import re

import pytest

from tests.lab.guests import define, guest_log, guest_xml, wait_for_guest
from tests.system.devices import SpareNvme
from tests.system.inspect_guest import config_xml, live_xml, source
from tests.system.stack import NODE, Stack, assignment


def define_guests(system: Stack, *names: str) -> None:
    for name in names:
        define(system.lab, name, guest_xml(name))
        system.wait_guest_listed(name)


def test_match_must_be_unambiguous_unless_any_will_do(system: Stack) -> None:
    lab = system.lab
    pfs = lab.find_devices("8086:10c9")
    define_guests(system, "chooser")
    wanted = {"vendor": "0x8086", "device": "0x10c9", "class": "0x02"}
    system.apply(assignment("exact", domain="chooser", source={"match": wanted}))
    message = system.wait_condition("exact", "Ready", "False", "AmbiguousDevice")
    assert [pf for pf in pfs if pf not in message] == []
    system.delete("exact")
    system.wait_gone("exact")

    system.apply(assignment("first", domain="chooser", source={"match": {**wanted, "any": True}}))
    system.wait_condition("first", "Ready", "True")
    system.apply(assignment("second", domain="chooser", source={"match": {**wanted, "any": True}}))
    system.wait_condition("second", "Ready", "True")
    chosen = [system.get("deviceassignment", n)["status"]["identity"]["address"] for n in ("first", "second")]
    assert sorted(chosen) == sorted(pfs)
    system.apply(assignment("third", domain="chooser", source={"match": {**wanted, "any": True}}))
    assert "none can be had" in system.wait_condition("third", "Ready", "False", "DeviceInUse")

    devices = {d["address"]: d for d in system.get("devicehost", NODE)["status"]["devices"]}
    nothing = {"match": {"slotPath": "0000:00/1f.7/00.0"}}
    system.apply(assignment("nothing", domain="chooser", source=nothing))
    system.wait_condition("nothing", "Ready", "False", "DeviceNotFound")
    assert all(devices[pf]["slotPath"] for pf in pfs)
    system.delete("first")
    system.wait_condition("third", "Ready", "True")  # woken by the release
    assert source(chosen[0]) in config_xml(system, "chooser")


def test_a_device_that_moves_is_followed_and_another_in_its_place_is_not_taken(system: Stack) -> None:
    define_guests(system, "mover")
    with SpareNvme(system.lab) as spare:
        first = spare.plug("spare", "card-a")
        system.apply(assignment("mover", domain="mover", source={"match": {"serial": "card-a"}}))
        system.wait_condition("mover", "Ready", "True")
        assert source(first) in config_xml(system, "mover")
        assert system.get("deviceassignment", "mover")["status"]["identity"]["serial"] == "card-a"

        spare.unplug()
        system.wait_condition("mover", "Ready", "False", "DeviceNotFound")
        second = spare.plug("spare2", "card-a")
        assert first != second
        system.wait_condition("mover", "Ready", "True")
        assert source(first) not in config_xml(system, "mover")
        assert source(second) in config_xml(system, "mover")
        events = system.plane.kubectl("get", "events", "-o", "jsonpath={.items[*].reason}").stdout.split()
        assert "DeviceMoved" in events

        spare.unplug()
        system.wait_condition("mover", "Ready", "False", "DeviceNotFound")
        assert spare.plug("spare2", "card-b") == second
        message = system.wait_condition("mover", "Ready", "False", "IdentityChanged")
        assert "card-a" in message
        assert "card-b" in message
        assert system.lab.driver(second) == "nvme"
        system.delete("mover")
        system.wait_gone("mover")
        assert "<hostdev" not in config_xml(system, "mover")
        assert system.lab.driver(second) == "nvme"


@pytest.mark.mission("A2")
@pytest.mark.parametrize("mate_address", ["Auto", "Unassigned"])
def test_the_whole_group_for_a_guest_that_is_off(system: Stack, device: str, mate: str, mate_address: str) -> None:
    lab = system.lab
    define_guests(system, "whole")
    wanted = {"groupPolicy": "AssignAll", "mateAddress": mate_address}
    system.apply(assignment("whole", domain="whole", address=device, **wanted))
    system.wait_condition("whole", "Ready", "True")
    for address in (device, mate):
        assert source(address) in config_xml(system, "whole")
    assert ("type='unassigned'" in config_xml(system, "whole")) == (mate_address == "Unassigned")
    lab.virsh("start", "whole")
    wait_for_guest(lab, "whole", "GUEST up")
    system.wait_condition("whole", "Attached", "True")
    assert (lab.driver(device), lab.driver(mate)) == ("vfio-pci", "vfio-pci")
    # the guest goes through its buses in order again and again: the second NIC's slot comes right after the first one's
    wanted_lines = 1 if mate_address == "Unassigned" else 2

    def seen() -> int:
        return len(re.findall("plugged .* 8086:100e", guest_log(lab, "whole")))

    system.wait("the guest to see what it is to see", lambda: seen() >= wanted_lines)
    assert seen() == wanted_lines
    lab.virsh("destroy", "whole")
    system.wait_condition("whole", "Attached", "False", "GuestShutOff")
    system.delete("whole")
    system.wait_gone("whole")
    assert (lab.driver(device), lab.driver(mate)) == ("e1000", "e1000")


def test_both_devices_of_a_group_by_two_assignments_for_one_guest(system: Stack, device: str, mate: str) -> None:
    lab = system.lab
    define_guests(system, "shared")
    system.apply(assignment("left", domain="shared", address=device, groupPolicy="RequireFree"))
    message = system.wait_condition("left", "Ready", "False", "GroupNotFree")
    assert mate in message
    assert lab.driver(mate) == "e1000"
    system.delete("left")
    system.wait_gone("left")

    system.apply(assignment("left", domain="shared", address=device))
    system.wait_condition("left", "Ready", "True")
    system.apply(assignment("right", domain="shared", address=mate))
    system.wait_condition("right", "Ready", "True")
    lab.virsh("start", "shared")
    wait_for_guest(lab, "shared", "GUEST up")
    for name, address in (("left", device), ("right", mate)):
        system.wait_condition(name, "Attached", "True")
        assert source(address) in live_xml(system, "shared")
    lab.virsh("destroy", "shared")
    system.delete("left")
    system.wait_gone("left")
    system.wait("the device held as a mate", lambda: lab.driver(device) == "vfio-pci")
    assert source(mate) in config_xml(system, "shared")
    system.delete("right")
    system.wait_gone("right")
    assert (lab.driver(device), lab.driver(mate)) == ("e1000", "e1000")


def test_a_reservation_holds_the_group_for_nobody(system: Stack, device: str, mate: str) -> None:
    lab = system.lab
    define_guests(system, "later")
    system.apply(assignment("reserved", nodeName=NODE, address=device))
    system.wait_condition("reserved", "Ready", "True", "Reserved")
    assert (lab.driver(device), lab.driver(mate)) == ("vfio-pci", "vfio-pci")
    system.apply(assignment("later", domain="later", address=device))
    assert "default/reserved" in system.wait_condition("later", "Ready", "False", "DeviceInUse")

    def holder() -> object:
        devices = system.get("devicehost", NODE)["status"]["devices"]
        return next(d.get("holder") for d in devices if d["address"] == mate)

    system.wait("the holder", lambda: holder() == {"kind": "Reservation", "name": "default/reserved"})
    system.delete("reserved")
    system.wait_condition("later", "Ready", "True")
    assert (lab.driver(device), lab.driver(mate)) == ("e1000", "vfio-pci")


POOL = "<network><name>vfs</name><forward mode='hostdev' managed='yes'><pf dev='{pf}'/></forward></network>"


@pytest.mark.mission("D3", "D4")
def test_vfs_by_their_pf_and_index_and_by_a_network_that_hands_them_out(system: Stack) -> None:
    lab = system.lab
    pf = lab.find_devices("8086:10c9")[1]
    nic = lab.run(f"ls /sys/bus/pci/devices/{pf}/net").stdout.strip()
    mac = lab.sysfs(f"class/net/{nic}/address")
    define_guests(system, "virtual")
    lab.write(f"/sys/bus/pci/devices/{pf}/sriov_drivers_autoprobe", "0")
    lab.write(f"/sys/bus/pci/devices/{pf}/sriov_numvfs", "2")
    try:
        first, second = (
            lab.run(f"basename $(readlink /sys/bus/pci/devices/{pf}/virtfn{n})").stdout.strip() for n in (0, 1)
        )
        system.apply(assignment("vf", domain="virtual", source={"match": {"pfMAC": mac, "vfIndex": 1}}))
        system.wait_condition("vf", "Ready", "True")
        assert source(second) in config_xml(system, "virtual")
        identity = system.get("deviceassignment", "vf")["status"]["identity"]
        assert (identity["pfMAC"], identity["vfIndex"], identity["address"]) == (mac, 1, second)
        system.apply(assignment("pf", domain="virtual", address=pf))
        assert "2 VFs" in system.wait_condition("pf", "Ready", "False", "DeviceInUse")
        system.delete("vf")
        system.wait_gone("vf")

        lab.write("/tmp/vfs.xml", POOL.format(pf=nic))
        lab.virsh("net-define", "/tmp/vfs.xml")
        system.apply(assignment("taken", domain="virtual", address=first))
        assert "libvirt network vfs" in system.wait_condition("taken", "Ready", "False", "DeviceInUse")

        def holder() -> object:
            devices = system.get("devicehost", NODE)["status"]["devices"]
            return next(d.get("holder") for d in devices if d["address"] == first)

        system.wait("the holder", lambda: holder() == {"kind": "Pool", "name": "vfs"})
        lab.virsh("net-undefine", "vfs")
        system.wait_condition("taken", "Ready", "True")
    finally:
        for name in ("taken", "pf", "vf"):
            system.plane.kubectl("delete", "deviceassignment", name, "--ignore-not-found", "--wait=false")
        system.wait("nothing on the VFs", lambda: not system.assignments())
        lab.write(f"/sys/bus/pci/devices/{pf}/sriov_numvfs", "0")
        lab.write(f"/sys/bus/pci/devices/{pf}/sriov_drivers_autoprobe", "1")
