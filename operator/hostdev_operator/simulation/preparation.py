"""HostPreparation of ports.py on a FakeHost."""

from __future__ import annotations

from ..core.preparation import BootFacts
from .host import FakeHost


class FakePreparation:
    """The kernel's word and the host's unit: ``host.unit`` is what it does with a request, None where there is none."""

    def __init__(self, host: FakeHost) -> None:
        self._host = host

    def facts(self) -> BootFacts:
        return self._host.boot_facts

    def request(self) -> str | None:
        return self._host.request

    def ask(self, text: str) -> None:
        self._host.request = text

    def answer(self) -> str | None:
        return self._host.unit(self._host.request) if self._host.unit else None
