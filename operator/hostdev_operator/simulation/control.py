"""Changes a simulated host from outside, as an administrator or a loose plug would: words through a Unix socket.

A request is a line of words, and for ``define`` a domain's XML behind it; the answer is ``ok``, ``error: ...``, or what
was asked for. The socket's mode is 0600.
"""

from __future__ import annotations

import json
import os
import socket
import socketserver
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from lxml import etree

from ..core import domain_xml
from ..core.errors import HostError
from ..core.model import PciDevice
from ..core.pci import PciAddress
from .host import FakeGuest, FakeHost

_MANNERS = {"answers": "answers", "silent": "is silent", "refuses": "refuses"}
USAGE = """show                            devices with drivers, guests and networks, as JSON
start GUEST | stop GUEST        virsh start, virsh destroy
define FILE | undefine GUEST    virsh define (FILE has the domain's XML), virsh undefine
manner GUEST MANNER             what the guest does with unplug requests: answers, silent, refuses
remove ADDRESS | insert ADDRESS a device is taken out of its slot, and put in again
reboot                          power off and on; the host's boot unit makes VFs first"""


class Commands:
    """What can be asked for. ``changed`` is called after each change, as libvirt and the kernel tell of theirs."""

    def __init__(self, host: FakeHost, changed: Callable[[], None]) -> None:
        self._host = host
        self._changed = changed
        self._removed: dict[PciAddress, PciDevice] = {}
        self._known: dict[str, Callable[..., None]] = {
            "start": lambda name: host.start(self._guest(name).uuid),
            "stop": lambda name: host.stop(self._guest(name).uuid),
            "undefine": lambda name: host.undefine(self._guest(name).uuid),
            "manner": self._manner,
            "remove": self._remove,
            "insert": self._insert,
            "reboot": host.reboot,
        }

    def answer(self, request: str) -> str:
        """Do what a request says."""
        line, _, body = request.partition("\n")
        command, *words = line.split() or [""]
        try:
            with self._host.lock:
                if command == "show":
                    return self._show()
                if command == "define":
                    self._define(body)
                else:
                    self._known[command](*words)
        except HostError as error:
            return f"error: {error.message}"
        except (KeyError, TypeError):
            return f"error: {line!r} is none of:\n{USAGE}"
        except (ValueError, SyntaxError) as error:
            return f"error: {error}"
        self._changed()
        return "ok"

    def _guest(self, name: str) -> FakeGuest:
        found = next((g for g in self._host.guests.values() if name in (g.name, g.uuid)), None)
        if found is None:
            raise ValueError(f"there is no guest {name}")
        return found

    def _define(self, xml: str) -> None:
        tree = domain_xml.parse(xml)
        uuid, name = tree.findtext("uuid"), tree.findtext("name")
        if not uuid or not name or tree.find("devices") is None:
            raise ValueError("a domain needs <name>, <uuid> and <devices>")
        self._host.guests.setdefault(uuid, FakeGuest(uuid, name, None)).config = etree.tostring(
            tree, encoding="unicode"
        )

    def _manner(self, name: str, manner: str) -> None:
        self._guest(name).manner = _MANNERS[manner]

    def _remove(self, text: str) -> None:
        address = PciAddress.parse(text)
        if address not in self._host.devices:
            raise ValueError(f"there is no device {address}")
        if address in self._host.sriov.pfs:
            self._host.sriov.set_count(address, 0)  # its VFs go with it
        self._removed[address] = self._host.remove(address)

    def _insert(self, text: str) -> None:
        address = PciAddress.parse(text)
        device = self._removed.pop(address, None)
        if device is None:
            raise ValueError(f"{address} was not removed")
        self._host.put_back(device)

    def _show(self) -> str:
        host = self._host
        return json.dumps(
            {
                "devices": {str(d.address): {"driver": d.driver} for _, d in sorted(host.devices.items())},
                "guests": {
                    guest.name: {
                        "running": guest.live is not None,
                        "config": [str(h.address) for h in guest.hostdevs()],
                        "live": [str(h.address) for h in guest.hostdevs(live=True)],
                    }
                    for guest in host.guests.values()
                },
                "networks": {n.name: {"active": n.live is not None} for n in host.networks.by_name.values()},
            },
            indent=1,
        )


class Control:
    """Listens, in a thread of its own, for as long as the context lasts."""

    def __init__(self, commands: Commands, path: Path) -> None:
        self._commands = commands
        self._path = path

    def __enter__(self) -> None:
        """Open the socket; one that an earlier process has left is replaced."""
        commands = self._commands

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                self.wfile.write(commands.answer(self.rfile.read().decode()).encode())

        with suppress(FileNotFoundError):
            self._path.unlink()
        before = os.umask(0o177)
        try:
            self._server = socketserver.UnixStreamServer(str(self._path), Handler)
        finally:
            os.umask(before)
        threading.Thread(target=self._server.serve_forever, name="simulation control", daemon=True).start()

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._path.unlink(missing_ok=True)


def ask(path: Path, words: list[str]) -> str:
    """The other side: send a request, return the answer. ``define`` reads the file that it names. OSError."""
    body = Path(words[1]).read_text() if words[:1] == ["define"] and len(words) > 1 else ""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(path))
        connection.sendall(f"{' '.join(words)}\n{body}".encode())
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while part := connection.recv(1 << 16):
            answer += part
    return answer.decode()
