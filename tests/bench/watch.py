"""Watches objects of ours through the API server and notes when each event arrives: no polling, no kubectl."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from tests.cluster.controlplane import ControlPlane

Test = Callable[[str, dict[str, Any]], bool]


class Watch:
    """All events of one kind since it was opened, with the time (time.monotonic) of their arrival."""

    def __init__(self, plane: ControlPlane, plural: str) -> None:
        user = json.loads(plane.admin_kubeconfig.read_text())["users"][0]["user"]
        tls = ssl.create_default_context(cafile=str(plane.ca_file))
        self._connection = http.client.HTTPSConnection("127.0.0.1", plane.port, timeout=600, context=tls)
        path = f"/apis/hostdev.dev/v1alpha1/{plural}?watch=1"
        self._connection.request("GET", path, headers={"Authorization": f"Bearer {user['token']}"})
        self._socket = self._connection.sock
        self._response = self._connection.getresponse()
        if self._response.status != http.HTTPStatus.OK:
            raise SystemExit(f"bench: watching {plural}: {self._response.status}")
        self._events: list[tuple[float, str, dict[str, Any]]] = []
        self._news = threading.Condition()
        threading.Thread(target=self._read, name=f"watch {plural}", daemon=True).start()

    def _read(self) -> None:
        try:
            for line in self._response:
                at = time.monotonic()
                event = json.loads(line)
                with self._news:
                    self._events.append((at, event["type"], event["object"]))
                    self._news.notify_all()
        except (OSError, ValueError, AttributeError):
            return  # closed; whoever waits runs into the deadline and says for what

    def wait(self, what: str, since: float, test: Test, seconds: float = 120) -> float:
        """When the first event after ``since`` arrived that passes the test."""
        deadline = time.monotonic() + seconds
        looked = 0
        with self._news:
            while True:
                for at, kind, body in self._events[looked:]:
                    if at >= since and test(kind, body):
                        return at
                looked = len(self._events)
                if not self._news.wait(deadline - time.monotonic()) and time.monotonic() >= deadline:
                    raise SystemExit(f"bench: not within {seconds:.0f} s: {what}")

    def __enter__(self) -> Self:
        """The open watch."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """End the connection under its reader, who would hold up an orderly close for ever."""
        self._socket.shutdown(socket.SHUT_RDWR)
