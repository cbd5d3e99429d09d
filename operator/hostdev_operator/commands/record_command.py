"""``python -m hostdev_operator record``: writes what the agent reads of this host into a file."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from .hosts import add_host_arguments, looked_at, read_only


def add_record(roles: Any) -> None:
    """Its part of the command line. ``roles``: the subparsers."""
    parser = roles.add_parser("record", help="record this host into a file, to be looked at elsewhere")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="such as host.tar.zst")
    parser.add_argument("--mask", action="store_true", help="hide serial numbers, MAC addresses, UUIDs, host names")
    add_host_arguments(parser)


def run_record(arguments: argparse.Namespace) -> None:
    """HostError if libvirt does not answer, OSError if the file cannot be written."""
    from ..adapters.archive import pack
    from ..adapters.recorder import capture, versions
    from ..core.masking import mask
    from ..core.recording import Head

    connection = read_only(arguments)
    host = looked_at(arguments, "record changes nothing", connection)
    head = Head(os.uname().nodename, versions(arguments.host_root, connection))
    tree = capture(arguments.host_root, host, arguments.state_dir, head)
    arguments.output.touch(mode=0o600)  # nobody else's business until its owner says so
    arguments.output.write_bytes(pack(mask(tree) if arguments.mask else tree))
