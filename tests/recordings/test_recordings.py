"""What the engine says to typical assignments on hosts that are recorded, and not at hand."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest

from hostdev_operator.adapters.archive import pack, unpack
from hostdev_operator.adapters.recording import open_recording, read_head
from hostdev_operator.core.actions import DetachDriver
from hostdev_operator.core.kinds import kind_of
from hostdev_operator.core.masking import mask
from hostdev_operator.core.model import Observation
from hostdev_operator.core.pci import PciAddress
from hostdev_operator.core.plan import Plan
from hostdev_operator.reconcile.context import Context
from hostdev_operator.reconcile.observe import observe
from tests.fakes.samples import wish
from tests.recordings.__main__ import FOLDER, recorded
from tests.recordings.hosts import HOSTS

RESERVATION: dict[str, Any] = {"guest": None}
FREE: dict[str, Any] = {"groupPolicy": "RequireFree"}
NIC_WITH_MAC: dict[str, Any] = {"network": {"mac": "52:54:00:aa:bb:01", "vlan": 7}}

#: Recording, address of the device, what else the assignment says; then either the devices that are detached from the
#: host beside the assigned one, or the reason of the refusal and a word of its message.
CASES: list[tuple[str, str, dict[str, Any], list[str] | tuple[str, str]]] = [
    # the dummy host bridge and the root port of the group are nobody's business
    ("amd", "0000:02:00.0", {}, []),
    ("amd", "0000:03:00.3", {}, []),
    ("amd", "0000:01:00.0", {}, ("HostCritical", "mounted on /")),
    ("amd", "0000:00:14.0", {}, []),
    ("amd", "0000:00:14.3", {}, ("NotAssignable", "0000:00:14.3")),
    ("amd", "0000:00:18.3", {}, ("NotAssignable", "0000:00:18.3")),
    ("amd", "0000:00:03.1", {}, ("NotAssignable", "0000:00:03.1")),
    # a card's functions go together
    ("gpu", "0000:01:00.0", {}, ["0000:01:00.1", "0000:01:00.2", "0000:01:00.3"]),
    ("gpu", "0000:01:00.1", {}, ["0000:01:00.0", "0000:01:00.2", "0000:01:00.3"]),
    ("gpu", "0000:01:00.0", {"groupPolicy": "AssignAll"}, ["0000:01:00.1", "0000:01:00.2", "0000:01:00.3"]),
    ("gpu", "0000:01:00.0", FREE, ("GroupNotFree", "0000:01:00.1")),
    ("gpu", "0000:00:02.0", {}, ("HostCritical", "console")),
    # VFs of a PF that the host needs can be given away, the PF cannot
    ("sriov-bond", "0000:01:10.0", {}, []),
    ("sriov-bond", "0000:01:10.0", NIC_WITH_MAC, []),
    ("sriov-bond", "0000:01:10.2", {}, ("DeviceInUse", "db")),
    ("sriov-bond", "0000:01:00.0", {}, ("DeviceInUse", "4 VFs")),
    ("sriov-bond", "0000:01:00.1", {}, ("HostCritical", "bond0")),
    ("sriov-bond", "0000:01:00.1", NIC_WITH_MAC, ("NotVirtualFunction", "0000:01:00.1")),
    # ACS in the switch decides
    ("nvme-switch", "0000:03:00.0", {}, ("HostCritical", "mounted on /")),
    ("nvme-switch", "0000:04:00.0", {}, []),
    ("nvme-switch", "0000:05:00.0", RESERVATION, []),
    ("nvme-switch", "0000:12:00.0", {}, ("HostCritical", "/srv/data")),
    ("nvme-switch", "0000:13:00.0", {}, ("HostCritical", "0000:12:00.0")),
    ("nvme-switch", "0000:02:01.0", {}, ("NotAssignable", "0000:02:01.0")),
    # one group with the root disk in it
    ("no-acs", "0000:02:00.0", {}, ("HostCritical", "0000:01:00.0")),
    ("no-acs", "0000:03:00.0", {}, ("HostCritical", "0000:01:00.0")),
    ("no-acs", "0000:03:00.0", FREE, ("GroupNotFree", "0000:01:00.0")),
    ("no-acs", "0000:00:17.0", {}, []),
    # behind VMD all is the controller's group
    ("vmd", "10000:e1:00.0", {}, ("HostCritical", "mounted on /")),
    ("vmd", "10000:e2:00.0", {}, ("HostCritical", "mounted on /")),
    ("vmd", "0000:00:0e.0", {}, ("HostCritical", "mounted on /")),
    ("vmd", "0000:01:00.0", {}, []),
    # without an IOMMU nothing is given away
    ("no-iommu", "0000:01:00.0", {}, ("IOMMUDisabled", "")),
    ("no-iommu", "0000:01:00.0", RESERVATION, ("IOMMUDisabled", "")),
    ("no-iommu", "0000:7f:00.0", {}, ("DeviceNotFound", "0000:7f:00.0")),
]


@cache
def look(name: str) -> Observation:
    with open_recording(FOLDER / f"{name}.tar.zst") as host:
        return observe(host, Context())


@pytest.mark.parametrize(("name", "address", "more", "expected"), CASES)
def test_what_the_engine_says(
    name: str, address: str, more: dict[str, Any], expected: list[str] | tuple[str, str]
) -> None:
    asked = wish(PciAddress.parse(address), **more)
    answer = kind_of(asked).decide(asked, look(name)).answer
    if isinstance(expected, tuple):
        assert not isinstance(answer, Plan), answer
        assert str(answer.reason) == expected[0], answer.message
        assert expected[1] in answer.message
    else:
        assert isinstance(answer, Plan), answer
        detached = [str(a.address) for a in answer.actions if isinstance(a, DetachDriver)]
        assert [a for a in detached if a != address] == expected


def reservations(host: Observation) -> dict[PciAddress, tuple[str, ...]]:
    """For each function the devices that a reservation detaches, or the reason of its refusal."""
    found = {}
    for address in host.devices:
        asked = wish(address, guest=None)
        answer = kind_of(asked).decide(asked, host).answer
        actions = answer.actions if isinstance(answer, Plan) else ()
        detached = tuple(str(a.address) for a in actions if isinstance(a, DetachDriver))
        found[address] = detached if isinstance(answer, Plan) else (str(answer.reason),)
    return found


@pytest.mark.parametrize("name", HOSTS)
def test_masks_change_no_plan(name: str, tmp_path: Path) -> None:
    path, plain = tmp_path / "masked.tar.zst", look(name)
    path.write_bytes(pack(mask(unpack((FOLDER / f"{name}.tar.zst").read_bytes()))))
    with open_recording(path) as host:
        masked = observe(host, Context())
    assert reservations(masked) == reservations(plain)
    assert {d.address: d.driver for d in masked.devices.values()} == {
        d.address: d.driver for d in plain.devices.values()
    }
    hidden = {d.serial for d in plain.devices.values() if d.serial} | {pf.mac for pf in plain.pfs.values()}
    hidden |= {guest.uuid for guest in plain.guests}
    assert [value for value in hidden if value and value in repr(masked)] == []


@pytest.mark.parametrize("name", HOSTS)
def test_the_recordings_are_those_of_the_hosts_that_are_described(name: str) -> None:
    """If a host is changed on purpose: python -m tests.recordings."""
    assert unpack((FOLDER / f"{name}.tar.zst").read_bytes()) == recorded(name)


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.tar.zst")), ids=lambda path: Path(path).name)
def test_every_recording_can_be_looked_at(path: Path) -> None:
    """Those of real hosts, too: lab.tar.zst, once it is there."""
    read_head(path)
    with open_recording(path) as host:
        seen = observe(host, Context())
    assert seen.devices
    assert seen.unknown_use is None
