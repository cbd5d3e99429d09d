"""Makes calls to the adapters inside the laboratory host: a line of Python comes in, a line of JSON goes out.

Both ways are FIFOs, named on the command line: a start of Python costs seconds there.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hostdev_operator.adapters.hypervisor import LibvirtHypervisor
from hostdev_operator.adapters.kernel import Kernel
from hostdev_operator.adapters.libvirt_connection import LibvirtConnection
from hostdev_operator.core import actions, network_xml
from hostdev_operator.core.errors import HostError
from hostdev_operator.core.pci import PciAddress
from hostdev_operator.core.sriov import VfConfig

told: list[float] = []
connection = LibvirtConnection("qemu:///system", lambda: told.append(time.monotonic()))
NAMES = {
    "kernel": Kernel(Path("/")),
    "libvirt": LibvirtHypervisor(connection),
    "told": told,
    "actions": actions,
    "network_xml": network_xml,
    "address": PciAddress.parse,
    "VfConfig": VfConfig,
}


def plain(value: object) -> object:
    """What JSON has no form for."""
    if dataclasses.is_dataclass(value) and not isinstance(value, (type, PciAddress)):
        return {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return dict(value)
    return sorted(map(str, value)) if isinstance(value, frozenset) else str(value)


def answer(line: str) -> dict[str, Any]:
    """Make the call: its value, or its reason and message; and how long it took."""
    began = time.monotonic()
    try:
        outcome: dict[str, Any] = {"value": eval(line, dict(NAMES))}  # noqa: S307 - the test's own words
    except HostError as error:
        outcome = {"reason": str(error.reason), "message": error.message}
    except Exception as error:  # noqa: BLE001 - the test says what is wrong with it
        outcome = {"reason": type(error).__name__, "message": str(error)}
    return {**outcome, "seconds": time.monotonic() - began}


def main(incoming: Path, outgoing: Path) -> None:
    """For ever."""
    while True:
        line = incoming.read_text()
        outgoing.write_text(json.dumps(answer(line.strip()), default=plain) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
