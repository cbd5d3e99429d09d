"""Definitions of made-up guests: what libvirt does to their PCI controllers and save images."""

from __future__ import annotations

from ..core import domain_xml, reasons
from ..core.actions import AddController, DropSavedImage, RemoveController
from ..core.errors import HostError
from .host import FakeHost, insert, without_controller


class FakeDefinitions:
    """The part of the fake libvirt that is about them; every call fails while the host's ``down`` is set."""

    def __init__(self, host: FakeHost) -> None:
        self._host = host

    def _reach(self, call: str) -> None:
        self._host.hook(call)
        if self._host.down:
            raise HostError(reasons.LIBVIRT_UNAVAILABLE, "Failed to connect socket to libvirt-sock")
        self._host.trip(call, after=False)

    def add_controller(self, action: AddController) -> None:
        self._reach("add")
        guest = self._host.guests.get(action.domain_uuid)
        if guest is None or guest.config is None:
            raise HostError(reasons.GUEST_NOT_FOUND, f"no domain {action.domain_uuid}")
        index = action.controller.index
        if domain_xml.find_controller(guest.config, index, action.alias) is not None:
            return
        if domain_xml.find_controller(guest.config, index) is not None:
            raise HostError(reasons.HOST_CHANGED, f"controller index='{index}' already exists")
        with self._host.change(f"add_controller {action.controller}"):
            guest.config = insert(guest.config, domain_xml.parse(domain_xml.controller_xml(action)))

    def remove_controller(self, action: RemoveController) -> None:
        self._reach("remove")
        guest = self._host.guests.get(action.domain_uuid)
        index = action.controller.index
        if guest is None or guest.config is None:
            return
        if domain_xml.find_controller(guest.config, index, action.alias) is not None:
            with self._host.change(f"remove_controller {action.controller}"):
                guest.config = without_controller(guest.config, index)

    def drop_saved_image(self, action: DropSavedImage) -> None:
        self._reach("drop_saved_image")
        guest = self._host.guests.get(action.domain_uuid)
        if guest is not None and guest.saved is not None:
            with self._host.change(f"drop_saved_image {guest.name}"):
                guest.saved = None
