from __future__ import annotations

import pytest
from pydantic import ValidationError

from hostdev_operator.api.network import NetworkSettings
from hostdev_operator.api.source import MatchSource, Source
from hostdev_operator.api.vfpool import PfSelector, VFPoolSpec

MAC = "52:54:00:ab:cd:ef"


@pytest.mark.parametrize("text", [MAC, MAC.upper(), "52:54:00:aB:Cd:eF"])
def test_a_mac_address_is_read_in_lower_case_wherever_it_stands(text: str) -> None:
    assert NetworkSettings(mac=text).mac == MAC
    assert PfSelector.model_validate({"mac": text}).mac == MAC
    assert MatchSource.model_validate({"pfMAC": text, "vfIndex": 0}).pf_mac == MAC
    assert NetworkSettings(mac=text).wire() == {"mac": MAC}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "53:54:00:ab:cd:ef",
        "ff:ff:ff:ff:ff:ff",
        "00:00:00:00:00:00",
        "52-54-00-ab-cd-ef",
        "52:54:00:ab:cd",
        "52:54:00:ab:cd:ef\n",
        '"><x',
    ],
)
def test_what_no_nic_can_have_is_no_mac_address(text: str) -> None:
    with pytest.raises(ValidationError, match="mac"):
        NetworkSettings(mac=text)


@pytest.mark.parametrize("tag", [-1, 0, 4095])
def test_a_vlan_tag_is_one_that_exists(tag: int) -> None:
    with pytest.raises(ValidationError, match="vlan"):
        NetworkSettings(vlan=tag)


@pytest.mark.parametrize("field", ["name", "portgroup"])
def test_a_name_of_a_pool_or_portgroup_can_hold_no_markup(field: str) -> None:
    with pytest.raises(ValidationError, match=field):
        Source.model_validate({"pool": {"name": "fast", field: '"><x'}})


def test_a_pool_that_says_little_has_the_careful_defaults() -> None:
    spec = VFPoolSpec.model_validate({"pf": {"name": "ens1f0"}, "numVFs": 7})
    assert (spec.bind_host_driver, spec.link_up, spec.externally_managed) == (False, False, False)
    assert (spec.network.adopt, spec.network.portgroups) == ("IfEqual", ())
    assert spec.vf_settings.wire() == {}
