from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostdev_operator.api.source import PciSource
from hostdev_operator.core.intent import address_of
from hostdev_operator.core.pci import PciAddress

ADDRESSES = st.builds(
    PciAddress,
    st.integers(0, 0x7FFFFFFF),
    st.integers(0, 0xFF),
    st.integers(0, 0x1F),
    st.integers(0, 7),
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0000:01:00.0", PciAddress(0, 1, 0, 0)),
        ("01:00.0", PciAddress(0, 1, 0, 0)),
        ("0000:AF:1f.7", PciAddress(0, 0xAF, 0x1F, 7)),
        ("10000:e1:00.0", PciAddress(0x10000, 0xE1, 0, 0)),
        ("pci_0000_06_02_1", PciAddress(0, 6, 2, 1)),
        ("PCI_10000_06_02_1", PciAddress(0x10000, 6, 2, 1)),
    ],
)
def test_every_spelling_is_read_as_hexadecimal(text: str, expected: PciAddress) -> None:
    assert PciAddress.parse(text) == expected


@given(ADDRESSES)
def test_what_is_printed_is_read_again(address: PciAddress) -> None:
    assert PciAddress.parse(str(address)) == address
    assert PciAddress.parse(address.libvirt_name) == address


@given(ADDRESSES)
def test_numbers_and_hexadecimal_text_mean_the_same(address: PciAddress) -> None:
    numbers = (address.domain, address.bus, address.slot, address.function)
    assert PciAddress.from_numbers(*numbers) == address
    assert PciAddress.from_numbers(*(hex(n) for n in numbers)) == address
    assert PciAddress.from_numbers(*(hex(n).upper().replace("X", "x") for n in numbers)) == address


@pytest.mark.parametrize(
    "text",
    [
        "", "0000:01:00", "0000:01:00.8", "0000:01:20.0", "000:01:00.0", "0000:01:00.0 ", "0000:01:00.0\n",
        "0000_01_00_0", "pci_0000:01:00.0", "../0000:01:00.0", "ffffffff:01:00.0", "0000:1:0.0",
    ],
)  # fmt: skip
def test_anything_else_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"PCI (address|domain)"):
        PciAddress.parse(text)


@pytest.mark.parametrize("numbers", [(0, 256, 0, 0), (0, 0, 32, 0), (0, 0, 0, 8), (-1, 0, 0, 0)])
def test_numbers_out_of_range_are_an_error(numbers: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValueError, match="is not between"):
        PciAddress.from_numbers(*numbers)


def test_decimal_text_is_refused_as_ambiguous() -> None:
    with pytest.raises(ValueError, match="ambiguous"):
        PciAddress.from_numbers(0, "10", 0, 0)
    with pytest.raises(ValueError, match="0xzz"):
        PciAddress.from_numbers(0, "0xzz", 0, 0)


@given(st.text(max_size=24))
def test_no_text_raises_anything_but_value_error(text: str) -> None:
    try:
        address = PciAddress.parse(text)
    except ValueError:
        return
    assert PciAddress.parse(str(address)) == address


def test_a_source_is_an_address_or_numbers() -> None:
    expected = PciAddress(0, 0x1A, 0, 1)
    assert address_of(PciSource(address="0000:1a:00.1")) == expected
    assert address_of(PciSource(bus=26, slot="0x0", function=1)) == expected
    assert address_of(PciSource(domain="0x1", bus=26, slot=0, function=1)) == PciAddress(1, 0x1A, 0, 1)
    with pytest.raises(ValueError, match="either address, or bus"):
        address_of(PciSource(bus=26, slot=0))


def test_addresses_sort_by_number() -> None:
    texts = ["0000:0a:00.0", "0000:02:00.1", "0000:02:00.0", "10000:00:00.0"]
    assert [str(a) for a in sorted(map(PciAddress.parse, texts))] == [texts[2], texts[1], texts[0], texts[3]]
