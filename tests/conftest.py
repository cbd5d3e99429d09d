"""For all tests: note failures where fixtures can see them."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from tests.outcome import FAILED


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Note at the test that one of its phases failed."""
    report = yield
    if report.failed:
        item.stash[FAILED] = True
    return report
