"""`plan --host`: the plan for an object on a host that is not at hand."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from hostdev_operator import __main__
from tests.recordings.__main__ import FOLDER

ASSIGNMENT = """apiVersion: hostdev.dev/v1alpha1
kind: DeviceAssignment
metadata: {name: card, namespace: default}
spec:
  domain: {name: %s}
  source: {pci: {address: "%s"}}
"""


@pytest.mark.parametrize(
    ("host", "guest", "address", "status", "words"),
    [
        ("gpu", "web", "0000:01:00.0", 0, ["0000:01:00.1", "snd_hda_intel", "0000:01:00.3"]),
        ("no-acs", "web", "0000:02:00.0", 1, ["HostCritical", "0000:01:00.0"]),
        # of test_record.py: two NICs of one group, one of them assigned, and an SR-IOV card
        ("lab", "patient", "0000:01:00.0", 0, ["node labhost", "add 0000:01:00.0", "guest patient"]),
        ("lab", "patient", "0000:04:01.0", 1, ["DeviceInUse", "guest patient", "default/recorded"]),
        ("no-iommu", "web", "0000:01:00.0", 1, ["IOMMUDisabled"]),
    ],
)
def test_a_plan_is_made_for_a_recorded_host(
    host: str,
    guest: str,
    address: str,
    status: int,
    words: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("KUBECONFIG", raising=False)
    (tmp_path / "card.yaml").write_text(ASSIGNMENT % (guest, address))
    recording = str(FOLDER / f"{host}.tar.zst")
    monkeypatch.setattr(sys, "argv", ["x", "plan", "-f", str(tmp_path / "card.yaml"), "--host", recording])
    assert __main__.main() == status
    printed = capsys.readouterr().out
    assert [word for word in words if word not in printed] == []


def test_what_is_no_recording_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("KUBECONFIG", raising=False)
    (tmp_path / "card.yaml").write_text(ASSIGNMENT % ("web", "0000:01:00.0"))
    words = ["x", "plan", "-f", str(tmp_path / "card.yaml"), "--host", str(tmp_path / "card.yaml")]
    monkeypatch.setattr(sys, "argv", words)
    assert __main__.main() == 1
    assert "no recording" in capsys.readouterr().err
