from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostdev_operator.core.identity import Identity
from hostdev_operator.core.intent import ASSIGN_ALL, DETACH_UNUSED, REQUIRE_FREE
from hostdev_operator.core.record import Member, Record
from tests.core.test_pci import ADDRESSES
from tests.fakes.samples import LONER, MATE, NIC

IDENTITIES = st.builds(
    Identity, *[st.integers(0, 0xFFFF)] * 4, st.integers(0, 7), st.none() | st.text(), st.text(), st.none() | st.text(),
    st.none() | st.integers(0, 0xFFFF),
)  # fmt: skip
MEMBERS = st.builds(Member, ADDRESSES, IDENTITIES, st.none() | st.text())
RECORDS = st.builds(
    Record, st.text(), st.text(), st.text(), ADDRESSES, st.none() | st.text(), st.none() | st.text(), st.booleans(),
    st.lists(MEMBERS).map(tuple), st.sampled_from([ASSIGN_ALL, DETACH_UNUSED, REQUIRE_FREE]), st.integers(1),
)  # fmt: skip


@given(RECORDS)
def test_what_is_written_is_read_again(record: Record) -> None:
    assert Record.from_json(record.to_json()) == record


GOOD = Record("u", "ns", "n", NIC, "d", "web", managed=True, members=(Member(MATE, Identity(1, 2), None),))


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
    assert GOOD.changed(MATE, ()) == replace(GOOD, address=MATE, members=(), sequence=GOOD.sequence + 1)
