"""What is seen of a host against what is seen of its recording."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from hostdev_operator.adapters.archive import pack
from hostdev_operator.adapters.kernel import Kernel
from hostdev_operator.adapters.recorder import capture
from hostdev_operator.adapters.recording import open_recording
from hostdev_operator.core.model import Observation
from hostdev_operator.core.recording import Head
from hostdev_operator.ports import Host
from hostdev_operator.reconcile.context import Context
from hostdev_operator.reconcile.observe import observe
from hostdev_operator.simulation.host import FakeHost
from hostdev_operator.simulation.ports import ports

HEAD = Head("lab", {"kernel": "6.12", "libvirt": "11.3.0"})


def made_up(root: Path, libvirt: FakeHost | None = None) -> Host:
    """A host whose kernel is the tree below ``root``; what libvirt and the journal say is ``libvirt``'s."""
    return replace(ports(libvirt or FakeHost()), devices=Kernel(root))


@contextmanager
def replayed(root: Path, host: Host, state_dir: Path | None = None) -> Iterator[Host]:
    """Recorded, packed, unpacked and opened."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "host.tar.zst"
        path.write_bytes(pack(capture(root, host, state_dir or Path(folder) / "none", HEAD)))
        with open_recording(path) as recorded:
            yield recorded


def seen(host: Host) -> Observation:
    """A look at it. libvirt lists in any order, so order does not count."""
    found = observe(host, Context())
    return replace(
        found,
        guests=tuple(sorted(found.guests, key=lambda guest: guest.uuid)),
        uses=tuple(sorted(found.uses, key=lambda use: (use.address, use.what, use.by_guest))),
        pools=tuple(sorted(found.pools, key=lambda pool: pool.name)),
        networks=dict(sorted(found.networks.items())),
    )
