#!/usr/bin/env python3
"""runc, but for capabilities that this process cannot have anyway.

A privileged container asks for every one that the kernel knows. Where the bounding set lacks one, as in many virtual
machines and CI jobs, runc refuses to start it.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

_SETS = ("bounding", "effective", "inheritable", "permitted", "ambient")
#: By number: linux/capability.h.
_ALL = (
    "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE "
    "NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN "
    "SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE "
    "MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE"
)


def _had() -> frozenset[str]:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    bits = next(int(line.split()[1], 16) for line in lines if line.startswith("CapBnd:"))
    return frozenset(f"CAP_{name}" for number, name in enumerate(_ALL.split()) if bits >> number & 1)


def _fit(path: Path, *, whole: bool) -> None:
    """A configuration as a bundle has it, or that of a process alone."""
    body = json.loads(path.read_text(encoding="utf-8"))
    asked = ((body.get("process") if whole else body) or {}).get("capabilities") or {}
    had = _had()
    for kind in _SETS:
        if kind in asked:
            asked[kind] = [name for name in asked[kind] if name in had]
    path.write_text(json.dumps(body), encoding="utf-8")


def _option(words: list[str], name: str) -> str | None:
    for index, word in enumerate(words):
        if word == name:
            return words[index + 1]
        if word.startswith(f"{name}="):
            return word.partition("=")[2]
    return None


def _main() -> None:
    words = sys.argv[1:]
    if bundle := _option(words, "--bundle"):
        _fit(Path(bundle) / "config.json", whole=True)
    elif process := _option(words, "--process"):
        _fit(Path(process), whole=False)
    os.execvp("runc", ["runc", *words])  # noqa: S606 - the same words, for runc itself


if __name__ == "__main__":
    _main()
