from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from hostdev_operator.core.guest_slots import read_topology
from hostdev_operator.core.slots import Slots
from hostdev_operator.core.topology import CONVENTIONAL_SLOTS


def at(bus: int, slot: int, function: int = 0) -> str:
    return f"<address type='pci' domain='0x0000' bus='{bus:#04x}' slot='{slot:#04x}' function='{function:#x}'/>"


def controller(index: int, model: str, address: str = "", hotplug: str = "") -> str:
    wanted = f"hotplug='{hotplug}'" if hotplug else ""
    inside = f"<target chassis='{index}' port='0x8' {wanted}/><alias name='pci.{index}'/>{address}"
    return f"<controller type='pci' index='{index}' model='{model}'>{inside}</controller>"


def nic(bus: int, slot: int) -> str:
    return (
        f"<interface type='network'><mac address='52:54:00:00:00:01'/><source network='default' bridge='virbr0'/>"
        f"<model type='virtio'/><alias name='net0'/>{at(bus, slot)}</interface>"
    )


def hostdev(address: str) -> str:
    """Its source, 0000:02:00.0 on the host, occupies nothing in the guest."""
    source = "<source><address domain='0x0000' bus='0x02' slot='0x00' function='0x0'/></source>"
    return f"<hostdev mode='subsystem' type='pci' managed='yes'>{source}<alias name='hostdev0'/>{address}</hostdev>"


def domain(machine: str, *devices: str, arch: str = "x86_64") -> str:
    return (
        f"<domain type='kvm' id='3'><name>db</name><os><type arch='{arch}' machine='{machine}'>hvm</type></os>"
        f"<devices><emulator>/usr/bin/qemu-system-x86_64</emulator>{''.join(devices)}</devices></domain>"
    )


def count(text: str) -> Slots:
    return read_topology(etree.fromstring(text)).slots(hot=True)


# Root ports 1 to 6 at 00:02.0 to 00:02.5; the bridge sits in the first, so five are free.
Q35 = (
    "<controller type='pci' index='0' model='pcie-root'><alias name='pcie.0'/></controller>",
    *(controller(i, "pcie-root-port", at(0, 2, i - 1)) for i in range(1, 7)),
    controller(7, "pcie-to-pci-bridge", at(1, 0)),
    f"<controller type='sata' index='0'><alias name='ide'/>{at(0, 0x1F, 2)}</controller>",
    "<serial type='pty'><target type='isa-serial' port='0'/><alias name='serial0'/></serial>",
    "<disk type='file' device='disk'><target dev='sda' bus='sata'/><address type='drive' controller='0' bus='0'"
    " target='0' unit='0'/></disk>",
    f"<video><model type='virtio' heads='1' primary='yes'/><alias name='video0'/>{at(0, 1)}</video>",
    "<memballoon model='none'/>",
)
I440FX = (
    "<controller type='pci' index='0' model='pci-root'><alias name='pci.0'/></controller>",
    f"<controller type='usb' index='0' model='piix3-uhci'><alias name='usb'/>{at(0, 1, 2)}</controller>",
    f"<controller type='ide' index='0'><alias name='ide'/>{at(0, 1, 1)}</controller>",
)
VGA = f"<video><model type='vga' vram='16384' heads='1' primary='yes'/><alias name='video0'/>{at(0, 2)}</video>"
PC = "pc-i440fx-10.0"


def test_q35_has_its_empty_root_ports_and_the_slots_of_its_bridge() -> None:
    assert count(domain("pc-q35-10.0", *Q35)) == Slots(has_express=True, express=5, conventional=31)


def test_a_device_takes_a_root_port() -> None:
    assert count(domain("pc-q35-10.0", *Q35, nic(2, 0), hostdev(at(3, 0)))) == Slots(True, 3, 31)


def test_a_full_q35_has_nothing_left() -> None:
    devices = [nic(bus, 0) for bus in range(2, 7)] + [nic(7, slot) for slot in CONVENTIONAL_SLOTS]
    slots = count(domain("pc-q35-10.0", *Q35, *devices))
    assert slots == Slots(True, 0, 0)
    assert slots.lack(express=1, conventional=0)


def test_q35_without_a_bridge_has_no_conventional_slot() -> None:
    slots = count(domain("pc-q35-10.0", *Q35[:7]))
    assert slots == Slots(True, 6, 0)
    assert slots.lack(express=0, conventional=1)


def test_a_port_with_hot_plug_off_is_not_counted() -> None:
    ports = (controller(1, "pcie-root-port", at(0, 2), "off"), controller(2, "pcie-root-port", at(0, 3), "on"))
    assert count(domain("pc-q35-10.0", Q35[0], *ports)) == Slots(True, 1, 0)


def test_i440fx_with_hot_plug_off_has_nothing() -> None:
    assert count(domain(PC, controller(0, "pci-root", hotplug="off"))) == Slots(False, 0, 0)


def test_a_switch_gives_its_downstream_ports() -> None:
    """Port 8 carries the switch: upstream port 8 on it, on whose bus 8 the downstream ports sit."""
    switch = (
        controller(8, "pcie-switch-upstream-port", at(2, 0)),
        *(controller(i, "pcie-switch-downstream-port", at(8, i - 9)) for i in (9, 10, 11)),
    )
    assert count(domain("pc-q35-10.0", *Q35, *switch)) == Slots(True, 4 + 3, 31)
    assert count(domain("pc-q35-10.0", *Q35, *switch, nic(10, 0))) == Slots(True, 4 + 2, 31)


def test_i440fx_has_all_but_host_bridge_and_piix3() -> None:
    assert count(domain(PC, *I440FX)) == Slots(has_express=False, express=0, conventional=30)


def test_the_piix3_is_there_without_an_element_that_says_so() -> None:
    assert count(domain(PC, I440FX[0])) == count(domain(PC, *I440FX))


def test_the_slot_of_the_video_card_is_taken_like_any_other() -> None:
    assert count(domain(PC, *I440FX, VGA)) == Slots(False, 0, 29)


def test_a_full_i440fx_has_nothing_left_and_a_bridge_adds_its_slots() -> None:
    devices = [VGA, *(nic(0, slot) for slot in range(3, 31))]
    assert count(domain(PC, *I440FX, *devices, nic(0, 31))) == Slots(False, 0, 0)
    assert count(domain(PC, *I440FX, *devices, controller(1, "pci-bridge", at(0, 31)))) == Slots(False, 0, 31)


def test_functions_of_one_slot_take_it_once() -> None:
    functions = [
        f"<controller type='usb' index='1' model='ich9-ehci1'>{at(0, 5, f)}</controller>" for f in (0, 1, 2, 7)
    ]
    assert count(domain(PC, *I440FX, *functions)) == Slots(False, 0, 29)


def test_bridges_that_cannot_be_plugged_into_are_not_counted() -> None:
    bridges = (
        controller(8, "dmi-to-pci-bridge", at(0, 0x1E)),
        controller(9, "pcie-expander-bus", at(0, 4)),
        controller(10, "pcie-switch-upstream-port", at(2, 0)),
    )
    assert count(domain("pc-q35-10.0", *Q35, *bridges)) == Slots(True, 4, 31)
    assert count(domain(PC, *I440FX, controller(1, "pci-expander-bus", at(0, 4)))) == Slots(False, 0, 29)


def test_an_unassigned_hostdev_takes_nothing() -> None:
    assert count(domain("pc-q35-10.0", *Q35, hostdev("<address type='unassigned'/>"))) == Slots(True, 5, 31)


def test_the_address_on_the_host_takes_nothing() -> None:
    """The source is 02:00.0: bus 2, slot 0 would be the second root port."""
    assert count(domain("pc-q35-10.0", *Q35, hostdev(""))) == Slots(True, 5, 31)


def test_nor_does_it_in_an_interface_where_it_has_a_type() -> None:
    source = f"<source>{at(2, 0)}</source>"
    vf = f"<interface type='hostdev' managed='yes'><mac address='52:54:00:00:00:02'/>{source}{at(3, 0)}</interface>"
    assert count(domain("pc-q35-10.0", *Q35, vf)) == Slots(True, 4, 31)


def test_addresses_can_be_decimal_and_broken_ones_take_nothing() -> None:
    decimal = "<interface type='user'><address type='pci' domain='0' bus='2' slot='0' function='0'/></interface>"
    broken = "<interface type='user'><address type='pci' bus='two' slot='0'/></interface>"
    assert count(domain("pc-q35-10.0", *Q35, decimal, broken)) == Slots(True, 4, 31)


def test_a_controller_without_a_number_is_not_counted() -> None:
    odd = "<controller type='pci' index='x' model='pcie-root-port'/>"
    assert count(domain("pc-q35-10.0", *Q35, odd)) == Slots(True, 5, 31)


def test_without_pci_controllers_nothing_is_known_and_nothing_is_lacking() -> None:
    slots = count(domain("xenpvh", nic(0, 3)))
    assert not slots.known
    assert slots.lack(express=3, conventional=3) is None


def test_on_other_machines_with_conventional_pci_slot_1_is_free() -> None:
    assert count(domain("s390-ccw-virtio-10.0", I440FX[0], arch="s390x")) == Slots(False, 0, 31)


def test_pseries_is_not_counted_since_each_hostdev_gets_a_bus() -> None:
    assert not count(domain("pseries-10.0", I440FX[0], arch="ppc64le")).known


PLACES = st.one_of(
    st.tuples(st.integers(2, 6), st.just(0)),
    st.tuples(st.just(7), st.sampled_from(list(CONVENTIONAL_SLOTS))),
)


@given(st.sets(PLACES, max_size=36), PLACES)
def test_a_device_at_a_free_slot_takes_one_of_its_kind_and_at_a_taken_one_none(
    taken: set[tuple[int, int]], place: tuple[int, int]
) -> None:
    before = count(domain("pc-q35-10.0", *Q35, *(nic(*p) for p in taken)))
    after = count(domain("pc-q35-10.0", *Q35, *(nic(*p) for p in taken), hostdev(at(*place))))
    one = int(place not in taken)
    express = one if place[0] != 7 else 0
    assert after == Slots(True, before.express - express, before.conventional - (one - express))


@given(st.sets(st.integers(2, 31)), st.integers(2, 31))
def test_the_same_on_i440fx(taken: set[int], slot: int) -> None:
    before = count(domain(PC, *I440FX, *(nic(0, s) for s in taken)))
    after = count(domain(PC, *I440FX, *(nic(0, s) for s in taken), hostdev(at(0, slot))))
    assert before.conventional == 30 - len(taken)
    assert after.conventional == before.conventional - (slot not in taken)
