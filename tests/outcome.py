"""Whether a test has failed, for the fixtures that collect logs after it."""

from __future__ import annotations

import pytest

#: In a test's stash once one of its phases has failed (tests/conftest.py notes it).
FAILED = pytest.StashKey[bool]()
