"""A docker of the tests' own, in namespaces of its own, of which nothing is left when it ends.

Its network has no way out: not to the machine, and not from there to anywhere. So a cluster in it can ask nobody for
anything, and the machine's own interfaces, routes and filters are not touched. All its processes are in one PID
namespace: they end with its first one, which the kernel kills if this process dies.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.cluster import processes

HERE = Path(__file__).resolve().parent
_SECONDS = 120.0
_CGROUP = "hostdev-kind-"
_CGROUPS = Path("/sys/fs/cgroup")
# The shell is PID 1: it reaps what containers leave to it, and ends with dockerd.
_INIT = """
ip link set lo up
"$@" &
docker=$!
trap 'kill -TERM $docker' TERM
wait $docker || wait $docker
"""


class DockerError(RuntimeError):
    """dockerd ended or never answered; the message has the end of its log."""


class Dockerd:
    """A dockerd whose data, sockets and log are below ``folder``, from :meth:`start` to :meth:`stop`.

    ``folder`` must not be on an overlay file system: docker makes overlays there itself.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._log = folder / "dockerd.log"
        # short: a socket's path has a limit
        self._socket = folder / "docker.sock"
        self._cgroup = f"{_CGROUP}{os.getpid()}"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        """Start it. Raises DockerError; nothing is left then."""
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Stop it, with all that runs in it, and remove what it has written."""
        self.stop()

    def environment(self) -> dict[str, str]:
        """With it docker and kind find this one. What would lead elsewhere is left out."""
        left_out = {"http_proxy", "https_proxy", "all_proxy", "no_proxy", "docker_context", "docker_config"}
        kept = {name: value for name, value in os.environ.items() if name.lower() not in left_out}
        return {**kept, "DOCKER_HOST": f"unix://{self._socket}", "DOCKER_CONFIG": str(self._folder / "config")}

    def inside(self) -> list[str]:
        """Words before a command that then runs in its network: where the API server's port is."""
        return ["nsenter", f"--net=/proc/{self._first()}/ns/net"]

    def _first(self) -> int:
        """The PID of its first process, as the machine sees it."""
        assert self._process is not None
        pid = self._process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
        if not children:
            raise DockerError(f"dockerd ended; the end of its log:\n{self._tail()}")
        return int(children[0])

    def _start(self) -> None:
        kind = subprocess.run(["stat", "-f", "-c", "%T", self._folder], capture_output=True, text=True, check=True)
        if kind.stdout.strip() == "overlayfs":
            text = f"{self._folder} is on an overlay, where docker can make none: set TMPDIR to a folder of a real disk"
            raise DockerError(text)
        _remove_leftovers()
        command = [
            "unshare",
            *(
                "--mount",
                "--net",
                "--pid",
                "--fork",
                "--kill-child",
                "--mount-proc",
                "--",
                "/bin/sh",
                "-c",
                _INIT,
                "sh",
            ),
            *("dockerd", "--host", f"unix://{self._socket}", "--pidfile", str(self._folder / "docker.pid")),
            *("--data-root", str(self._folder / "data"), "--exec-root", str(self._folder / "exec")),
            *("--config-file", str(self._folder / "daemon.json"), "--bridge", "none", "--storage-driver", "overlay2"),
            *("--add-runtime", f"fitted={HERE / 'runc_fitted.py'}", "--default-runtime", "fitted"),
            *("--exec-opt", "native.cgroupdriver=cgroupfs", "--cgroup-parent", f"/{self._cgroup}"),
        ]
        (self._folder / "daemon.json").write_text("{}")
        environment = {**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}
        with self._log.open("ab") as log:
            self._process = processes.die_with_parent(command, cwd=self._folder, env=environment, stdout=log)
        deadline = time.monotonic() + _SECONDS
        while subprocess.run(
            ["docker", "version"], env=self.environment(), capture_output=True, check=False
        ).returncode:
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise DockerError(f"dockerd does not answer; the end of its log:\n{self._tail()}")
            time.sleep(0.1)

    def stop(self) -> None:
        """End all its processes, and remove its folder and its cgroups. Raises DockerError if that cannot be done."""
        if self._process is not None:
            # its child dies with it, by --kill-child, and so does the PID namespace
            self._process.kill()
            self._process.wait()
            self._process = None
        deadline = time.monotonic() + _SECONDS
        # the kernel takes its time to end a namespace
        while _remove_cgroups(self._cgroup) or self._folder.exists():
            shutil.rmtree(self._folder, ignore_errors=True)
            if time.monotonic() > deadline:
                raise DockerError(f"{self._folder} or the cgroups {self._cgroup} cannot be removed")
            time.sleep(0.1)

    def _tail(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")[-4000:]


def _remove_cgroups(name: str) -> list[Path]:
    """The deepest first; those that are not empty are left, and returned."""
    tops = [path for place in (".", "*") for path in _CGROUPS.glob(f"{place}/{name}")]
    for top in tops:
        for folder in sorted([top, *(path for path in top.rglob("*") if path.is_dir())], reverse=True):
            with contextlib.suppress(OSError):
                folder.rmdir()
    return [top for top in tops if top.exists()]


def _remove_leftovers() -> None:
    """Cgroups of processes that were killed before they could do it."""
    for path in {path.name for place in (".", "*") for path in _CGROUPS.glob(f"{place}/{_CGROUP}*")}:
        if not Path(f"/proc/{path.removeprefix(_CGROUP)}").exists():
            _remove_cgroups(path)
