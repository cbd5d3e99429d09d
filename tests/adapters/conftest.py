"""Each host that the tests of the adapters make up is seen the same in its recording, as the test has left it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hostdev_operator.adapters.kernel import Kernel
from hostdev_operator.core.errors import HostError
from hostdev_operator.ports import HostDevices
from tests.adapters.replaying import made_up, replayed
from tests.fakes.sysfs_tree import SysfsTree


@pytest.fixture(autouse=True)
def _replays_the_same(request: pytest.FixtureRequest) -> Iterator[None]:
    tree = request.getfixturevalue("tree") if "tree" in request.fixturenames else None
    yield
    if isinstance(tree, SysfsTree):
        with replayed(tree.root, made_up(tree.root)) as recorded:
            assert answers(recorded.devices, tree.root) == answers(Kernel(tree.root), tree.root)


def answers(devices: HostDevices, root: Path) -> dict[str, object]:
    """What is told of each name that the host has."""
    found: dict[str, object] = {
        "devices": devices.devices(),
        "platform": devices.platform(),
        "pfs": devices.pfs(),
        "uses": told(devices.uses),
    }
    for path in (*root.glob("sys/class/*/*"), *root.glob("dev/**/*")):
        found[f"interface {path.name}"] = told(devices.interface, path.name)
        found[f"SCSI host {path.name}"] = told(devices.scsi_host, path.name)
        node = f"/{path.relative_to(root)}" if path.is_relative_to(root / "dev") else f"/dev/{path.name}"
        found[f"disk {node}"] = devices.block_device(node)
    for path in root.glob("sys/class/block/*/dm/name"):
        node = f"/dev/mapper/{path.read_text().strip()}"
        found[f"disk {node}"] = devices.block_device(node)
    return found


def told(question: Callable[..., object], *arguments: str) -> object:
    """The answer, or what kind of error it is."""
    try:
        return question(*arguments)
    except HostError as error:
        return error.reason
    except OSError as error:
        return error.errno
