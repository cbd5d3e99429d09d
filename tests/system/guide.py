"""docs/guide.md: the manifests of its procedures."""

from __future__ import annotations

import re

from tests.system.stack import REPOSITORY

#: Procedure (its heading) -> its manifest, of those that have one.
MANIFESTS = {
    section.partition("\n")[0]: block
    for section in (REPOSITORY / "docs/guide.md").read_text().split("\n### ")[1:]
    for block in re.findall(r"```yaml\n(.*?)```", section, re.DOTALL)
}
POOL = "Make VFs, and a network that hands them out"
#: Of hosts that are not prepared: tests/system/test_preparation.py applies them.
IOMMU, UNSAFE = "Turn the IOMMU on", "Do without interrupt remapping"
