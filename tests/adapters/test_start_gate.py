"""What the agent leaves for libvirt's hook, and manifests/host/hostdev-guest-ready, which reads it.

tests/system/test_guest_start.py has libvirt call it.
"""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from hostdev_operator.adapters.start_gate import FOLDER, GateFiles
from hostdev_operator.core.errors import HostError
from hostdev_operator.core.start_gate import BELIEVED_SECONDS, RENEWED_SECONDS
from hostdev_operator.ports import StartGate
from hostdev_operator.simulation.start_gate import FakeGate
from tests.fakes.samples import DB, OTHER_UID, UID, WEB, small_host

SCRIPT = Path(__file__).parents[2] / "manifests/host/hostdev-guest-ready"
SHELLS = [shell for shell in (["dash"], ["bash", "--posix"], ["busybox", "sh"]) if shutil.which(shell[0])]
BOOT, OTHER_BOOT = "5d5ed6ea-7c8b-4d8c-9ce3-000000000001", "5d5ed6ea-7c8b-4d8c-9ce3-000000000002"
OWNER, WHY = "default/nic", "NotClaimed: it's `odd` $(touch /tmp/x) %s \\n"


@dataclass
class Host:
    """A host with the hook installed, and what it said last."""

    root: Path
    shell: list[str] = field(default_factory=lambda: ["sh"])
    said: str = ""

    def __post_init__(self) -> None:
        self.folder = self.root / "state" / FOLDER
        self.folder.mkdir(parents=True)
        (self.root / "proc/sys/kernel/random").mkdir(parents=True)
        self.at(5000)

    def at(self, uptime: float, boot: str = BOOT) -> None:
        """So long after that boot."""
        (self.root / "proc/uptime").write_text(f"{uptime:.2f} 1234.5\n")
        (self.root / "proc/sys/kernel/random/boot_id").write_text(f"{boot}\n")

    def agent(self) -> GateFiles:
        """A new process of the agent."""
        return GateFiles(self.root, self.root / "state")

    def files(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir())

    def starts(self, uuid: str = WEB, *, operation: str = "prepare", xml: str | None = None) -> bool:
        """Whether the hook lets a guest start, called as libvirt does."""
        text = xml or f"<domain type='kvm'>\n  <name>web &lt;uuid&gt;</name>\n  <uuid>{uuid}</uuid>\n</domain>\n"
        command = [*self.shell, str(SCRIPT), "web", operation, "begin", "-"]
        variables = {"HOSTDEV_STATE": str(self.root / "state"), "HOSTDEV_PROC": str(self.root / "proc")}
        ran = subprocess.run(
            command, input=text, env=variables, capture_output=True, text=True, check=False, timeout=60
        )
        assert ran.returncode in (0, 1), ran
        assert ran.stdout == ""  # libvirt takes output for a guest's new XML
        self.said = ran.stderr
        return ran.returncode == 0


@pytest.fixture(params=SHELLS, ids=lambda shell: shell[0])
def host(tmp_path: Path, request: pytest.FixtureRequest) -> Host:
    return Host(tmp_path, request.param)


def test_that_guest_alone_is_refused_until_it_is_opened(host: Host) -> None:
    gate = host.agent()
    gate.close(UID, WEB, OWNER, WHY)
    assert not host.starts()
    assert f"guest web must not start without its device yet: {OWNER}: {WHY}" in host.said
    assert str(host.folder / host.files()[0]) in host.said
    assert host.starts(DB)
    assert host.said == ""
    gate.open(UID)
    assert host.starts()
    assert (host.said, host.files()) == ("", [])


def test_each_of_a_guests_assignments_holds_it_up(host: Host) -> None:
    gate = host.agent()
    gate.close(UID, WEB, OWNER, WHY)
    gate.close(OTHER_UID, WEB, "default/disk", WHY)
    gate.open(UID)
    assert not host.starts()
    assert "default/disk" in host.said
    gate.open(OTHER_UID)
    assert host.starts()


@pytest.mark.parametrize("operation", ["start", "started", "stopped", "release", "migrate", "restore", "reconnect"])
def test_it_is_asked_at_the_beginning_of_a_start_alone(host: Host, operation: str) -> None:
    host.agent().close(UID, WEB, OWNER, WHY)
    assert host.starts(operation=operation)


def test_what_no_agent_renews_is_not_believed_for_ever(host: Host) -> None:
    host.agent().close(UID, WEB, OWNER, WHY)
    host.at(5000 + BELIEVED_SECONDS)
    assert not host.starts()
    host.at(5001 + BELIEVED_SECONDS)
    assert host.starts()
    assert "no agent has written" in host.said


def test_after_a_boot_the_agent_has_that_time_from_there(host: Host) -> None:
    host.agent().close(UID, WEB, OWNER, WHY)
    host.at(20, OTHER_BOOT)
    assert not host.starts()
    host.at(BELIEVED_SECONDS, OTHER_BOOT)
    assert not host.starts()
    host.at(1 + BELIEVED_SECONDS, OTHER_BOOT)
    assert host.starts()


def test_an_agent_that_lives_renews_it(host: Host) -> None:
    gate = host.agent()
    gate.close(UID, WEB, OWNER, WHY)
    for uptime in range(5000, 5000 + 3 * BELIEVED_SECONDS, 60):
        host.at(uptime)
        gate.keep({UID})
    assert not host.starts()


def test_what_was_removed_by_hand_stays_so_until_it_is_renewed(host: Host) -> None:
    gate = host.agent()
    gate.close(UID, WEB, OWNER, WHY)
    (host.folder / host.files()[0]).unlink()
    gate.close(UID, WEB, OWNER, WHY)
    gate.keep({UID})
    assert host.starts()
    host.at(5000 + RENEWED_SECONDS)
    gate.keep({UID})
    assert not host.starts()


@pytest.mark.parametrize(
    "content", ["", "\n", "x\n", f"{BOOT} x\nwhy\n", f"{BOOT} -5\nwhy\n", f"{BOOT} 99999999999\nw\n"]
)
def test_a_file_that_makes_no_sense_holds_nobody_up(host: Host, content: str) -> None:
    (host.folder / f"{WEB}_{UID}.wait").write_text(content)
    assert host.starts()


def test_whatever_is_missing_holds_nobody_up(host: Host) -> None:
    host.agent().close(UID, WEB, OWNER, WHY)
    assert host.starts(xml="<domain/>")
    assert host.starts(xml="<uuid>*</uuid>")
    (host.root / "proc/uptime").unlink()
    assert host.starts()
    host.at(5000)
    assert not host.starts()
    shutil.rmtree(host.root / "state")
    assert host.starts()


def test_links_and_folders_are_no_files(host: Host) -> None:
    (host.root / "elsewhere").write_text(f"{BOOT} 5000\nwhy\n")
    (host.folder / f"{WEB}_{UID}.wait").symlink_to(host.root / "elsewhere")
    (host.folder / f"{WEB}_{OTHER_UID}.wait").mkdir()
    assert host.starts()


# -- the agent's side --------------------------------------------------------------------------------------------------


def test_the_same_again_writes_nothing(tmp_path: Path) -> None:
    host = Host(tmp_path)
    gate = host.agent()
    gate.close(UID, WEB, OWNER, WHY)
    before = (host.folder / host.files()[0]).stat()
    gate.close(UID, WEB, OWNER, WHY)
    gate.keep({UID})
    assert (host.folder / host.files()[0]).stat() == before
    gate.close(UID, WEB, OWNER, "another reason")
    assert "another reason" in (host.folder / host.files()[0]).read_text()


def test_another_process_takes_over_what_it_finds(tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.agent().close(UID, WEB, OWNER, WHY)
    host.agent().keep({UID})
    assert not host.starts()
    later = host.agent()
    later.close(UID, DB, OWNER, WHY)  # bound to another guest meanwhile
    assert (host.starts(WEB), host.starts(DB)) == (True, False)
    host.agent().open(UID)
    assert host.files() == []


def test_what_nobody_asks_for_is_removed_and_nothing_else(tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.agent().close(UID, WEB, OWNER, WHY)
    (host.folder / "README").write_text("")
    gate = host.agent()
    gate.close(OTHER_UID, DB, OWNER, WHY)
    gate.keep(set())
    assert host.files() == ["README"]


def test_without_the_folder_there_is_no_hook(tmp_path: Path) -> None:
    host = Host(tmp_path)
    gate = host.agent()
    gate.close(UID, WEB, OWNER, WHY)
    shutil.rmtree(host.folder)
    assert not gate.installed()
    gate.open(UID)
    gate.keep(set())
    with pytest.raises(HostError, match="guest-start"):
        gate.close(UID, WEB, OWNER, WHY)
    assert not host.folder.exists()


@pytest.mark.parametrize("kind", ["fake", "real"])
def test_gate_contract(kind: str, tmp_path: Path) -> None:
    gate: StartGate
    if kind == "fake":
        fake = small_host()
        fake.start_hook = True
        gate = FakeGate(fake)
    else:
        host = Host(tmp_path)
        gate = host.agent()

    def closed() -> list[str]:
        texts = (
            [why for _, why in fake.closed.values()]
            if kind == "fake"
            else [(host.folder / name).read_text().splitlines()[1] for name in host.files()]
        )
        return sorted(texts)

    assert gate.installed()
    gate.open(UID)
    gate.close(UID, WEB, OWNER, "one")
    gate.close(UID, WEB, OWNER, "two")
    gate.close(OTHER_UID, WEB, OWNER, "three")
    assert closed() == [f"{OWNER}: three", f"{OWNER}: two"]
    gate.keep({UID})
    assert closed() == [f"{OWNER}: two"]
    gate.open(UID)
    gate.open(UID)
    assert closed() == []
