"""One exception for everything that can go wrong on a host; its reason says when trying again makes sense."""

from __future__ import annotations

from .reasons import Reason


class HostError(Exception):
    """Something on the host did not go as asked. ``reason`` is a row of the catalogue, the text says the rest."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
