"""Guests on the fake host, beside what tests/shell/test_guests.py and test_catalogue.py run."""

from __future__ import annotations

from tests.fakes.samples import small_host
from tests.reconcile.guest_scenarios import network_in_domain_xml
from tests.reconcile.running import Engine


def test_a_network_that_hands_out_vfs_is_refused_in_domain_xml_too() -> None:
    assert network_in_domain_xml(Engine(small_host())) == "PoolNeedsAssignment"
