"""StartGate of ports.py on a FakeHost."""

from __future__ import annotations

from collections.abc import Collection

from .host import FakeHost


class FakeGate:
    """What the hook reads; calls are 'gate_close UID' and 'gate_open UID'."""

    def __init__(self, host: FakeHost) -> None:
        self._host = host

    def installed(self) -> bool:
        return self._host.start_hook

    def close(self, uid: str, domain_uuid: str, owner: str, why: str) -> None:
        if self._host.closed.get(uid) != (domain_uuid, f"{owner}: {why}"):
            with self._host.change(f"gate_close {uid}"):
                self._host.closed[uid] = (domain_uuid, f"{owner}: {why}")

    def open(self, uid: str) -> None:
        if uid in self._host.closed:
            with self._host.change(f"gate_open {uid}"):
                del self._host.closed[uid]

    def keep(self, uids: Collection[str]) -> None:
        for uid in set(self._host.closed) - set(uids):
            self.open(uid)
