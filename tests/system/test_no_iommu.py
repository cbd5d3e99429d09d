"""A host that is not prepared: the kernel does not use the IOMMU."""

from __future__ import annotations

from pathlib import Path

from tests.cluster import binaries
from tests.cluster.controlplane import ControlPlane
from tests.lab.guests import define, guest_xml
from tests.lab.host import LabHost
from tests.system.conftest import E1000, drivers
from tests.system.stack import NODE, Stack, assignment


def test_no_iommu(tmp_path: Path) -> None:
    with (
        ControlPlane.start(tmp_path / "control-plane", binaries.ensure()) as plane,
        LabHost.boot(tmp_path / "lab", iommu=False) as lab,
        Stack.start(tmp_path, lab, plane) as stack,
    ):
        conditions = {c["type"]: c for c in stack.wait_host()["conditions"]}
        assert conditions["IOMMUReady"]["status"] == "False"
        assert "intel_iommu=on" in conditions["IOMMUReady"]["message"]
        define(lab, "victim", guest_xml("victim"))
        stack.wait_guest_listed("victim")
        before = drivers(lab), lab.virsh("dumpxml", "victim")
        device = lab.find_devices(E1000)[0]
        stack.apply(assignment("bad", domain="victim", address=device))
        message = stack.wait_condition("bad", "Ready", "False", "IOMMUDisabled")
        assert device in message
        assert "VT-d" in message
        assert (drivers(lab), lab.virsh("dumpxml", "victim")) == before
        assert stack.get("devicehost", NODE)["status"]["groups"] == []
