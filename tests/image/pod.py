"""Runs a pod's container from the built image as its manifest says, with runc alone: no kubelet, no daemon.

User, capabilities, seccomp (the default profile of Debian's container packages), no_new_privs, read-only root and
mounts are those of the manifest. It has the machine's network, and processes of its own.
"""

from __future__ import annotations

import json
import platform
import subprocess
import tarfile
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.cluster import processes

Body = dict[str, Any]

_SECONDS = 60.0
_SECCOMP = Path("/usr/share/containers/seccomp.json")
_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


class Rootfs:
    """An unpacked image, and what its configuration says."""

    def __init__(self, archive: Path, folder: Path) -> None:
        self.path = folder
        folder.mkdir()
        with tarfile.open(archive) as packed:
            manifest = _json(packed, "manifest.json")[0]
            self.config: Body = _json(packed, manifest["Config"])["config"]
            for name in manifest["Layers"]:
                with tarfile.open(fileobj=packed.extractfile(name)) as layer:
                    self._lay(layer)

    def _lay(self, layer: tarfile.TarFile) -> None:
        members = []
        for member in layer:
            place = Path(member.name)
            if place.name.startswith(".wh."):
                gone = self.path / place.parent / place.name.removeprefix(".wh.")
                subprocess.run(["rm", "-rf", str(gone)], check=True)
            else:
                members.append(member)
        layer.extractall(self.path, members, filter="fully_trusted")  # noqa: S202 - our own image


def _json(packed: tarfile.TarFile, name: str) -> Any:
    found = packed.extractfile(name)
    assert found is not None, name
    return json.load(found)


class Running:
    """A container that runs, until the block that it is entered for ends."""

    def __init__(self, folder: Path) -> None:
        self._runc = ["runc", "--root", str(folder / "runc")]
        self._name = f"hostdev-{uuid.uuid4().hex[:12]}"
        self._out = folder / "out"
        with self._out.open("ab") as out:
            words = [*self._runc, "run", "--bundle", str(folder), self._name]
            self.process: subprocess.Popen[bytes] = processes.die_with_parent(words, cwd=folder, stdout=out)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        subprocess.run([*self._runc, "delete", "--force", self._name], check=False, capture_output=True)
        processes.end(self.process, 20)

    def out(self) -> str:
        """All that it has printed."""
        return self._out.read_text(errors="replace")

    def wait_for(self, what: str, fits: Callable[[], bool]) -> None:
        """Until it is so; it must not end before."""
        deadline = time.monotonic() + _SECONDS
        while not fits():
            assert self.process.poll() is None, self.out()[-4000:]
            assert time.monotonic() < deadline, f"{what}\n{self.out()[-4000:]}"
            time.sleep(0.02)

    def ends_when_told(self) -> None:
        """In order, by SIGTERM, as a kubelet tells it."""
        subprocess.run([*self._runc, "kill", self._name, "TERM"], check=True)
        assert self.process.wait(_SECONDS) == 0, self.out()[-4000:]
        assert "Traceback" not in self.out()


class Pod:
    """A container of a pod. ``account``: the folder with its token; ``places``: a folder for each volume."""

    def __init__(
        self, rootfs: Rootfs, spec: Body, values: Mapping[str, str], account: Path | None, places: Mapping[str, Path]
    ) -> None:
        self._rootfs = rootfs
        self._spec = spec
        self._container: Body = spec["containers"][0]
        self._values = dict(values)
        self._values |= {entry["name"]: entry["value"] for entry in self._container["env"] if "value" in entry}
        self._account = account
        self._places = places

    def start(self, folder: Path, command: Sequence[str] | None = None) -> Running:
        """In the folder, which it makes. ``command`` in the place of the image's and the manifest's."""
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps(self._configuration(command)))
        return Running(folder)

    def _configuration(self, command: Sequence[str] | None) -> Body:
        context = {**self._spec.get("securityContext", {}), **self._container["securityContext"]}
        kept = [f"CAP_{name}" for name in context["capabilities"].get("add", [])]
        words = command or [*self._rootfs.config["Entrypoint"], *map(self._expanded, self._container["args"])]
        return {
            "ociVersion": "1.0.2",
            "process": {
                "user": {"uid": context["runAsUser"], "gid": context["runAsGroup"]},
                "args": list(words),
                "env": [*self._rootfs.config["Env"], *(f"{name}={value}" for name, value in self._values.items())],
                "cwd": self._rootfs.config.get("WorkingDir") or "/",
                "capabilities": {"bounding": kept, "effective": kept, "permitted": kept},
                "noNewPrivileges": not context["allowPrivilegeEscalation"],
            },
            "root": {"path": str(self._rootfs.path), "readonly": context["readOnlyRootFilesystem"]},
            "mounts": [*_own_mounts(), *self._mounts()],
            "linux": {
                "namespaces": [{"type": kind} for kind in ("pid", "ipc", "uts", "mount")],
                "seccomp": _seccomp(kept),
                "maskedPaths": ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"],
                "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
            },
        }

    def _expanded(self, word: str) -> str:
        for name, value in self._values.items():
            word = word.replace(f"$({name})", value)
        assert "$(" not in word, f"no value for {word}"
        return word

    def _mounts(self) -> list[Body]:
        volumes = {volume["name"]: volume for volume in self._spec.get("volumes", [])}
        made = []
        for mount in self._container.get("volumeMounts", []):
            volume = volumes[mount["name"]]
            source = self._places.get(mount["name"]) or volume["hostPath"]["path"]
            how = "rro" if mount.get("recursiveReadOnly") else "ro" if mount.get("readOnly") else "rw"
            made.append(_bind(str(source), mount["mountPath"], how))
        if self._account:
            made.append(_bind(str(self._account), _ACCOUNT, "ro"))
        return made


def _bind(source: str, destination: str, how: str) -> Body:
    return {"destination": destination, "type": "bind", "source": source, "options": ["rbind", "rprivate", how]}


def _own_mounts() -> list[Body]:
    return [
        {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755", "size=64k"]},
        {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": ["nosuid", "noexec", "nodev"]},
        _bind("/sys", "/sys", "rro"),
    ]


def _seccomp(capabilities: Sequence[str]) -> Body:
    """The runtime's default profile for these capabilities and this machine."""
    profile = json.loads(_SECCOMP.read_text())
    architecture = _ARCHITECTURES[platform.machine()]
    syscalls = []
    for rule in profile["syscalls"]:
        includes, excludes = rule.get("includes") or {}, rule.get("excludes") or {}
        if not set(includes.get("caps", [])) <= set(capabilities) or set(excludes.get("caps", [])) & set(capabilities):
            continue
        if architecture not in includes.get("arches", [architecture]) or architecture in excludes.get("arches", []):
            continue
        names = {key: rule[key] for key in ("names", "action", "errnoRet") if rule.get(key) is not None}
        syscalls.append({**names, "args": rule.get("args") or []})
    default = {key: profile[key] for key in ("defaultAction", "defaultErrnoRet") if key in profile}
    return {**default, "syscalls": syscalls}
