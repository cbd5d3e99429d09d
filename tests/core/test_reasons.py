from __future__ import annotations

import re

import pytest

from hostdev_operator.core import reasons
from hostdev_operator.core.reasons import CATALOGUE, TOPICS, Reason, Retry, from_words

WITH_WORDS = [(reason, word) for reason in CATALOGUE.values() for word in reason.words]


@pytest.mark.parametrize(("reason", "word"), WITH_WORDS, ids=str)
def test_each_reason_is_found_by_each_of_its_words(reason: Reason, word: str) -> None:
    assert from_words(f"error: something: {word} (code 1)") is reason


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("unsupported configuration: host doesn't support passthrough of host PCI devices", reasons.IOMMU_DISABLED),
        ("vfio 0000:01:00.0: group 12 is not viable", reasons.IOMMU_GROUP_NOT_VIABLE),
        ("Requested operation is not valid: PCI device 0000:01:00.0 is in use by driver QEMU, domain db",
         reasons.DEVICE_IN_USE),
        ("Operation not supported: Unmanaged PCI device 0000:01:00.0 must be manually detached from the host",
         reasons.NOT_DETACHED),
        ("internal error: No more available PCI slots", reasons.NO_GUEST_PCI_SLOT),
        ("Failed to connect socket to '/var/run/libvirt/libvirt-sock': Connection refused",
         reasons.LIBVIRT_UNAVAILABLE),
        ("Failed to connect socket to '/var/run/libvirt/libvirt-sock': Permission denied",
         reasons.LIBVIRT_UNAVAILABLE),
        ("vfio 0000:01:00.0: failed to open /dev/vfio/12: Device or resource busy", reasons.VFIO_GROUP_BUSY),
        ("cannot open /dev/vfio/12: Permission denied", reasons.PERMISSION_DENIED),
        ("cannot open file '/dev/vfio/12': Operation not permitted", reasons.PERMISSION_DENIED),
        ("vfio 0000:01:00.0: failed to setup container for group 13: Failed to set iommu for container: Operation not"
         " permitted", reasons.INTERRUPT_REMAPPING_UNAVAILABLE),
        ("vfio 0000:01:00.0: failed to setup container for group 13: Failed to set group container: Invalid argument",
         reasons.FIRMWARE_RESERVED_MEMORY),
        ("vfio 0000:01:00.0: no iommu_group found: No such file or directory", reasons.IOMMU_DISABLED),
        ("vfio 0000:01:00.0: no such host device: No such file or directory", reasons.DEVICE_NOT_FOUND),
        ("internal error: Device 0000:01:00.0 not found: could not access /sys/bus/pci/devices/0000:01:00.0/config",
         reasons.DEVICE_NOT_FOUND),
        ("unsupported configuration: host doesn't support VFIO PCI passthrough", reasons.IOMMU_DISABLED),
        ("internal error: Failed to load PCI driver module mlx5_vfio_pci: administratively prohibited",
         reasons.VFIO_MODULE_MISSING),
        ("Could not open '/dev/vfio/vfio': No such file or directory", reasons.VFIO_MODULE_MISSING),
        ("Could not open '/dev/vfio/12': Device or resource busy", reasons.VFIO_GROUP_BUSY),
        ("internal error: PCI device 0000:01:10.1 allocated from network vfs is already in use by domain db",
         reasons.DEVICE_IN_USE),
        ("internal error: unable to execute QEMU command 'device_del': Device hostdev0 is already in the process of"
         " unplug", reasons.UNPLUG_PENDING),
        ("operation failed: unplug of device was rejected by the guest", reasons.UNPLUG_REJECTED),
        ("internal error: unable to execute QEMU command 'device_del': Hot-unplug failed: guest is busy (power"
         " indicator blinking)", reasons.UNPLUG_REJECTED),
        ("internal error: unable to execute QEMU command 'device_add': Bus 'pci.1' does not support hotplugging",
         reasons.NO_GUEST_PCI_SLOT),
        ("vfio 0000:01:00.0: failed to setup container for group 13: memory listener initialization failed: Region"
         " pc.ram: vfio_container_dma_map(0x55d0, 0x0, 0x40000000, 0x7f00) = -12 (Cannot allocate memory)",
         reasons.MEMLOCK_EXCEEDED),
        ("cannot limit locked memory of process 7 to 1073741824: Operation not permitted", reasons.MEMLOCK_EXCEEDED),
        ("cannot set up guest memory 'pc.ram': Cannot allocate memory", reasons.LIBVIRT_ERROR),
        ("internal error: Unknown PCI header type '127' for device '0000:01:00.0'", reasons.DEVICE_RESET_FAILED),
        ("internal error: Unable to reset PCI device 0000:01:00.0: no FLR, PM reset or bus reset available",
         reasons.DEVICE_RESET_FAILED),
        ("vfio-pci 0000:01:00.0: BAR 1: can't reserve [mem 0xc0000000-0xcfffffff 64bit pref]",
         reasons.BOOT_FRAMEBUFFER_IN_USE),
        ("failed to connect to monitor socket: Connection refused", reasons.LIBVIRT_ERROR),
        ("internal error: client socket is closed", reasons.LIBVIRT_UNAVAILABLE),
        ('vfio_iommu_type1: No interrupt remapping support. Use the module param "allow_unsafe_interrupts"',
         reasons.INTERRUPT_REMAPPING_UNAVAILABLE),
        ("Node device not found: no node device with matching name 'pci_0000_01_00_0'", reasons.DEVICE_NOT_FOUND),
        ("XML error: something new", reasons.LIBVIRT_ERROR),
        ("", reasons.LIBVIRT_ERROR),
    ],
)  # fmt: skip
def test_whole_messages_find_their_reason(message: str, reason: Reason) -> None:
    assert from_words(message) is reason


def test_rows_are_complete_and_named_as_conditions_want_them() -> None:
    for name, reason in CATALOGUE.items():
        assert name == str(reason) == reason.name
        assert re.fullmatch(r"[A-Z][A-Za-z]{2,63}", name)
        assert isinstance(reason.retry, Retry)
        assert reason.topic in TOPICS
        for text in (reason.meaning, reason.remedy):
            assert re.fullmatch(r"[A-Za-z`].{10,}\.", text)
            assert text.count("`") % 2 == 0
        assert reason.remedy != reason.meaning


def test_no_row_takes_the_words_of_a_later_one() -> None:
    """A word that is part of a later row's word would find its own row in that one's messages."""
    taken = [
        (first, word, second, other)
        for i, (first, word) in enumerate(WITH_WORDS)
        for second, other in WITH_WORDS[i + 1 :]
        if word in other
    ]
    assert taken == []


def test_words_are_unique_and_no_word_is_needless() -> None:
    words = [word for _, word in WITH_WORDS]
    assert len(words) == len(set(words))
    for reason in CATALOGUE.values():
        assert [(a, b) for a in reason.words for b in reason.words if a != b and a in b] == []


def test_the_widest_words_stand_last() -> None:
    """What the C library says can follow in any message, so a row that knows more must come before it."""
    wide = {reasons.VFIO_GROUP_BUSY, reasons.PERMISSION_DENIED}
    names = [reason for reason in CATALOGUE.values() if reason.words]
    assert set(names[-2:]) == wide
