from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostdev_operator.core.record import Member, Record
from tests.core.test_pci import ADDRESSES
from tests.fakes.samples import LONER, MATE, NIC

MEMBERS = st.builds(Member, ADDRESSES, st.integers(0, 0xFFFF), st.integers(0, 0xFFFF), st.none() | st.text())
RECORDS = st.builds(
    Record, st.text(), st.text(), st.text(), ADDRESSES, st.text(), st.text(), st.booleans(),
    st.lists(MEMBERS).map(tuple), st.integers(1),
)  # fmt: skip


@given(RECORDS)
def test_what_is_written_is_read_again(record: Record) -> None:
    assert Record.from_json(record.to_json()) == record


GOOD = Record("u", "ns", "n", NIC, "d", "web", managed=True, members=(Member(MATE, 1, 2, None),))


@pytest.mark.parametrize(
    "text",
    ["", "null", "[]", "{}", '"x"', GOOD.to_json()[:-20], GOOD.to_json().replace('"format": 1', '"format": 2'),
     GOOD.to_json().replace("domainUUID", "domain"), GOOD.to_json().replace(str(NIC), "x")],
)  # fmt: skip
def test_anything_else_is_an_error_that_the_journal_expects(text: str) -> None:
    with pytest.raises((ValueError, KeyError, TypeError)):
        Record.from_json(text)


def test_a_record_covers_its_device_and_its_members() -> None:
    assert [GOOD.covers(a) for a in (NIC, MATE, LONER)] == [True, True, False]
    assert GOOD.owner == "ns/n"
    assert GOOD.with_members(()).sequence == GOOD.sequence + 1
