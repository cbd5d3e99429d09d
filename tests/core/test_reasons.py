from __future__ import annotations

import re

import pytest

from hostdev_operator.core import reasons
from hostdev_operator.core.reasons import CATALOGUE, Reason, Retry, from_words

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
        ("Failed to set iommu for container: Operation not permitted", reasons.PERMISSION_DENIED),
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
        assert reason.meaning.endswith(".")
        assert isinstance(reason.retry, Retry)
