"""Records the hosts of hosts.py into this folder: ``python -m tests.recordings``."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from hostdev_operator.adapters.archive import pack
from hostdev_operator.adapters.recorder import capture
from hostdev_operator.core.recording import Entry, Head
from tests.recordings.hosts import HOSTS

FOLDER = Path(__file__).parent


def recorded(name: str) -> dict[str, Entry]:
    """The recording of a host of hosts.py, made now."""
    with TemporaryDirectory() as folder:
        board = HOSTS[name](Path(folder) / "host")
        head = Head(name, {"kernel": "6.12.0", "libvirt": "11.3.0"})
        return capture(board.root, board.host(), Path(folder) / "none", head)


if __name__ == "__main__":
    for one in HOSTS:
        (FOLDER / f"{one}.tar.zst").write_bytes(pack(recorded(one)))
