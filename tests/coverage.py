"""docs/coverage.md: which test in the lab shows which feature. ``python -m tests.coverage`` writes it anew.

A test names its features by ``@pytest.mark.mission("A1", ...)``, with ``part=True`` if there is more to them than any
test shows. Read from the source, so nothing is imported or run.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs/coverage.md"
#: Tests in here run in the lab host, and look at it themselves: sysfs, virsh, lspci, ip link.
FOLDERS = ("tests/system", "tests/host", "tests/daemonset", "tests/e2e")
#: Features by their number.
ROWS = {
    "H1": "IOMMU on the kernel command line, for Intel and AMD, by BIOS and EFI boot configurations",
    "H2": "interrupt remapping, and the explicit opt-in without it",
    "H3": "readiness: what is missing and how to mend it; files are written on request; never a reboot",
    "H4": "limits: devices of a guest, open files, locked memory, PCI slots",
    "D1": "every PCI device: address, libvirt's name, class, vendor, product, driver, NUMA node",
    "D2": "IOMMU groups with all members, and what each is",
    "D3": "SR-IOV: PF or VF, total and current VFs, whose VF and which index",
    "D4": "who holds each device",
    "A1": "`<hostdev>` in the persistent XML and in the running guest",
    "A2": "the whole IOMMU group is claimed, or nothing",
    "A3": "`managed='yes'` and `managed='no'`; group mates",
    "A4": "hot plug of one function; multi-function slots while the guest is off",
    "A5": "detach, and everything back to its host driver",
    "A6": "guests with a device from the start, and guests of other tools",
    "A8": "the guest's PCI topology: bridges, root ports",
    "N1": "`<interface type='hostdev'>` with MAC address, VLAN, 802.1Qbh profile, driver",
    "N2": "the MAC address stays over restarts of guest and host",
    "N3": "what is no VF gets no MAC address, VLAN or profile",
    "N4": "saved guests and their images",
    "P1": "a libvirt network that hands out VFs, of a whole PF or by address",
    "P2": "a VF at each start of the guest; MAC address and VLAN, also by portgroup",
    "P3": "the number of VFs, over reboots, and never while one is in use",
    "P4": "the pool's VFs, connections, and who has which",
    "P5": "a guest that moves to another host keeps its assignment",
}
_HEAD = """# Coverage

Generated from the tests' marks by `make crds`; do not edit. Each test runs in a lab host with a real kernel, libvirt,
VFIO and SR-IOV, and looks at it by sysfs, virsh, lspci or `ip link`. *long*: run by `make test-all` alone; *in part*:
the rest of the feature is not there yet.

| | feature | tests |
|---|---|---|
"""


@dataclass(frozen=True)
class Mark:
    """A test that shows a feature."""

    row: str
    file: str
    test: str
    long: bool
    part: bool

    def __str__(self) -> str:
        """For the page."""
        notes = ", ".join(word for word, so in (("long", self.long), ("in part", self.part)) if so)
        return f"{self.file}: `{self.test}`{f' ({notes})' if notes else ''}"


def marks() -> list[Mark]:
    """Of all tests, in the order of files and lines. ValueError for a feature that is not there."""
    files = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("test_*.py"))
    found = [mark for path in files for mark in _of(path)]
    if unknown := {mark.row for mark in found} - ROWS.keys():
        raise ValueError(f"marks of unknown features: {sorted(unknown)}")
    return found


def _of(path: Path) -> Iterator[Mark]:
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        texts = [ast.unparse(decorator) for decorator in node.decorator_list]
        if any(text.startswith("pytest.mark.skip") for text in texts):
            continue
        for decorator in node.decorator_list:
            if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "pytest.mark.mission":
                name, long = path.relative_to(ROOT).as_posix(), "pytest.mark.long" in texts
                for argument in decorator.args:
                    yield Mark(ast.literal_eval(argument), name, node.name, long, part=bool(decorator.keywords))


def page() -> str:
    """The whole text."""
    by_row: dict[str, list[Mark]] = {row: [] for row in ROWS}
    for mark in marks():
        by_row[mark.row].append(mark)
    lines = [f"| {row} | {ROWS[row]} | {'<br>'.join(map(str, by_row[row])) or 'none yet'} |" for row in ROWS]
    return _HEAD + "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
